#!/usr/bin/env python3
"""Many partitions on three brokers of Apache Kafka 3.9, then of Ottla: what idleness costs, and how
long the death of the controller is felt.

`scale.py [--partitions N] [--replicas N] [--idle SECONDS] [--kinds kafka,ottla]` prints a Markdown
table. Fail-over is timed from kill -9 of the controller, and from the moment at which ZooKeeper ends
its session, until a broker that is left answers Metadata without a partition led by the dead one.
By hand only: it wants an idle machine, minutes, and a few GB of memory; for more than about 20,000
partitions a broker also the right to raise the limit of open files, and `vm.max_map_count`.
"""

import argparse
import contextlib
import os
import pathlib
import resource
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Cluster, Kafka, KafkaTools, Ottla, ZooKeeper, wait_for  # noqa: E402
from wire import Connection  # noqa: E402

KINDS = {"kafka": Kafka, "ottla": Ottla}
TICKS = os.sysconf("SC_CLK_TCK")
# More at once, and Kafka's answer does not come within the tool's 30 s on two cores.
TOPIC_PARTITIONS = 500
# Two files a partition, and Kafka maps two more.
FILES = 4


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError("VmRSS")


def pids(cluster):
    return {b: broker.process.pid for b, broker in cluster.brokers.items() if broker.running()}


def leaders(connection, topic=None):
    return [leader for leader, _ in connection.metadata(topic).values()]


def raise_limits(needed):
    """For the brokers, as whoever runs so many partitions has done."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(needed, hard), max(needed, hard)))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        print(f"{hard} files may be open, {needed} may be needed (ulimit -Hn)")
    maps = int(pathlib.Path("/proc/sys/vm/max_map_count").read_text())
    if maps < needed:
        print(f"vm.max_map_count is {maps}: Kafka may need up to {needed} (sysctl -w vm.max_map_count={needed})")


def measure(kind, options):
    """{what: value} of one kind."""
    row = {}
    with ZooKeeper() as zookeeper, KafkaTools() as tools, \
            Cluster(zookeeper, [KINDS[kind]] * 3, {"num.recovery.threads.per.data.dir": 2}) as cluster:
        begun, left, names = time.monotonic(), options.partitions, []
        while left > 0:
            names.append(f"many-{len(names)}")
            tools.run("kafka-topics", "--bootstrap-server", cluster.bootstrap, "--create", "--topic", names[-1],
                      "--partitions", str(min(left, TOPIC_PARTITIONS)), "--replication-factor", str(options.replicas), check=True)
            left -= TOPIC_PARTITIONS
        asking = {b: Connection(cluster.ports[b], 60) for b in cluster.ids}

        def led():
            return all(len(found := leaders(asking[b])) == options.partitions and min(found) > 0 for b in cluster.ids)
        wait_for("every partition to be led", led, 600)
        row["created s"] = time.monotonic() - begun
        cluster.wait_full_isr(names, 600)

        # Idle: once a window of five seconds has gone by with little work.
        def quiet():
            before = sum(map(cpu_seconds, pids(cluster).values()))
            time.sleep(5)
            return sum(map(cpu_seconds, pids(cluster).values())) - before < 2
        with contextlib.suppress(AssertionError):
            wait_for("the brokers to be idle", quiet, 180)
        cpu = {b: cpu_seconds(pid) for b, pid in pids(cluster).items()}
        rss = {b: rss_mb(pid) for b, pid in pids(cluster).items()}
        time.sleep(options.idle)
        row["idle CPU % of a core"] = max((cpu_seconds(pid) - cpu[b]) / options.idle * 100 for b, pid in pids(cluster).items())
        row["RSS MB"] = max(rss_mb(pid) for pid in pids(cluster).values())
        row["RSS growth MB"] = max(rss_mb(pid) - rss[b] for b, pid in pids(cluster).items())

        controller = cluster.controller()
        # Idle connections may have been closed.
        witness = Connection(cluster.ports[next(b for b in cluster.ids if b != controller)], 60)
        killed, ended = time.monotonic(), None
        cluster.kill(controller)
        while True:
            if ended is None:
                with cluster.nodes() as nodes:
                    if not nodes.exists(f"/brokers/ids/{controller}"):
                        ended = time.monotonic()
            if ended is not None:
                # All of them only once one topic has its leaders: a large answer costs a core.
                for topic in names[-1], None:
                    now = leaders(witness, topic)
                    if controller in now or (options.replicas > 1 and min(now) < 0):
                        break
                else:
                    break
            assert time.monotonic() - killed < 600, "no fail-over within 600 s"
            time.sleep(0.005)
        row["fail-over s"] = time.monotonic() - killed
        row["fail-over after the session's end s"] = time.monotonic() - ended
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=10000)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--idle", type=float, default=60)
    parser.add_argument("--kinds", default="kafka,ottla")
    options = parser.parse_args()
    raise_limits(FILES * options.partitions * options.replicas // 3 + 10000)
    rows = {}
    for kind in options.kinds.split(","):
        rows[kind] = measure(kind, options)
        print(kind, ", ".join(f"{what}: {value:.2f}" for what, value in rows[kind].items()), flush=True)
    print(f"\n{options.partitions} partitions, {options.replicas} replicas, three brokers\n")
    print("| | " + " | ".join(rows) + " |\n|---|" + "---|" * len(rows))
    for what in next(iter(rows.values())):
        print(f"| {what} | " + " | ".join(f"{row[what]:.2f}" for row in rows.values()) + " |")


if __name__ == "__main__":
    main()
