"""Rows of command lines that the suites `kafka-tools` and `own-tools` compare, and how what such a
command prints is made comparable.

A row is (name, tool, arguments, standard input). Rows run in order: they create what later rows
show. What differs by nature (ports, random ids, times, paths) is replaced by `normalise`.
"""

import contextlib
import difflib
import json
import re
import subprocess

from harness import ottla_binary, wait_for


@contextlib.contextmanager
def live_member(broker, group, topic):
    """A group with one member that reads `topic` until the block is left."""
    ottla, b = ottla_binary(), ["--bootstrap-server", broker.bootstrap]
    consumer = subprocess.Popen(
        [ottla, "console-consumer", *b, "--topic", topic, "--group", group],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stable():
        state = subprocess.run([ottla, "consumer-groups", *b, "--describe", "--group", group, "--state"],
                               capture_output=True, text=True, timeout=60)
        return "Stable" in state.stdout

    try:
        wait_for(f"group {group} to be stable", stable, process=consumer)
        yield
    finally:
        consumer.kill()
        consumer.wait(30)

LINES = "".join(f"value-{n}\n" for n in range(20))
KEYED = "".join(f"k{n % 4}:v{n}\n" for n in range(12))


def rows(broker):
    """(name, tool, arguments, standard input)"""
    b = ["--bootstrap-server", broker.bootstrap]
    delete = broker.folder / "delete.json"
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
    yield "groups list types", "kafka-consumer-groups", [*b, "--list", "--type"], None
    yield "groups list some states", "kafka-consumer-groups", [*b, "--list", "--state", "stable, empty", "--type", "classic"], None
    yield "groups list bad state", "kafka-consumer-groups", [*b, "--list", "--state", "sleepy"], None
    yield "groups list bad type", "kafka-consumer-groups", [*b, "--list", "--type", "Red"], None
    yield "groups describe", "kafka-consumer-groups", [*b, "--describe", "--group", "g1"], None
    yield "groups describe state", "kafka-consumer-groups", [*b, "--describe", "--group", "g1", "--state"], None
    yield "groups describe members", "kafka-consumer-groups", [*b, "--describe", "--group", "g1", "--members"], None
    yield "groups describe unknown", "kafka-consumer-groups", [*b, "--describe", "--group", "nope"], None
    yield "groups describe unknown members", "kafka-consumer-groups", [*b, "--describe", "--group", "nope", "--members", "--verbose"], None
    yield "groups describe unknown state", "kafka-consumer-groups", [*b, "--describe", "--group", "nope", "--state"], None
    yield "groups describe two", "kafka-consumer-groups", [*b, "--describe", "--group", "nope", "--group", "g1", "--offsets"], None
    with live_member(broker, "live", "lines"):
        yield "groups list live", "kafka-consumer-groups", [*b, "--list", "--state", "stable"], None
        yield "groups describe live", "kafka-consumer-groups", [*b, "--describe", "--group", "live"], None
        yield "groups describe live members", "kafka-consumer-groups", [*b, "--describe", "--group", "live", "--members", "--verbose"], None
        yield "groups describe live state", "kafka-consumer-groups", [*b, "--describe", "--group", "live", "--state"], None
        yield "groups reset live", "kafka-consumer-groups", [*b, "--group", "live", "--topic", "lines", "--reset-offsets", "--to-earliest", "--execute"], None
        yield "groups delete live", "kafka-consumer-groups", [*b, "--group", "live", "--delete"], None
        yield "groups delete offsets live", "kafka-consumer-groups", [*b, "--group", "live", "--delete-offsets", "--topic", "lines"], None
    yield "groups reset dry run", "kafka-consumer-groups", [*b, "--group", "g1", "--topic", "lines", "--reset-offsets", "--to-earliest", "--dry-run"], None
    yield "groups reset", "kafka-consumer-groups", [*b, "--group", "g1", "--topic", "lines", "--reset-offsets", "--shift-by", "-10", "--execute"], None
    yield "groups reset to datetime", "kafka-consumer-groups", [*b, "--group", "g1", "--topic", "lines", "--reset-offsets", "--to-datetime", "2020-01-01T00:00:00.000", "--execute"], None
    yield "groups reset to latest", "kafka-consumer-groups", [*b, "--group", "g1", "--all-topics", "--reset-offsets", "--to-latest", "--execute"], None
    yield "groups reset new group", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines", "--topic", "a:0,2", "--reset-offsets", "--to-offset", "7", "--execute"], None
    yield "groups reset beyond the end", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines:0", "--reset-offsets", "--to-offset", "1000", "--dry-run"], None
    yield "groups reset before the start", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines:0", "--reset-offsets", "--shift-by", "-1000", "--dry-run"], None
    yield "groups reset nothing to shift", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines", "--topic", "keyed", "--reset-offsets", "--shift-by", "1"], None
    yield "groups reset to current", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines", "--topic", "keyed", "--reset-offsets", "--to-current", "--dry-run"], None
    yield "groups reset by duration", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines", "--reset-offsets", "--by-duration", "P1DT2H", "--execute"], None
    yield "groups reset to the future", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines", "--reset-offsets", "--to-datetime", "2099-01-01T00:00:00.000+02:00", "--dry-run"], None
    yield "groups reset bad time", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines", "--reset-offsets", "--to-datetime", "yesterday", "--dry-run"], None
    yield "groups reset bad duration", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines", "--reset-offsets", "--by-duration", "1h", "--dry-run"], None
    yield "groups reset bad partition", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines:x", "--reset-offsets", "--to-latest", "--dry-run"], None
    yield "groups reset unknown topic", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "nope", "--reset-offsets", "--to-latest", "--dry-run"], None
    yield "groups reset no scenario", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines", "--reset-offsets", "--dry-run"], None
    yield "groups reset no scope", "kafka-consumer-groups", [*b, "--group", "fresh", "--reset-offsets", "--to-latest", "--dry-run"], None
    yield "groups reset export", "kafka-consumer-groups", [*b, "--group", "fresh", "--topic", "lines", "--reset-offsets", "--to-offset", "11", "--dry-run", "--export"], None
    plan = broker.folder / "plan.csv"
    plan.write_text("lines,0,17\n")
    yield "groups reset from file", "kafka-consumer-groups", [*b, "--group", "fresh", "--reset-offsets", "--from-file", str(plan), "--execute"], None
    yield "groups reset all groups", "kafka-consumer-groups", [*b, "--all-groups", "--topic", "lines:0", "--reset-offsets", "--to-earliest", "--export", "--dry-run"], None
    yield "groups describe reset", "kafka-consumer-groups", [*b, "--describe", "--group", "fresh"], None
    yield "groups delete offsets", "kafka-consumer-groups", [*b, "--group", "g1", "--delete-offsets", "--topic", "lines"], None
    yield "groups delete", "kafka-consumer-groups", [*b, "--group", "g1", "--delete"], None
    yield "groups delete unknown", "kafka-consumer-groups", [*b, "--group", "nope", "--delete"], None
    yield "groups delete some", "kafka-consumer-groups", [*b, "--group", "nope", "--group", "fresh", "--delete"], None
    yield "groups delete offsets unknown", "kafka-consumer-groups", [*b, "--group", "nope", "--delete-offsets", "--topic", "lines:0", "--topic", "missing"], None
    yield "groups two actions", "kafka-consumer-groups", [*b, "--list", "--describe", "--group", "g1"], None
    yield "groups two wheres", "kafka-consumer-groups", [*b, "--reset-offsets", "--group", "g1", "--topic", "lines", "--to-latest", "--to-earliest"], None
    yield "groups no server", "kafka-consumer-groups", ["--list"], None
    yield "groups misplaced members", "kafka-consumer-groups", [*b, "--list", "--members"], None
    yield "groups unknown flag", "kafka-consumer-groups", [*b, "--lst"], None
    yield "groups no value", "kafka-consumer-groups", [*b, "--describe", "--group"], None
    yield "groups version", "kafka-consumer-groups", ["--version"], None
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
    yield "dump-log no files", "kafka-dump-log", ["--print-data-log"], None
    yield "topics no action", "kafka-topics", [*b, "--topic", "a"], None
    yield "topics unknown flag", "kafka-topics", [*b, "--lst"], None
    yield "topics one dash and stray words", "kafka-topics", ["-list", "now", *b, "-topic", "a|m"], None
    yield "topics alter no partitions", "kafka-topics", [*b, "--alter", "--topic", "a"], None
    yield "topics bad number", "kafka-topics", [*b, "--create", "--topic", "n", "--partitions", "many"], None
    yield "topics clashing flags", "kafka-topics", [*b, "--describe", "--topic", "a", "--partitions", "2"], None
    yield "topics exclude internal", "kafka-topics", [*b, "--list", "--exclude-internal"], None
    yield "topics version", "kafka-topics", ["--version"], None
    yield "configs no entity", "kafka-configs", [*b, "--describe"], None
    yield "configs unknown type", "kafka-configs", [*b, "--describe", "--entity-type", "planets", "--entity-name", "x"], None
    yield "configs no action", "kafka-configs", [*b, "--topic", "a"], None
    yield "configs nothing to alter", "kafka-configs", [*b, "--alter", "--topic", "a"], None
    yield "configs delete unset", "kafka-configs", [*b, "--alter", "--topic", "a", "--delete-config", "retention.ms"], None
    yield "get-offsets some partitions", "kafka-get-offsets", [*b, "--topic-partitions", "a:1-3,lines"], None
    yield "get-offsets unknown topic", "kafka-get-offsets", [*b, "--topic", "nope"], None
    yield "get-offsets bad time", "kafka-get-offsets", [*b, "--topic", "lines", "--time", "yesterday"], None
    yield "get-offsets future", "kafka-get-offsets", [*b, "--topic", "lines", "--time", "4102444800000"], None
    yield "console-producer bad line", "kafka-console-producer", [*b, "--topic", "keyed", "--property", "parse.key=true", "--property", "key.separator=:"], "k:v\nplain\n"
    yield "console-producer no topic", "kafka-console-producer", b, ""
    yield "console-consumer no topic", "kafka-console-consumer", b, None
    yield "console-consumer two starts", "kafka-console-consumer", [*b, "--topic", "a", "--partition", "0", "--offset", "1", "--from-beginning"], None
    yield "console-consumer bad offset", "kafka-console-consumer", [*b, "--topic", "a", "--partition", "0", "--offset", "middle"], None
    yield "log-dirs unknown broker", "kafka-log-dirs", [*b, "--describe", "--broker-list", "0,7"], None
    yield "cluster unregister", "kafka-cluster", ["unregister", *b, "--id", "7"], None
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
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"console-consumer-\d+", "console-consumer-N", text)
    # The zookeeper address and throughput figures.
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r"\d[\d,]*\.\d+", "F", text)
    return text


