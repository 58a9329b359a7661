#!/usr/bin/env bash
# Fetches by package name what the compatibility tests drive: Apache Kafka 3.9 and the clients.
# Everything goes below target/compat; nothing is fetched twice. A part that cannot be had is
# reported here and by the tests as not run.
set -uo pipefail
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$(cd .. && pwd)/target}
out=$target/compat
mkdir -p "$out/bin"

part() { # NAME COMMAND…: runs the command, tells when it fails, goes on
  local name=$1
  shift
  if ! "$@" >"$out/install-$name.log" 2>&1; then
    echo "compat: $name could not be installed; its tests will say NOT RUN (log: $out/install-$name.log)"
    tail -n 5 "$out/install-$name.log"
  fi
}

kafka() {
  ls "$out"/kafka-libs/kafka_2.13-*.jar 2>/dev/null || mvn -q -B -f kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$out/kafka-libs"
}
java_client() {
  ls "$out"/java-4.1/kafka-clients-*.jar 2>/dev/null || mvn -q -B -f clients/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$out/java-4.1"
}
python_client() {
  [ -x "$out/python/bin/python" ] || python3 -m venv "$out/python"
  "$out/python/bin/python" -c 'import confluent_kafka' 2>/dev/null || "$out/python/bin/pip" install -q confluent-kafka==2.12.1
}
go_client() { (cd "clients/$1" && go build -o "$out/bin/$1" .); }
kafkajs() {
  [ -d "$out/kafkajs/node_modules/kafkajs-snappy" ] && return
  mkdir -p "$out/kafkajs" && cp clients/kafkajs/package*.json "$out/kafkajs/" && (cd "$out/kafkajs" && npm install --no-audit --no-fund --silent)
}

part kafka kafka
part java-client java_client
part python python_client
part franz-go go_client franz-go
part sarama go_client sarama
part kafkajs kafkajs
