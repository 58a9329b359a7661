#!/usr/bin/env python3
"""Apache Kafka 3.9's own command-line tools against Ottla and against Apache Kafka 3.9: the same
commands in the same order must print the same text and exit with the same code.

Every row is one command. What differs by nature (ports, random ids, times, paths) is normalised
by `normalise`; differences that we accept are rows of ACCEPTED, each with its reason.
"""

import difflib
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite  # noqa: E402
from harness import TOOLS, Kafka, Ottla, ZooKeeper, have_kafka, kafka_tool  # noqa: E402

# Rows whose output differs for a reason: name -> (reason, function applied to both outputs).
def _advertised_only(text):
    """Rows of APIs that this version does not offer yet are left out on both sides."""
    later = {"LeaderAndIsr", "StopReplica", "UpdateMetadata", "ControlledShutdown", "SaslHandshake",
             "SaslAuthenticate", "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "WriteTxnMarkers",
             "TxnOffsetCommit", "DescribeAcls", "CreateAcls", "DeleteAcls", "AlterReplicaLogDirs",
             "CreateDelegationToken", "RenewDelegationToken", "ExpireDelegationToken",
             "DescribeDelegationToken", "ElectLeaders", "AlterPartitionReassignments",
             "ListPartitionReassignments", "DescribeClientQuotas", "AlterClientQuotas",
             "DescribeUserScramCredentials", "AlterUserScramCredentials", "AlterPartition",
             "UpdateFeatures", "Envelope", "DescribeTransactions", "ListTransactions",
             "AllocateProducerIds", "ConsumerGroupHeartbeat", "ConsumerGroupDescribe"}
    lines = []
    for line in text.splitlines():
        name = re.match(r"\s*(\w+)\(\d+\):", line)
        if name and name.group(1) in later:
            continue
        lines.append(line.rstrip(","))
    return "\n".join(lines)


ACCEPTED = {
    "broker-api-versions": ("APIs of transactions, security, quotas and replication are not offered yet", _advertised_only),
}

LINES = "".join(f"value-{n}\n" for n in range(20))
KEYED = "".join(f"k{n % 4}:v{n}\n" for n in range(12))


