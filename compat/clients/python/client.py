"""confluent-kafka (librdkafka): the three roles of ../README.md."""

import sys

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic


def produce(bootstrap, topic, count, codec, idempotent, prefix):
    failed = []

    def delivered(error, message):
        if error is None:
            print("acked", message.value().decode(), flush=True)
        else:
            failed.append(error)

    producer = Producer({
        "bootstrap.servers": bootstrap, "compression.type": codec, "acks": "all", "linger.ms": 5,
        "enable.idempotence": idempotent == "1", "message.timeout.ms": 120000})
    for n in range(int(count)):
        while True:
            try:
                producer.produce(topic, key=str(n), value=f"{prefix}-{n}", on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(120)
    sys.exit(f"not delivered: {failed[:3]}" if failed else 0)


def consumer(bootstrap, topic, group):
    result = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000})
    result.subscribe([topic], on_assign=lambda _, partitions: print(
        "assigned", ",".join(str(p.partition) for p in partitions), flush=True))
    return result


def show(message):
    print(message.partition(), message.offset(), message.value().decode(), flush=True)


def consume(bootstrap, topic, group, count):
    reader = consumer(bootstrap, topic, group)
    seen = 0
    while seen < int(count):
        message = reader.poll(1)
        if message is None or message.error():
            continue
        show(message)
        seen += 1
    reader.commit(asynchronous=False)
    reader.close()


def member(bootstrap, topic, group):
    reader = consumer(bootstrap, topic, group)
    while True:
        message = reader.poll(1)
        if message is None or message.error():
            continue
        show(message)
        reader.commit(message, asynchronous=False)


def create(bootstrap, topic, partitions):
    """Not a role of the table: makes topics for all clients."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, int(partitions), 1)]).values():
        future.result(30)


{"create": create, "produce": produce, "consume": consume, "member": member}[sys.argv[1]](*sys.argv[2:])
