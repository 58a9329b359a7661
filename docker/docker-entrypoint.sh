#!/bin/bash
# As Debezium's image: start, watch-topic, create-topic, list-topics; anything else is run.
set -o errexit -o nounset
server=${KAFKA_BROKER:-localhost:9092}
command=${1:-start}
[ $# -eq 0 ] || shift
case $command in
  start)
    [ -n "${ZOOKEEPER_CONNECT-}${KAFKA_ZOOKEEPER_CONNECT-}${CLUSTER_ID-}" ] || export ZOOKEEPER_CONNECT=0.0.0.0:2181
    id=${NODE_ID-${BROKER_ID-${KAFKA_BROKER_ID-1}}}
    export KAFKA_BROKER_ID=$id
    exec /usr/lib/ottla/start "/kafka/data/$id" /kafka/config/server.properties
    ;;
  watch-topic)
    # -a: all messages; -k: keys; -m: at least MIN messages.
    options=()
    while getopts :akm: option; do
      case $option in
        a) options+=(--from-beginning) ;;
        k) options+=(--property print.key=true) ;;
        m) options+=(--max-messages "$OPTARG") ;;
        *) ;;
      esac
    done
    shift $((OPTIND - 1))
    [ $# -gt 0 ] || { echo "watch-topic [-a] [-k] [-m MIN] TOPIC" >&2; exit 1; }
    exec kafka-console-consumer --bootstrap-server "$server" --topic "$1" "${options[@]}"
    ;;
  create-topic)
    partitions=1 replicas=1 policy=delete
    while getopts :p:r:c: option; do
      case $option in
        p) partitions=$OPTARG ;;
        r) replicas=$OPTARG ;;
        c) policy=$OPTARG ;;
        *) ;;
      esac
    done
    shift $((OPTIND - 1))
    [ $# -gt 0 ] || { echo "create-topic [-p PARTITIONS] [-r REPLICAS] [-c POLICY] TOPIC" >&2; exit 1; }
    exec kafka-topics --create --bootstrap-server "$server" --topic "$1" --partitions "$partitions" \
      --replication-factor "$replicas" --config "cleanup.policy=$policy"
    ;;
  list-topics)
    exec kafka-topics --list --bootstrap-server "$server"
    ;;
  *)
    exec "$command" "$@"
    ;;
esac