def rows(broker, folder):
    """(name, tool, arguments, standard input)"""
    b = ["--bootstrap-server", broker.bootstrap]
    delete = folder / "delete.json"
    delete.write_text(json.dumps({"version": 1, "partitions": [{"topic": "lines", "partition": 0, "offset": 5}]}))
    segment = broker.data / "lines-0" / "00000000000000000000.log"
    yield "topics create", "kafka-topics", [*b, "--create", "--topic", "a", "--partitions", "3", "--replication-factor", "1"], None
    yield "topics create again", "kafka-topics", [*b, "--create", "--topic", "a"], None
    yield "topics create if not exists", "kafka-topics", [*b, "--create", "--if-not-exists", "--topic", "a"], None
    yield "topics create with config", "kafka-topics", [*b, "--create", "--topic", "b.c", "--config", "retention.ms=1000", "--config", "cleanup.policy=compact"], None
    yield "topics create colliding", "kafka-topics", [*b, "--create", "--topic", "b_c"], None
    yield "topics create bad name", "kafka-topics", [*b, "--create", "--topic", "a/b"], None
    yield "topics create bad config", "kafka-topics", [*b, "--create", "--topic", "x", "--config", "retention.ms=abc"], None
    yield "topics create unknown config", "kafka-topics", [*b, "--create", "--topic", "x", "--config", "no.such=1"], None
    yield "topics create too many replicas", "kafka-topics", [*b, "--create", "--topic", "x", "--replication-factor", "2"], None
    yield "topics create no partitions", "kafka-topics", [*b, "--create", "--topic", "x", "--partitions", "0"], None
    yield "topics create assigned", "kafka-topics", [*b, "--create", "--topic", "m", "--replica-assignment", "0,0"], None
    yield "topics list", "kafka-topics", [*b, "--list"], None
    yield "topics describe", "kafka-topics", [*b, "--describe", "--topic", "a"], None
    yield "topics describe config", "kafka-topics", [*b, "--describe", "--topic", "b.c"], None
    yield "topics describe overridden", "kafka-topics", [*b, "--describe", "--topics-with-overrides"], None
    yield "topics describe unknown", "kafka-topics", [*b, "--describe", "--topic", "nope"], None
    yield "topics alter", "kafka-topics", [*b, "--alter", "--topic", "a", "--partitions", "6"], None
    yield "topics alter fewer", "kafka-topics", [*b, "--alter", "--topic", "a", "--partitions", "2"], None
    yield "topics describe after alter", "kafka-topics", [*b, "--describe", "--topic", "a"], None
    yield "configs add", "kafka-configs", [*b, "--alter", "--entity-type", "topics", "--entity-name", "a", "--add-config", "retention.ms=60000,max.message.bytes=2000000"], None
    yield "configs describe topic", "kafka-configs", [*b, "--describe", "--entity-type", "topics", "--entity-name", "a"], None
    yield "configs describe topic all", "kafka-configs", [*b, "--describe", "--all", "--entity-type", "topics", "--entity-name", "a"], None
    yield "configs delete", "kafka-configs", [*b, "--alter", "--entity-type", "topics", "--entity-name", "a", "--delete-config", "retention.ms"], None
    yield "configs bad value", "kafka-configs", [*b, "--alter", "--entity-type", "topics", "--entity-name", "a", "--add-config", "retention.ms=xyz"], None
    yield "configs unknown key", "kafka-configs", [*b, "--alter", "--entity-type", "topics", "--entity-name", "a", "--add-config", "no.such=1"], None
    yield "configs unknown topic", "kafka-configs", [*b, "--describe", "--entity-type", "topics", "--entity-name", "nope"], None
    yield "configs broker", "kafka-configs", [*b, "--describe", "--entity-type", "brokers", "--entity-name", "0"], None
    yield "configs broker add", "kafka-configs", [*b, "--alter", "--entity-type", "brokers", "--entity-name", "0", "--add-config", "log.retention.ms=3600000"], None
    yield "configs broker default add", "kafka-configs", [*b, "--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "message.max.bytes=1500000"], None
    yield "configs broker after", "kafka-configs", [*b, "--describe", "--entity-type", "brokers", "--entity-name", "0"], None
    yield "configs broker default", "kafka-configs", [*b, "--describe", "--entity-type", "brokers", "--entity-default"], None
    yield "configs broker all", "kafka-configs", [*b, "--describe", "--all", "--entity-type", "brokers", "--entity-name", "0"], None
    yield "configs broker read-only", "kafka-configs", [*b, "--alter", "--entity-type", "brokers", "--entity-name", "0", "--add-config", "broker.id=3"], None
    yield "configs broker delete", "kafka-configs", [*b, "--alter", "--entity-type", "brokers", "--entity-name", "0", "--delete-config", "log.retention.ms"], None
    yield "console-producer", "kafka-console-producer", [*b, "--topic", "lines"], LINES
    yield "console-producer keyed", "kafka-console-producer", [*b, "--topic", "keyed", "--property", "parse.key=true", "--property", "key.separator=:"], KEYED
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        yield f"console-producer {codec}", "kafka-console-producer", [*b, "--topic", "lines", "--compression-codec", codec], LINES
    yield "console-consumer", "kafka-console-consumer", [*b, "--topic", "lines", "--from-beginning", "--max-messages", "100"], None
    yield "console-consumer keyed", "kafka-console-consumer", [*b, "--topic", "keyed", "--from-beginning", "--max-messages", "12", "--property", "print.key=true", "--property", "print.offset=true", "--property", "print.partition=true"], None
    yield "console-consumer offset", "kafka-console-consumer", [*b, "--topic", "lines", "--partition", "0", "--offset", "90", "--max-messages", "10"], None
    yield "console-consumer group", "kafka-console-consumer", [*b, "--topic", "lines", "--from-beginning", "--group", "g1", "--max-messages", "30"], None
    yield "console-consumer timeout", "kafka-console-consumer", [*b, "--topic", "a", "--from-beginning", "--timeout-ms", "3000"], None
    yield "groups list", "kafka-consumer-groups", [*b, "--list"], None
    yield "groups list states", "kafka-consumer-groups", [*b, "--list", "--state"], None
    yield "groups describe", "kafka-consumer-groups", [*b, "--describe", "--group", "g1"], None
    yield "groups describe state", "kafka-consumer-groups", [*b, "--describe", "--group", "g1", "--state"], None
    yield "groups describe members", "kafka-consumer-groups", [*b, "--describe", "--group", "g1", "--members"], None
    yield "groups describe unknown", "kafka-consumer-groups", [*b, "--describe", "--group", "nope"], None
    yield "groups reset dry run", "kafka-consumer-groups", [*b, "--group", "g1", "--topic", "lines", "--reset-offsets", "--to-earliest", "--dry-run"], None
    yield "groups reset", "kafka-consumer-groups", [*b, "--group", "g1", "--topic", "lines", "--reset-offsets", "--shift-by", "-10", "--execute"], None
    yield "groups reset to datetime", "kafka-consumer-groups", [*b, "--group", "g1", "--topic", "lines", "--reset-offsets", "--to-datetime", "2020-01-01T00:00:00.000", "--execute"], None
    yield "groups reset to latest", "kafka-consumer-groups", [*b, "--group", "g1", "--all-topics", "--reset-offsets", "--to-latest", "--execute"], None
    yield "groups delete offsets", "kafka-consumer-groups", [*b, "--group", "g1", "--delete-offsets", "--topic", "lines"], None
    yield "groups delete", "kafka-consumer-groups", [*b, "--group", "g1", "--delete"], None
    yield "groups delete unknown", "kafka-consumer-groups", [*b, "--group", "nope", "--delete"], None
    yield "get-offsets", "kafka-get-offsets", [*b, "--topic", "lines"], None
    yield "get-offsets earliest", "kafka-get-offsets", [*b, "--topic", "lines", "--time", "-2"], None
    yield "get-offsets max timestamp", "kafka-get-offsets", [*b, "--topic", "lines", "--time", "-3"], None
    yield "get-offsets by time", "kafka-get-offsets", [*b, "--topic", "lines", "--time", "1000"], None
    yield "get-offsets all", "kafka-get-offsets", [*b], None
    yield "delete-records", "kafka-delete-records", [*b, "--offset-json-file", str(delete)], None
    yield "get-offsets after delete", "kafka-get-offsets", [*b, "--topic", "lines", "--time", "earliest"], None
    yield "log-dirs", "kafka-log-dirs", [*b, "--describe", "--topic-list", "lines"], None
    yield "cluster id", "kafka-cluster", ["cluster-id", *b], None
    yield "broker-api-versions", "kafka-broker-api-versions", b, None
    yield "producer perf", "kafka-producer-perf-test", ["--topic", "perf", "--num-records", "20000", "--record-size", "200", "--throughput", "-1", "--producer-props", f"bootstrap.servers={broker.bootstrap}"], None
    yield "producer perf idempotent acks 1", "kafka-producer-perf-test", ["--topic", "perf", "--num-records", "2000", "--record-size", "200", "--throughput", "-1", "--producer-props", f"bootstrap.servers={broker.bootstrap}", "acks=1", "enable.idempotence=false"], None
    yield "consumer perf", "kafka-consumer-perf-test", [*b, "--topic", "perf", "--messages", "22000", "--timeout", "20000"], None
    yield "dump-log", "kafka-dump-log", ["--files", str(segment), "--print-data-log"], None
    yield "dump-log index", "kafka-dump-log", ["--files", str(segment.with_suffix(".index"))], None
    yield "topics delete", "kafka-topics", [*b, "--delete", "--topic", "a"], None
    yield "topics delete unknown", "kafka-topics", [*b, "--delete", "--topic", "nope"], None
    yield "topics delete if exists", "kafka-topics", [*b, "--delete", "--if-exists", "--topic", "nope"], None
    yield "topics list at the end", "kafka-topics", [*b, "--list"], None


def normalise(text, broker):
    text = text.replace(broker.bootstrap, "BROKER").replace(str(broker.folder), "FOLDER")
    text = re.sub(rf"\b{broker.port}\b", "PORT", text)
    text = re.sub(r"\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[,.:]\d+\]?", "TIME", text)
    text = re.sub(r"TopicId: \S+", "TopicId: ID", text)
    text = re.sub(r"Cluster ID: \S{22}", "Cluster ID: ID", text)
    text = re.sub(r"(CreateTime: ?|timestamp: |Timestamp: |crc: |Created[a-zA-Z]*Time:)-?\d+", r"\1N", text)
    text = re.sub(r"console-consumer-\d+", "console-consumer-N", text)
    # The zookeeper address and throughput figures.
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r"\d[\d,]*\.\d+", "F", text)
    return text


