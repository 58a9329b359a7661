#!/usr/bin/env python3
"""Ottla beside Apache Kafka 3.9 in one run: start-up, memory, size, and Kafka's own performance tools.

Both brokers have the same settings and one ZooKeeper; what is timed alternates between them. Prints
a Markdown table of medians, spreads and paired ratios, and fails when Ottla is the slower one.
`run.py [--pairs N] [--records N] [--starts N]`; the machine should be idle otherwise.
"""

import argparse
import contextlib
import os
import pathlib
import platform
import socket
import statistics
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from harness import JAVA, KAFKA_LIBS, TOOLS, Kafka, Ottla, ZooKeeper, ottla_binary, wait_for  # noqa: E402

RECORD_BYTES = 1024
PARTITIONS = 16
TICKS = os.sysconf("SC_CLK_TCK")
# Metadata v1 for all topics, from a client without a name.
METADATA = struct.pack(">ihhihi", 14, 3, 1, 1, -1, -1)
SETTINGS = {"log.retention.check.interval.ms": 300000}
IDLE_LIMIT_MB = 30
START_LIMIT_MS = 100


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def status_mb(pid, field):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def first_metadata_ms(broker):
    """From spawning the process to the last byte of its first Metadata answer."""
    started = time.monotonic()
    broker.launch()
    while True:
        assert broker.running(), broker.log.read_text(errors="replace")[-2000:]
        assert time.monotonic() - started < 120, "no Metadata answer within 120 s"
        with contextlib.suppress(OSError, struct.error):
            with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
                connection.sendall(METADATA)
                stream = connection.makefile("rb")
                length, = struct.unpack(">i", stream.read(4))
                if len(stream.read(length)) == length:
                    return (time.monotonic() - started) * 1000
        time.sleep(0.001)


def idle_rss_mb(pid):
    """Once a window of two seconds has gone by with next to no work."""
    def quiet():
        before = cpu_seconds(pid)
        time.sleep(2)
        return cpu_seconds(pid) - before < 0.1
    wait_for("the broker to be idle", quiet, 120)
    return status_mb(pid, "VmRSS")


def tool(main_class, *arguments):
    """One of Kafka's performance tools, with the heap that Kafka's scripts give it."""
    done = subprocess.run(
        [JAVA, "-Xmx512m", "-cp", f"{KAFKA_LIBS}/*", main_class, *map(str, arguments)],
        capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{main_class}: {done.stdout[-1000:]}\n{done.stderr[-2000:]}"
    return done.stdout


class Measured:
    """What a run of a tool cost the broker, and what the tool printed."""

    def __init__(self, broker, records, run, speed):
        pid = broker.process.pid
        before = cpu_seconds(pid)
        self.mb_per_second = speed(run())
        gigabytes = records * RECORD_BYTES / 1e9
        self.cpu_per_gb = (cpu_seconds(pid) - before) / gigabytes


def produce(broker, topic, records, acks):
    def speed(output):
        return float(output.strip().splitlines()[-1].split("(")[1].split(" MB/sec")[0])
    return Measured(broker, records, lambda: tool(
        TOOLS["kafka-producer-perf-test"], "--topic", topic, "--num-records", records, "--record-size", RECORD_BYTES,
        "--throughput", -1, "--producer-props", f"bootstrap.servers={broker.bootstrap}", f"acks={acks}"), speed)


def consume(broker, topic, records):
    def speed(output):
        cells = output.strip().splitlines()[-1].split(", ")
        assert int(cells[4]) >= records, f"{cells[4]} of {records} records were read"
        # Without the time the group took to form.
        return float(cells[8])
    return Measured(broker, records, lambda: tool(
        TOOLS["kafka-consumer-perf-test"], "--bootstrap-server", broker.bootstrap, "--topic", topic,
        "--messages", records, "--group", f"group-{topic}"), speed)


def topics(broker, *arguments):
    tool(TOOLS["kafka-topics"], "--bootstrap-server", broker.bootstrap, *arguments)


class Figures:
    """Values of both brokers by what was measured."""

    def __init__(self):
        self.rows = {}

    def add(self, what, kafka, ottla):
        self.rows.setdefault(what, []).append((kafka, ottla))
        print(f"{what}: Kafka {kafka:.2f}, Ottla {ottla:.2f}", flush=True)

    def median_ratio(self, what):
        return statistics.median(ottla / kafka for kafka, ottla in self.rows[what])

    def ottla_median(self, what):
        return statistics.median(ottla for _, ottla in self.rows[what])

    def table(self):
        lines = ["| | Kafka 3.9 | Ottla | Ottla : Kafka, paired |", "|---|---|---|---|"]
        for what, pairs in self.rows.items():
            cells = [cell(values) for values in zip(*pairs)]
            ratios = cell([ottla / kafka for kafka, ottla in pairs])
            lines.append(f"| {what} | {cells[0]} | {cells[1]} | {ratios} |")
        return "\n".join(lines)


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def cell(values):
    values = list(values)
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}–{number(max(values))})"


