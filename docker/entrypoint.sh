#!/bin/bash
exec /opt/bitnami/scripts/kafka/entrypoint.sh "$@"