FIGURES = {"producer perf", "producer perf idempotent acks 1", "consumer perf"}


def run_row(name, tool, arguments, stdin, broker):
    done = kafka_tool(TOOLS[tool], *arguments, stdin=stdin)
    out, err = normalise(done.stdout, broker), normalise(done.stderr, broker)
    if name in FIGURES:
        out = re.sub(r"-?\d+(\.\d+)?|F|TIME", "N", "\n".join(out.splitlines()[-1:]))
    if name.startswith("groups list"):
        # Groups that the console consumer invented have random names.
        out = "\n".join(" ".join(line.split()) for line in out.splitlines() if "console-consumer" not in line)
    if name == "get-offsets all":
        # Which partition an invented group falls into is random too.
        out = "\n".join(line for line in out.splitlines() if not line.startswith("__consumer_offsets"))
    if name == "get-offsets max timestamp":
        out = re.sub(r":\d+$", ":N", out.strip())
    if tool == "kafka-dump-log":
        # Compressed sizes, and so positions, depend on the clock.
        out = re.sub(r"(size|position): ?\d+", r"\1: N", out)
    if tool == "kafka-log-dirs":
        out = re.sub(r'"(size|usableBytes|totalBytes)":-?\d+', r'"\1":N', out)
    return done.returncode, out, err