START = "start to first Metadata answer, ms"
IDLE = "RSS when idle, MB"
SIZE = "what must be on disk to run it, MB"
PEAK = "peak RSS over all runs below, MB"


def starts(figures, zookeeper, count):
    for n in range(count):
        pair = []
        for kind in (Kafka, Ottla):
            broker = kind(zookeeper=f"{zookeeper.connect}/start-{kind.name}-{n}", settings=SETTINGS)
            try:
                pair.append(first_metadata_ms(broker))
            finally:
                broker.__exit__()
        figures.add(START, *pair)


def throughput(figures, kafka, ottla, pairs, records):
    for broker in (kafka, ottla):
        topics(broker, "--create", "--topic", "warm-up", "--partitions", PARTITIONS)
        produce(broker, "warm-up", records, 1)
        consume(broker, "warm-up", records)
        topics(broker, "--delete", "--topic", "warm-up")
    for n in range(pairs):
        for acks in (1, "all"):
            topic = f"pair-{n}-acks-{acks}"
            sent, read = [], []
            for broker in (kafka, ottla):
                topics(broker, "--create", "--topic", topic, "--partitions", PARTITIONS)
                sent.append(produce(broker, topic, records, acks))
            for broker in (kafka, ottla):
                read.append(consume(broker, topic, records))
            for broker in (kafka, ottla):
                topics(broker, "--delete", "--topic", topic)
            figures.add(f"producer-perf-test acks={acks}, MB/s", *(one.mb_per_second for one in sent))
            figures.add(f"producer-perf-test acks={acks}, broker CPU s per GB", *(one.cpu_per_gb for one in sent))
            figures.add("consumer-perf-test, MB/s", *(one.mb_per_second for one in read))
            figures.add("consumer-perf-test, broker CPU s per GB", *(one.cpu_per_gb for one in read))


def complaints(figures):
    found = []
    if figures.ottla_median(START) > START_LIMIT_MS:
        found.append(f"{START}: over {START_LIMIT_MS}")
    if figures.ottla_median(IDLE) > IDLE_LIMIT_MB:
        found.append(f"{IDLE}: over {IDLE_LIMIT_MB}")
    for what in figures.rows:
        if what.endswith("MB/s") and figures.median_ratio(what) < 1:
            found.append(f"{what}: {figures.median_ratio(what):.2f} of Kafka's")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--records", type=int, default=1_000_000, help="of 1 KiB, per run")
    parser.add_argument("--starts", type=int, default=7)
    arguments = parser.parse_args()
    figures = Figures()
    with ZooKeeper() as zookeeper:
        starts(figures, zookeeper, arguments.starts)
        with Kafka(zookeeper=f"{zookeeper.connect}/kafka", settings=SETTINGS) as kafka, \
                Ottla(zookeeper=f"{zookeeper.connect}/ottla", settings=SETTINGS) as ottla:
            pids = [broker.process.pid for broker in (kafka, ottla)]
            figures.add(IDLE, *map(idle_rss_mb, pids))
            jars = sum(path.stat().st_size for path in KAFKA_LIBS.glob("*.jar"))
            figures.add(SIZE, jars / 1e6, os.stat(ottla_binary()).st_size / 1e6)
            throughput(figures, kafka, ottla, arguments.pairs, arguments.records)
            figures.add(PEAK, *(status_mb(pid, "VmHWM") for pid in pids))
    java = subprocess.run([JAVA, "-version"], capture_output=True, text=True).stderr.splitlines()[0]
    print(f"\n{os.cpu_count()} cores, {platform.system()} {platform.release()}, {java}; records of {RECORD_BYTES} B, "
          f"{PARTITIONS} partitions, {arguments.records} records per run, {arguments.pairs} pairs; median (min–max)\n")
    print(figures.table())
    found = complaints(figures)
    for complaint in found:
        print(f"FAILED {complaint}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