FIGURES = {"producer perf", "producer perf idempotent acks 1", "consumer perf"}


def comparable(name, tool, done, broker):
    """Exit code, stdout and stderr of a row, without what differs by nature."""
    out, err = normalise(done.stdout, broker), normalise(done.stderr, broker)
    # Told until the topic that was asked for is there: how often, is a matter of time.
    err = re.sub(r"correlation id \d+ : (\{[^}]*=LEADER_NOT_AVAILABLE\})", r"correlation id N : \1", err)
    err = re.sub(r"^(.*=LEADER_NOT_AVAILABLE\}.*\n)(\1)+", r"\1", err, flags=re.MULTILINE)
    if name in FIGURES:
        out = re.sub(r"-?\d+(\.\d+)?|F|TIME", "N", "\n".join(out.splitlines()[-1:]))
    if name.startswith("groups list") or name == "groups reset all groups":
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


def difference(expected, actual, what="Ottla"):
    lines = [f"exit code: Kafka {expected[0]}, {what} {actual[0]}"]
    for stream, ours, theirs in (("stdout", actual[1], expected[1]), ("stderr", actual[2], expected[2])):
        diff = difflib.unified_diff(theirs.splitlines(), ours.splitlines(), f"Kafka {stream}", f"{what} {stream}", lineterm="", n=1)
        lines.extend(line[:400] for line in list(diff)[:60])
    return "\n".join(lines)
