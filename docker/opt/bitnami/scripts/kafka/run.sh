#!/bin/bash
# As bitnami's image: a mounted server.properties, which switches KAFKA_CFG_* off, or the environment.
set -o errexit -o nounset
config=/opt/bitnami/kafka/config/server.properties
if [ -s /bitnami/kafka/config/server.properties ]; then
  # The broker knows bitnami's rule by bitnami's path.
  cp /bitnami/kafka/config/server.properties "$config"
fi
exec /usr/lib/ottla/start /bitnami/kafka/data "$config" "$@"
