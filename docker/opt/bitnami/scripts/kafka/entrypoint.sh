#!/bin/bash
# As bitnami's image: runs the command it is given; the settings are read by the broker itself.
exec "$@"
