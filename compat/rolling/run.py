#!/usr/bin/env python3
"""A live cluster changes its brokers: 3 × Apache Kafka 3.9 → 3 × Ottla → 3 × Apache Kafka 3.9, one
broker at a time, on the same ids, ports and data dirs, while producers (acks=all, idempotent) and a
consumer group go on. Nothing may be lost, doubled or read twice, and no committed offset goes back.

`run.py kafka` replaces Kafka by Kafka, which is what a rolling restart of it does.
"""

import pathlib
import re
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite, equal  # noqa: E402
from harness import TOOLS, Cluster, Ottla, SmallKafka, ZooKeeper, have_kafka, kafka_tool  # noqa: E402
from history import Load, figure_line  # noqa: E402

PARTITIONS = 6
RATE = 200


def replace(cluster, load, broker_id, kind):
    """Stops one broker, puts another kind on what it leaves, and waits until it has caught up."""
    begun = time.monotonic()
    equal(cluster.brokers[broker_id].terminate(60), 143, f"exit code of broker {broker_id}")
    assert broker_id not in cluster.registered(), f"broker {broker_id} has ended and is still registered"
    cluster.replace(broker_id, kind)
    cluster.start(broker_id)
    cluster.wait_full_isr([load.topic, "__consumer_offsets"], 60)
    load.wait_acked_everywhere()
    print(f"  broker {broker_id} is {kind.name} now ({time.monotonic() - begun:.1f} s)", flush=True)


def rolling(there, back):
    with ZooKeeper() as zookeeper, tempfile.TemporaryDirectory(prefix="ottla-rolling-") as folder, \
            Cluster(zookeeper, [back] * 3, {"log.segment.bytes": 200000}) as cluster:
        kafka_tool(TOOLS["kafka-topics"], "--bootstrap-server", cluster.bootstrap, "--create", "--topic", "rolled",
                   "--partitions", str(PARTITIONS), "--replication-factor", "3", check=True)
        cluster.wait_full_isr(["rolled"])
        cluster.wait_served("rolled")
        load = Load(folder, cluster.bootstrap, "rolled", PARTITIONS, producers=2, rate=RATE, members=2)
        try:
            load.wait_acked_everywhere()
            load.wait_group_reads()
            for broker_id in cluster.ids:
                replace(cluster, load, broker_id, there)
            # A group of whose coordinator and offsets no Kafka is left.
            load.add_member("late")
            load.wait_group_reads()
            for broker_id in cluster.ids:
                replace(cluster, load, broker_id, back)
            load.wait_group_reads()
            figures, wrong = load.finish({b: [cluster.brokers[b].data] for b in cluster.ids})
        finally:
            load.abandon()
        print(f"  {figure_line(figures)}", flush=True)
        if wrong:
            cluster.keep("rolled", folder)
        assert not wrong, wrong.text()
        dump_logs(cluster)


def dump_logs(cluster):
    """kafka-dump-log finds nothing wrong with any file of the load's topic."""
    for broker_id in cluster.ids:
        cluster.brokers[broker_id].terminate(60)
        files = [path for path in sorted(cluster.brokers[broker_id].data.glob("rolled-*/*"))
                 if path.suffix in (".log", ".index", ".timeindex", ".snapshot")]
        done = kafka_tool(TOOLS["kafka-dump-log"], "--files", ",".join(map(str, files)), seconds=300)
        text = done.stdout + done.stderr
        equal(done.returncode, 0, f"kafka-dump-log on broker {broker_id} ({text[-1000:]})")
        # A follower that is Kafka indexes the last offset of all that one fetch brought, at its first batch.
        for entry, batch in re.findall(r"Index offset: (\d+), log offset: (\d+)", text):
            assert int(entry) > int(batch), f"kafka-dump-log on broker {broker_id}: index offset {entry}, log offset {batch}"
        for bad in ("isvalid: false", "Found timestamp mismatch", "Found out of order",
                    "not found in log", "Exception", "corrupt"):
            at = text.find(bad)
            assert at < 0, f"kafka-dump-log on broker {broker_id} says {bad!r}: ...{text[max(0, at - 300):at + 600]}"


def main():
    there = SmallKafka if sys.argv[1:] == ["kafka"] else Ottla
    suite = Suite("rolling")
    if not have_kafka():
        def missing():
            raise NotRun("Apache Kafka 3.9's jars are not here (mvn, Maven Central)")
        suite.case("all", missing)
        suite.finish()
    suite.case(f"Kafka, then {there.name}, then Kafka", rolling, there, SmallKafka)
    suite.finish()


if __name__ == "__main__":
    main()
