#!/usr/bin/env python3
"""The same administration with Apache Kafka 3.9's own tools on clusters of either kind and of both:
the tools must print the same text, and ZooKeeper must hold the same nodes in the end.

The reference is three brokers of Apache Kafka; then Ottla controls two of Kafka, Kafka controls two
of Ottla, and three are Ottla. Broker 1 is the controller each time. `admin.py kafka` compares Kafka
with Kafka, `admin.py LAYOUT…` (like `OKK`) takes other layouts.
"""

import difflib
import json
import pathlib
import re
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite  # noqa: E402
from harness import Cluster, KafkaTools, Ottla, SmallKafka, ZooKeeper, have_kafka, wait_for  # noqa: E402
from wire import Connection  # noqa: E402
from zkclient import NoNode  # noqa: E402

KINDS = {"K": SmallKafka, "O": Ottla}
# Keys enough for records in every partition: what a consumer commits of an empty one is a matter of timing.
LINES = "".join(f"k{n % 12}:v{n}\n" for n in range(40))
# What depends on chance or on timing, as pattern and what stands for it.
CHANCE = [
    (r"\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[,.:]\d+\]?", "TIME"),
    (r"TopicId: \S+", "TopicId: ID"),
    (r'"(size|usableBytes|totalBytes)":-?\d+', r'"\1":N'),
    (r"adminclient-\d+", "adminclient-N"),
    (r"/\S*ottla-cluster-\w+", "FOLDER"),
    (r"/\S*ottla-admin-\w+", "FILES"),
]


def plan(partitions):
    """Contents of a file for kafka-reassign-partitions."""
    return json.dumps({"version": 1, "partitions": [
        {"topic": topic, "partition": p, "replicas": replicas} for topic, p, replicas in partitions]})


class Transcript:
    def __init__(self, cluster, tools, folder):
        self.cluster, self.tools, self.folder = cluster, tools, folder
        self.parts = []

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, tool, *arguments, stdin="", through=None):
        """One command; what it prints, with what depends on chance taken out."""
        bootstrap = self.cluster.brokers[through].bootstrap if through else self.cluster.bootstrap
        done = self.tools.run(tool, "--bootstrap-server", bootstrap, *arguments, stdin=stdin)
        # What the client noticed on its way, and through which frames a tool was called.
        said = "\n".join(line for line in [*done.stdout.splitlines(), *done.stderr.splitlines()]
                         if "(org.apache.kafka.clients." not in line and not re.match(r"\s+at (java\.base/)?(java|jdk)\.", line))
        text = f"exit {done.returncode}\n{said}"
        for broker_id, port in self.cluster.ports.items():
            text = re.sub(rf"\b{port}\b", f"PORT{broker_id}", text)
        for pattern, word in CHANCE:
            text = re.sub(pattern, word, text)
        # The order of a hash set, and of the logs of a broker.
        text = re.sub(r'(?<="partitions":\[)[^\]]*', lambda found: ",".join(sorted(re.findall(r"\{[^}]*\}", found.group()))), text)
        text = re.sub(r"(?<=for partitions )[^\n]*", lambda found: ", ".join(sorted(found.group().split(", "))), text)
        name = re.sub(r"/\S*ottla-admin-\w+", "FILES", " ".join([tool, *map(str, arguments)]))
        self.parts.append((name, text))
        return done

    def settle(self):
        """Waits until nothing is under way: ISRs, reassignments, deletions."""
        def topics():
            with self.cluster.nodes() as nodes:
                return nodes.children("/brokers/topics")

        def moving():
            with self.cluster.nodes() as nodes:
                if nodes.exists("/admin/reassign_partitions"):
                    return True
                for topic in topics():
                    node = nodes.json(f"/brokers/topics/{topic}")
                    if node["adding_replicas"] or node["removing_replicas"]:
                        return True
                return nodes.children("/admin/delete_topics")
        wait_for("reassignments and deletions to end", lambda: not quietly(moving, True), 60)
        self.cluster.wait_full_isr(topics())
        for broker_id, broker in self.cluster.brokers.items():
            if broker.running():
                wait_for(f"broker {broker_id} to know the leaders", lambda broker_id=broker_id: quietly(lambda: self.knows(broker_id), False))

    def knows(self, broker_id):
        """Whether a broker says what ZooKeeper has."""
        connection = Connection(self.cluster.ports[broker_id])
        try:
            said = {key: (leader, sorted(isr)) for key, (leader, isr) in connection.metadata().items()}
        finally:
            connection.close()
        states = {}
        with self.cluster.nodes() as nodes:
            for topic in nodes.children("/brokers/topics"):
                for p in nodes.json(f"/brokers/topics/{topic}")["partitions"]:
                    state = nodes.json(f"/brokers/topics/{topic}/partitions/{p}/state")
                    states[topic, int(p)] = state["leader"], sorted(state["isr"])
        return said == states