def main():
    suite = Suite("kafka-tools")
    if not have_kafka():
        def missing():
            raise NotRun("Apache Kafka 3.9's jars are not here (mvn, Maven Central)")
        suite.case("all", missing)
        suite.finish()
    with ZooKeeper() as zk1, ZooKeeper() as zk2, \
            Kafka(zookeeper=zk1) as reference, SUBJECT(zookeeper=zk2) as subject:
        reference_rows = rows(reference, reference.folder)
        subject_rows = rows(subject, subject.folder)
        for (name, tool, arguments, stdin), (_, _, our_arguments, _) in zip(reference_rows, subject_rows):
            def compare(name=name, tool=tool, arguments=arguments, our_arguments=our_arguments, stdin=stdin):
                expected = run_row(name, tool, arguments, stdin, reference)
                actual = run_row(name, tool, our_arguments, stdin, subject)
                if name in ACCEPTED:
                    change = ACCEPTED[name][1]
                    expected = (expected[0], change(expected[1]), change(expected[2]))
                    actual = (actual[0], change(actual[1]), change(actual[2]))
                assert expected == actual, difference(expected, actual)
            suite.case(name, compare)
    suite.finish()


def difference(expected, actual):
    lines = [f"exit code: Kafka {expected[0]}, Ottla {actual[0]}"]
    for what, ours, theirs in (("stdout", actual[1], expected[1]), ("stderr", actual[2], expected[2])):
        diff = difflib.unified_diff(theirs.splitlines(), ours.splitlines(), f"Kafka {what}", f"Ottla {what}", lineterm="", n=1)
        lines.extend(line[:400] for line in list(diff)[:60])
    return "\n".join(lines)


# `run.py kafka` compares Kafka with a second Kafka: every row must pass, or the row is not fair.
SUBJECT = Kafka if sys.argv[1:] == ["kafka"] else Ottla

if __name__ == "__main__":
    main()
