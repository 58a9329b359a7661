#!/usr/bin/env python3
"""The same actions on Apache Kafka 3.9 and on Ottla, each on a ZooKeeper of its own, must leave the
same znodes: paths, kinds, data and versions, but for times and random ids. The difference is printed.
"""

import difflib
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite  # noqa: E402
from harness import JAVA, KAFKA_LIBS, TOOLS, Kafka, Ottla, ZooKeeper, have_kafka, kafka_tool, wait_for  # noqa: E402

DUMP = pathlib.Path(__file__).resolve().parent / "Dump.java"

# Paths that differ for a reason.
ACCEPTED = {
    "/latest_producer_id_block": "which block is allocated when depends on prefetching; Kafka creates it at start with "
                                 "null data, which our client crate cannot write, so Ottla creates it with its first block",
}


def dump(zookeeper):
    """{path: (ephemeral, version, data)} of the whole tree."""
    done = subprocess.run([JAVA, "-cp", f"{KAFKA_LIBS}/*", str(DUMP), zookeeper.connect],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    tree = {}
    for line in done.stdout.splitlines():
        path, ephemeral, version, data = line.split("\t", 3)
        tree[path] = (ephemeral, version, data)
    return tree


def normalise(tree, broker):
    lines = []
    for path, (ephemeral, version, data) in sorted(tree.items()):
        if path.startswith("/zookeeper") or path in ACCEPTED:
            continue
        data = data.replace(str(broker.port), "PORT")
        data = re.sub(r'"timestamp":"\d+"', '"timestamp":"T"', data)
        data = re.sub(r'("(?:topic_id|id)":)"[\w-]{22}"', r'\1"ID"', data)
        lines.append(f"{path} ephemeral={ephemeral} version={version} {data}")
    return lines


def act(broker):
    def tool(name, *arguments):
        kafka_tool(TOOLS[name], "--bootstrap-server", broker.bootstrap, *arguments, check=True)

    tool("kafka-topics", "--create", "--topic", "a", "--partitions", "3", "--replication-factor", "1")
    tool("kafka-topics", "--create", "--topic", "b", "--config", "retention.ms=1000")
    tool("kafka-topics", "--create", "--topic", "gone")
    tool("kafka-topics", "--alter", "--topic", "a", "--partitions", "5")
    tool("kafka-configs", "--alter", "--entity-type", "topics", "--entity-name", "a", "--add-config", "max.message.bytes=5000")
    tool("kafka-configs", "--alter", "--entity-type", "topics", "--entity-name", "b", "--delete-config", "retention.ms")
    tool("kafka-configs", "--alter", "--entity-type", "brokers", "--entity-name", "0", "--add-config", "log.retention.ms=100000")
    tool("kafka-configs", "--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "message.max.bytes=1500000")
    tool("kafka-topics", "--delete", "--topic", "gone")
    subprocess.run(["kcat", "-b", broker.bootstrap, "-P", "-t", "auto"], input="x\n", text=True, check=True, timeout=30)
    kafka_tool(TOOLS["kafka-console-consumer"], "--bootstrap-server", broker.bootstrap, "--topic", "auto",
               "--from-beginning", "--max-messages", "1", "--group", "g", "--timeout-ms", "30000", check=True)


def compare(clean_znodes, kafka_lines, our_lines):
    diff = list(difflib.unified_diff(kafka_lines, our_lines, "Kafka", "Ottla", lineterm="", n=0))
    print("\n".join(diff) if diff else f"no difference in {clean_znodes} znodes", flush=True)
    assert not diff, f"{sum(1 for line in diff if line[:1] in '+-')} lines differ (above)"


def settle(zookeeper):
    """Topic deletion goes on after the tool has ended."""
    wait_for("the deleted topic to be gone", lambda: "/brokers/topics/gone" not in (tree := dump(zookeeper))
             and "/admin/delete_topics/gone" not in tree and "/config/topics/gone" not in tree)


def main():
    suite = Suite("znodes")
    if not have_kafka():
        def missing():
            raise NotRun("Apache Kafka 3.9's jars are not here (mvn, Maven Central)")
        suite.case("all", missing)
        suite.finish()
    with ZooKeeper() as zk1, ZooKeeper() as zk2, Kafka(zookeeper=zk1) as reference, SUBJECT(zookeeper=zk2) as subject:
        def lines(zookeeper, broker):
            return normalise(dump(zookeeper), broker)

        suite.case("after the first start", lambda: compare(
            len(dump(zk1)), lines(zk1, reference), lines(zk2, subject)))
        for broker in (reference, subject):
            act(broker)
        settle(zk1)
        settle(zk2)
        suite.case("after topics, configs, deletion, auto-creation and a group", lambda: compare(
            len(dump(zk1)), lines(zk1, reference), lines(zk2, subject)))
        for zookeeper, broker in ((zk1, reference), (zk2, subject)):
            broker.terminate()
        suite.case("after a clean stop", lambda: compare(
            len(dump(zk1)), lines(zk1, reference), lines(zk2, subject)))
        for broker in (reference, subject):
            broker.start()

        for broker in (reference, subject):
            wait_for("the new controller to have led the partitions in", lambda broker=broker:
                     'topic "a" with 5 partitions:\n    partition 0, leader 0' in subprocess.run(
                         ["kcat", "-b", broker.bootstrap, "-L"], capture_output=True, text=True, timeout=30).stdout)
        suite.case("after a restart", lambda: compare(
            len(dump(zk1)), lines(zk1, reference), lines(zk2, subject)))
    suite.finish()


# `run.py kafka` compares Kafka with a second Kafka.
SUBJECT = Kafka if sys.argv[1:] == ["kafka"] else Ottla

if __name__ == "__main__":
    main()