def quietly(function, default):
    """A node may go while it is looked at."""
    try:
        return function()
    except NoNode:
        return default


def act(t):
    """Everything that is compared. Replicas are named, so that nothing is left to chance."""
    topics, configs, reassign, elect = "kafka-topics", "kafka-configs", "kafka-reassign-partitions", "kafka-leader-election"
    t.run(topics, "--create", "--topic", "t", "--replica-assignment", "1:2:3,2:3:1,3:1:2")
    t.settle()
    t.run(topics, "--describe", "--topic", "t")
    t.run(topics, "--create", "--topic", "t", "--partitions", "1")
    t.run(topics, "--create", "--topic", "x", "--replication-factor", "4", "--partitions", "1")
    t.run(topics, "--create", "--topic", "x", "--replica-assignment", "1:2,2")
    t.run(topics, "--create", "--topic", "x", "--partitions", "2", "--config", "min.insync.replicas=none")
    t.run(topics, "--create", "--topic", "spread", "--partitions", "3", "--config", "retention.ms=3600000")
    t.settle()
    # Growing: where the new partitions go is fixed by where partition 0 is.
    t.run(topics, "--create", "--topic", "grown", "--replica-assignment", "2:3")
    t.settle()
    t.run(topics, "--alter", "--topic", "grown", "--partitions", "4", through=2)
    t.settle()
    t.run(topics, "--describe", "--topic", "grown", through=3)
    t.run(topics, "--alter", "--topic", "grown", "--partitions", "3")
    t.run(topics, "--alter", "--topic", "t", "--partitions", "4", "--replica-assignment", "1:2:3,2:3:1,3:1:2,3:2:1")
    t.run(topics, "--alter", "--topic", "t", "--partitions", "5", "--replica-assignment", "1:2:3,2:3:1,3:1:2,3:2:1,1:2")
    t.settle()
    t.run(topics, "--describe", "--topic", "t")
    # Configurations, written through one broker and read through another.
    t.run(configs, "--alter", "--entity-type", "topics", "--entity-name", "t", "--add-config", "retention.ms=60000,max.message.bytes=2000000", through=1)
    t.run(configs, "--describe", "--entity-type", "topics", "--entity-name", "t", through=2)
    t.run(configs, "--alter", "--entity-type", "topics", "--entity-name", "t", "--delete-config", "retention.ms", through=3)
    t.run(configs, "--describe", "--entity-type", "topics", "--entity-name", "t", through=1)
    for broker in (1, 2, 3):
        # One after the other: Kafka loses sight of changes that follow each other within milliseconds.
        t.run(configs, "--alter", "--entity-type", "brokers", "--entity-name", str(broker), "--add-config", f"log.retention.ms={broker}000000", through=broker)
        wait_for(f"broker {broker} to have its configuration", lambda broker=broker: f"log.retention.ms={broker}000000" in t.tools.run(
            configs, "--bootstrap-server", t.cluster.brokers[broker].bootstrap, "--describe", "--entity-type", "brokers",
            "--entity-name", str(broker)).stdout)
        t.run(configs, "--describe", "--entity-type", "brokers", "--entity-name", str(broker), through=broker)
        # Else a topic's configuration depends on the broker that is asked.
        t.run(configs, "--alter", "--entity-type", "brokers", "--entity-name", str(broker), "--delete-config", "log.retention.ms", through=broker)
        wait_for(f"broker {broker} to be without", lambda broker=broker: "log.retention.ms=" not in t.tools.run(
            configs, "--bootstrap-server", t.cluster.brokers[broker].bootstrap, "--describe", "--entity-type", "brokers",
            "--entity-name", str(broker)).stdout)
    t.run(configs, "--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "message.max.bytes=1500000", through=2)
    wait_for("every broker to have the default", lambda: all("message.max.bytes=1500000" in t.tools.run(
        configs, "--bootstrap-server", t.cluster.brokers[broker].bootstrap, "--describe", "--entity-type", "brokers",
        "--entity-default").stdout for broker in (1, 2, 3)))
    # Records and a group.
    t.run("kafka-console-producer", "--topic", "t", "--property", "parse.key=true", "--property", "key.separator=:",
          "--producer-property", "acks=all", stdin=LINES)
    t.run("kafka-get-offsets", "--topic", "t")
    t.run("kafka-console-consumer", "--topic", "t", "--group", "g", "--from-beginning", "--max-messages", "40", "--timeout-ms", "20000",
          "--property", "print.offset=true", "--formatter", "org.apache.kafka.tools.consumer.NoOpMessageFormatter")
    t.run("kafka-consumer-groups", "--describe", "--group", "g")
    t.run("kafka-consumer-groups", "--list", "--state")
    t.run("kafka-delete-records", "--offset-json-file", t.file("delete.json", json.dumps(
        {"version": 1, "partitions": [{"topic": "t", "partition": p, "offset": -1} for p in range(4)]})))
    t.run("kafka-get-offsets", "--topic", "t", "--time", "earliest")
    # Reassignment and elections.
    t.run(topics, "--create", "--topic", "r", "--replica-assignment", "1:2,2:3")
    t.run("kafka-console-producer", "--topic", "r", "--property", "parse.key=true", "--property", "key.separator=:",
          "--producer-property", "acks=all", stdin=LINES)
    t.settle()
    moved = t.file("moved.json", plan([("r", 0, [2, 3]), ("r", 1, [3, 1])]))
    t.run(reassign, "--reassignment-json-file", moved, "--execute")
    t.settle()
    t.run(reassign, "--reassignment-json-file", moved, "--verify")
    t.run(reassign, "--list")
    t.run(topics, "--describe", "--topic", "r")
    t.run("kafka-get-offsets", "--topic", "r")
    throttled = t.file("throttled.json", plan([("r", 0, [3, 1, 2]), ("r", 1, [1, 2])]))
    t.run(reassign, "--reassignment-json-file", throttled, "--execute", "--throttle", "50000000")
    t.settle()
    t.run(reassign, "--reassignment-json-file", throttled, "--verify")
    t.run(configs, "--describe", "--entity-type", "topics", "--entity-name", "r")
    t.run(reassign, "--reassignment-json-file", moved, "--cancel")
    t.run(reassign, "--reassignment-json-file", t.file("unknown.json", plan([("r", 7, [1, 2])])), "--execute")
    t.run(reassign, "--reassignment-json-file", t.file("nobody.json", plan([("r", 0, [1, 9])])), "--execute")
    # Only the order changes: the leader stays until somebody elects the preferred one.
    t.run(reassign, "--reassignment-json-file", t.file("order.json", plan([("t", 0, [3, 2, 1])])), "--execute")
    t.settle()
    t.run(elect, "--election-type", "preferred", "--topic", "t", "--partition", "0")
    t.run(elect, "--election-type", "preferred", "--topic", "t", "--partition", "0")
    t.run(elect, "--election-type", "unclean", "--topic", "t", "--partition", "1")
    t.run(elect, "--election-type", "preferred", "--topic", "nope", "--partition", "0")
    t.settle()
    t.run(topics, "--describe", "--topic", "t")
    # One broker less.
    t.cluster.brokers[3].terminate()
    t.run(topics, "--describe", "--topic", "t")
    t.run(topics, "--describe", "--under-replicated-partitions", "--topic", "t")
    t.run(topics, "--describe", "--at-min-isr-partitions", "--topic", "t")
    t.run(topics, "--describe", "--unavailable-partitions", "--topic", "t")
    t.run(topics, "--create", "--topic", "x", "--replication-factor", "3", "--partitions", "1")
    t.run(topics, "--create", "--topic", "two", "--replica-assignment", "2:1")
    t.run(topics, "--create", "--topic", "x", "--replica-assignment", "2:3")
    t.run(reassign, "--reassignment-json-file", t.file("dead.json", plan([("r", 0, [3])])), "--execute")
    t.run(elect, "--election-type", "preferred", "--topic", "t", "--partition", "2")
    t.run(topics, "--delete", "--topic", "grown")
    with t.cluster.nodes() as nodes:
        assert nodes.exists("/brokers/topics/grown"), "a topic is gone while a replica of it is away"
    t.cluster.start(3)
    t.settle()
    t.run(elect, "--election-type", "preferred", "--path-to-json-file", t.file("elect.json", json.dumps(
        {"partitions": [{"topic": topic, "partition": p} for topic, count in (("t", 4), ("r", 2)) for p in range(count)]})))
    t.settle()
    t.run(topics, "--describe", "--topic", "t")
    t.run("kafka-log-dirs", "--describe", "--topic-list", "t,r")
    t.run(topics, "--delete", "--topic", "t")
    t.run(topics, "--delete", "--topic", "t")
    t.settle()
    t.run(topics, "--list")


def dump(cluster):
    """Every znode as a line."""
    lines = []
    with cluster.nodes() as nodes:
        def walk(path):
            data, stat = nodes.data(path), nodes.stat(path)
            text = data.decode(errors="replace")
            for broker_id, port in cluster.ports.items():
                text = re.sub(rf"\b{port}\b", f"PORT{broker_id}", text)
            text = re.sub(r'"timestamp":"\d+"', '"timestamp":"T"', text)
            text = re.sub(r'("(?:topic_id|id)":)"[\w-]{22}"', r'\1"ID"', text)
            version = stat["version"]
            if path.endswith("/state"):
                # How many changes an ISR takes is a matter of time.
                version = "N"
            lines.append(f"{path} ephemeral={stat['owner'] != 0} version={version} {text}")
            for child in nodes.children(path):
                below = f"{path.rstrip('/')}/{child}"
                if not below.startswith(LEFT_OUT):
                    walk(below)
        walk("/")
    # Brokers that are changed together are changed in any order.
    changes = sorted(line.partition(" ")[2] for line in lines if line.startswith("/config/changes/"))
    return [line for line in lines if not line.startswith("/config/changes/")] + changes


# Placed by chance, or allocated ahead.
LEFT_OUT = ("/zookeeper", "/brokers/topics/__consumer_offsets", "/brokers/topics/spread", "/latest_producer_id_block")


def run_layout(layout, tools):
    begun = time.monotonic()
    with ZooKeeper() as zookeeper, tempfile.TemporaryDirectory(prefix="ottla-admin-") as folder, \
            Cluster(zookeeper, [KINDS[letter] for letter in layout]) as cluster:
        transcript = Transcript(cluster, tools, pathlib.Path(folder))
        assert cluster.controller() == 1, f"broker {cluster.controller()} is the controller"
        try:
            act(transcript)
        except AssertionError as failure:
            said = "\n".join(f"$ {name}\n{text}" for name, text in transcript.parts[-4:])
            raise AssertionError(f"{failure}, after\n{said}") from None
        assert cluster.controller() == 1, f"broker {cluster.controller()} is the controller in the end"
        nodes = dump(cluster)
    print(f"  {layout}: {len(transcript.parts)} commands, {len(nodes)} znodes, {time.monotonic() - begun:.1f} s", flush=True)
    return transcript.parts, nodes


def compare(layout, tools, reference, state):
    parts, nodes = run_layout(layout, tools)
    differing = []
    for (name, expected), (_, actual) in zip(reference[0], parts):
        if expected != actual:
            diff = difflib.unified_diff(expected.splitlines(), actual.splitlines(), "Kafka", layout, lineterm="", n=0)
            differing.append(f"{name}\n" + "\n".join(diff))
    state["nodes"] = nodes
    assert not differing, f"{len(differing)} of {len(parts)} commands differ:\n" + "\n".join(differing)


def compare_nodes(layout, reference, state):
    assert "nodes" in state, "the commands did not get to their end"
    diff = list(difflib.unified_diff(reference[1], state["nodes"], "Kafka", layout, lineterm="", n=0))
    assert not diff, "\n".join(diff)


def main():
    arguments = sys.argv[1:]
    layouts = ["KKK"] if arguments == ["kafka"] else arguments or ["OKK", "KOO", "OOO"]
    suite = Suite("cluster admin")
    if not have_kafka():
        def missing():
            raise NotRun("Apache Kafka 3.9's jars are not here (mvn, Maven Central)")
        suite.case("all", missing)
        suite.finish()
    with KafkaTools() as tools:
        reference = []
        if suite.case("Apache Kafka alone, the reference", lambda: reference.extend(run_layout("KKK", tools))):
            for layout in layouts:
                state = {}
                suite.case(f"commands on {layout}", compare, layout, tools, reference, state)
                suite.case(f"znodes of {layout}", compare_nodes, layout, reference, state)
    suite.finish()


if __name__ == "__main__":
    main()
