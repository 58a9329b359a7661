"""Load and observers on librdkafka, each a process of its own that writes what it saw as lines.

`load.py produce BOOTSTRAP TOPIC PARTITIONS NAME RATE IDEMPOTENT OUT`
    sends NAME-0, NAME-1, … to partition n % PARTITIONS, RATE records a second, acks=all, until
    SIGTERM; then waits for every answer. Lines: `A n partition offset time` (acknowledged; offset None: the
    broker said that it has the record already),
    `F n partition error time` (failed), `E sent` (the end; without it the run was cut off).
`load.py group BOOTSTRAP TOPIC GROUP OUT`
    a member of a consumer group until SIGTERM, which commits what it read. Lines:
    `P partition committed time` (assigned; -1001 is no offset; when it asked), `R partition offset value`,
    `C partition offset begun ended` (commit acknowledged), `V partition time` (revoked or lost).
`load.py watch BOOTSTRAP TOPIC PARTITIONS OUT`
    asks for the first and last offset of every partition again and again: `W partition low high time`.
`load.py read BOOTSTRAP TOPIC PARTITIONS OUT`
    reads every partition once, from its first offset to its end: `R partition offset value`.

Times are of the monotonic clock, which all processes of a machine share.
"""

import signal
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

# A broker that comes back is found at once and not after seconds of back-off.
COMMON = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500, "topic.metadata.refresh.fast.interval.ms": 100,
          "topic.metadata.refresh.interval.ms": 5000, "socket.timeout.ms": 10000, "retry.backoff.ms": 100,
          "log_level": 3}
ended = False


def end(*_):
    global ended
    ended = True


signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, signal.SIG_IGN)


class Out:
    """Lines to a file, which others may read while it grows."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8", buffering=1 << 16)
        self.flushed = time.monotonic()

    def line(self, *words):
        self.file.write(" ".join(map(str, words)) + "\n")
        self.breathe()

    def breathe(self):
        if time.monotonic() - self.flushed > 0.1:
            self.file.flush()
            self.flushed = time.monotonic()

    def close(self):
        self.file.close()


def now():
    return f"{time.monotonic():.4f}"


def produce(bootstrap, topic, partitions, name, rate, idempotent, path):
    partitions, rate, out = int(partitions), float(rate), Out(path)
    # The client must outlast every fault: what it gives up on is neither acknowledged nor refused.
    settings = {**COMMON, "bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 5, "client.id": name,
                "enable.idempotence": idempotent == "1", "message.timeout.ms": 600000, "request.timeout.ms": 10000,
                "retry.backoff.max.ms": 200, "message.send.max.retries": 2147483647}
    fatal = []
    producer = Producer({**settings, "error_cb": lambda error: fatal.append(error) if error.fatal() else None})

    def delivered(n):
        def report(error, message):
            if error is None:
                out.line("A", n, message.partition(), message.offset(), now())
            else:
                out.line("F", n, message.partition(), error.name(), now())
        return report

    begun, n = time.monotonic(), 0
    while not ended and not fatal:
        behind = int((time.monotonic() - begun) * rate) - n
        for _ in range(min(behind, 1000)):
            try:
                producer.produce(topic, value=f"{name}-{n}", partition=n % partitions, on_delivery=delivered(n))
            except BufferError:
                break
            n += 1
        producer.poll(0.005)
        out.breathe()
    left = producer.flush(180)
    out.line("E", n)
    out.close()
    sys.exit(f"fatal: {fatal[0]}" if fatal else f"{left} records without an answer" if left else 0)


def group(bootstrap, topic, name, path):
    out = Out(path)
    position, dirty = {}, set()
    consumer = Consumer({**COMMON, "bootstrap.servers": bootstrap, "group.id": name, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
                         "enable.auto.offset.store": False})

    def commit():
        if not dirty:
            return
        offsets = [TopicPartition(topic, p, position[p]) for p in dirty]
        begun = now()
        try:
            for done in consumer.commit(offsets=offsets, asynchronous=False):
                if done.error is None:
                    out.line("C", done.partition, done.offset, begun, now())
                    dirty.discard(done.partition)
        except KafkaException:
            pass  # not acknowledged; the next round tries again

    def assigned(_, given):
        # What the group has committed is where it starts, asked for until there is an answer.
        while not ended:
            begun = now()
            try:
                committed = consumer.committed(given, timeout=10)
            except KafkaException:
                continue
            if all(p.error is None for p in committed):
                break
        else:
            return
        for p in committed:
            out.line("P", p.partition, p.offset, begun)
            position.pop(p.partition, None)
            if p.offset < 0:
                p.offset = OFFSET_BEGINNING
        consumer.assign(committed)

    def taken(_, lost):
        for p in lost:
            out.line("V", p.partition, now())
            dirty.discard(p.partition)

    def revoked(_, lost):
        commit()
        taken(_, lost)

    consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=taken)
    committed_at = time.monotonic()
    while not ended:
        for message in consumer.consume(500, 0.1):
            if message.error() is None:
                out.line("R", message.partition(), message.offset(), message.value().decode())
                position[message.partition()] = message.offset() + 1
                dirty.add(message.partition())
        if time.monotonic() - committed_at > 0.5:
            commit()
            committed_at = time.monotonic()
        out.breathe()
    commit()
    consumer.close()
    out.close()


def watch(bootstrap, topic, partitions, path):
    out = Out(path)
    consumer = Consumer({**COMMON, "bootstrap.servers": bootstrap, "group.id": "nobody"})
    while not ended:
        for p in range(int(partitions)):
            try:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=2)
                out.line("W", p, low, high, now())
            except KafkaException:
                pass  # no leader now
        out.breathe()
        time.sleep(0.05)
    out.close()


def read(bootstrap, topic, partitions, path):
    out, left = Out(path), set(range(int(partitions)))
    consumer = Consumer({**COMMON, "bootstrap.servers": bootstrap, "group.id": "nobody", "enable.partition.eof": True,
                         "enable.auto.commit": False, "check.crcs": True})
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in left])
    deadline = time.monotonic() + 120
    while left and time.monotonic() < deadline:
        for message in consumer.consume(5000, 0.2):
            error = message.error()
            if error is None:
                out.line("R", message.partition(), message.offset(), message.value().decode())
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
    consumer.close()
    out.close()
    sys.exit(f"partitions {sorted(left)} do not end" if left else 0)


if __name__ == "__main__":
    {"produce": produce, "group": group, "watch": watch, "read": read}[sys.argv[1]](*sys.argv[2:])
