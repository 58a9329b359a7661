# syntax=docker/dockerfile:1
# A small image: one static binary, the folders and scripts of the common Kafka images (docker/), and
# the shell tools that compose files and health checks use.
#
# The binary is linked statically against glibc, so that it runs on any base and still has glibc's
# memory functions and name resolution. `--target` keeps the flag away from build scripts.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" \
 && strip -o /ottla "target/$target/release/ottla"

FROM alpine:3.22
RUN apk add --no-cache bash curl netcat-openbsd sed setpriv tini tzdata \
 && addgroup -g 1000 appuser && adduser -D -u 1000 -G root appuser
COPY --from=build /ottla /usr/bin/ottla
COPY docker /
COPY config/server.properties /opt/kafka/config/server.properties
# Kafka's tools under the names and in the folders that the common images have them. What the
# scripts, or those who replace them, write is open to the users of those images: 1000, 1001, root.
RUN install-tool-links \
 && chown -R 1000:0 /etc/confluent /etc/kafka /var/lib/kafka /opt/kafka /kafka \
 && chown -R 1001:0 /opt/bitnami /bitnami \
 && chmod -R g+w,o+w /etc/confluent /etc/kafka /opt/bitnami/kafka/config
# The start scripts run the broker as the owner of its data folder; `user:` may name another.
WORKDIR /opt/kafka
EXPOSE 9092
VOLUME /var/lib/kafka/data
ENTRYPOINT ["/sbin/tini", "--"]
CMD ["/etc/confluent/docker/run"]
