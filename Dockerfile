# syntax=docker/dockerfile:1
# A small image: one static binary, and the shell tools that compose files and health checks use.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev gcc make
WORKDIR /src
COPY . .
RUN cargo build --release --locked && cp target/release/ottla /ottla

FROM alpine:3.22
RUN apk add --no-cache bash curl netcat-openbsd sed tini \
 && addgroup -g 1000 appuser && adduser -D -u 1000 -G root appuser
COPY --from=build /ottla /usr/bin/ottla
COPY docker /
# Kafka's tools under the names and in the folders that the common images have them.
RUN install-tool-links && chown -R 1000:0 /etc/confluent /etc/kafka /var/lib/kafka /opt/kafka \
 && chmod -R g+w /etc/confluent /etc/kafka /var/lib/kafka
ENV KAFKA_LOG_DIRS=/var/lib/kafka/data
USER 1000
EXPOSE 9092
VOLUME /var/lib/kafka/data
ENTRYPOINT ["/sbin/tini", "--"]
CMD ["/etc/confluent/docker/run"]
