#!/usr/bin/env python3
"""A data dir changes hands: Apache Kafka 3.9 → Ottla → Apache Kafka 3.9, on the same ZooKeeper.

Kafka writes topics in every codec, an idempotent producer's records and a group's offsets, and is
stopped (cleanly, and once by kill -9). Ottla starts on what it left: same offsets, same records,
the group resumes, more is written. Then Kafka starts on what Ottla left (again both ways) and
must find all of it. Kafka's own kafka-dump-log reads every file in between.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite, equal  # noqa: E402
from harness import TOOLS, Kafka, Ottla, ZooKeeper, have_kafka, kafka_tool, wait_for  # noqa: E402

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def kcat(*arguments, stdin=None, seconds=60):
    done = subprocess.run(["kcat", *arguments], input=stdin, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"kcat {arguments}: exit {done.returncode}: {done.stderr}"
    return done.stdout


def produce(broker, topic, lines, codec="none", idempotent=False):
    extra = ["-X", "enable.idempotence=true"] if idempotent else []
    kcat("-b", broker.bootstrap, "-P", "-t", topic, "-z", codec, "-X", "acks=all", *extra,
         stdin="".join(f"{line}\n" for line in lines))


def read(broker, topic):
    """(offset, value) of every record."""
    out = kcat("-b", broker.bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%o %s\\n")
    return out.splitlines()


def group_read(broker, group, topic, count):
    out = kafka_tool(TOOLS["kafka-console-consumer"], "--bootstrap-server", broker.bootstrap, "--topic", topic,
                     "--group", group, "--from-beginning", "--max-messages", str(count), "--timeout-ms", "30000",
                     check=True)
    return out.stdout.split()


def committed(broker, group, topic):
    out = kafka_tool(TOOLS["kafka-consumer-groups"], "--bootstrap-server", broker.bootstrap, "--describe",
                     "--group", group).stdout
    for line in out.splitlines():
        cells = line.split()
        if len(cells) > 3 and cells[1] == topic:
            return int(cells[3])
    raise AssertionError(f"group {group} has no offset for {topic}: {out}")


def dump_everything(data):
    """kafka-dump-log over every log, index, time index and snapshot; no mismatch allowed."""
    files = [path for path in sorted(data.glob("*-*/*"))
             if path.suffix in (".log", ".index", ".timeindex", ".snapshot", ".txnindex")]
    assert files, f"nothing below {data}"
    done = kafka_tool(TOOLS["kafka-dump-log"], "--deep-iteration", "--files", ",".join(map(str, files)), seconds=300)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-2000:]
    for bad in ("Mismatches in", "isvalid: false", "Found timestamp mismatch", "Found out of order",
                "not found in log", "Exception", "corrupt"):
        at = text.find(bad)
        assert at < 0, f"kafka-dump-log says {bad!r}: ...{text[max(0, at - 300):at + 600]}"
    return len(files)


def stop(broker, how):
    if how == "clean":
        broker.terminate()
    else:
        broker.kill()
        # Kafka does not start while its old session lives.
        broker.zookeeper.wait_for_session_end("/brokers/ids/0")


def change_hands(how):
    with ZooKeeper() as zookeeper, tempfile.TemporaryDirectory(prefix="ottla-takeover-") as folder:
        folder = pathlib.Path(folder)
        shared = {"log.dirs": folder / "data", "log.segment.bytes": 20000, "group.initial.rebalance.delay.ms": 0}
        expected = {}

        def write(broker, round_number):
            for codec in CODECS:
                produce(broker, f"t-{codec}", [f"{round_number}-{codec}-{n}" for n in range(200)], codec)
            produce(broker, "idempotent", [f"{round_number}-i-{n}" for n in range(500)], idempotent=True)
            for topic in [f"t-{codec}" for codec in CODECS] + ["idempotent"]:
                now = read(broker, topic)
                equal(now[:len(expected.get(topic, []))], expected.get(topic, []), f"{topic} before round {round_number}")
                expected[topic] = now

        def check(broker):
            for topic, lines in expected.items():
                equal(read(broker, topic), lines, f"records of {topic}")

        def start(kind, name):
            broker = kind(folder=folder / name, zookeeper=zookeeper, settings=shared)
            broker.data = folder / "data"
            broker.start()
            # Kafka opens its port before the controller has told it what it leads.
            def told():
                listing = kcat("-b", broker.bootstrap, "-L")
                return "broker 0 at" in listing and all(
                    f'topic "{topic}" with 1 partitions:\n    partition 0, leader 0' in listing for topic in expected)

            wait_for("metadata of all topics", told)
            return broker

        def checksums():
            return {str(path): hashlib.sha256(path.read_bytes()).hexdigest()
                    for path in sorted((folder / "data").glob("*-*/*.log"))}

        broker = start(Kafka, "kafka-1")
        try:
            write(broker, 1)
            equal(len(group_read(broker, "g", "idempotent", 200)), 200, "records read by the group")
            first_commit = committed(broker, "g", "idempotent")
            stop(broker, how)
            before = checksums()
            broker = start(Ottla, "ottla-1")
            equal({k: v for k, v in checksums().items() if k in before}, before, "segment files that Ottla was handed")
            check(broker)
            equal(committed(broker, "g", "idempotent"), first_commit, "the group's offset after Ottla took over")
            more = group_read(broker, "g", "idempotent", 100)
            equal(more[0], f"1-i-{first_commit}", "where the group resumes on Ottla")
            second_commit = committed(broker, "g", "idempotent")
            write(broker, 2)
            stop(broker, how)
            if how == "clean":
                dump_everything(folder / "data")
            broker = start(Kafka, "kafka-2")
            check(broker)
            equal(committed(broker, "g", "idempotent"), second_commit, "the group's offset after Kafka came back")
            more = group_read(broker, "g", "idempotent", 100)
            equal(more[0], f"1-i-{second_commit}", "where the group resumes on Kafka")
            write(broker, 3)
            stop(broker, "clean")
            dump_everything(folder / "data")
        finally:
            broker.kill()


def main():
    suite = Suite("takeover")
    if not have_kafka():
        def missing():
            raise NotRun("Apache Kafka 3.9's jars are not here (mvn, Maven Central)")
        suite.case("all", missing)
        suite.finish()
    suite.case("stopped cleanly each time", change_hands, "clean")
    suite.case("stopped by kill -9 each time", change_hands, "kill")
    suite.finish()


if __name__ == "__main__":
    main()
