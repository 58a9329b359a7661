#!/usr/bin/env python3
"""Three brokers, faults and a load that remembers everything: after every fault the cluster must be
whole again within 30 s, and in the end no acknowledged record may be lost, doubled or different.

`run.py` is the short profile: one fault of each sort that the seed picks. Options: `--soak` (every
fault, again and again, with longer impacts), `--rounds N`, `--seed N`, `--kind kafka|mixed` (Apache
Kafka 3.9 is the control), `--rate N` (records a second of each producer), `--only WORD` (faults whose
name or number contains it), `--keep` (histories and logs stay even when all is well).

On success it ends with a line of figures; on failure it tells the seed, what was violated, and where
the histories, the schedule and the brokers' logs are.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from cases import NotRun, Suite  # noqa: E402
from faults import FAULTS  # noqa: E402
from harness import TARGET, Cluster, KafkaTools, Ottla, SmallKafka, ZooKeeper, free_port, have_kafka, wait_for  # noqa: E402
from history import Load, figure_line  # noqa: E402
from proxy import Proxy  # noqa: E402
from zkclient import NoNode  # noqa: E402

KINDS = {"ottla": [Ottla] * 3, "kafka": [SmallKafka] * 3, "mixed": [SmallKafka, Ottla, Ottla]}
TOPIC, GROUP, PARTITIONS = "chaos", "group-chaos", 6
SESSION = 6.0
WHOLE_WITHIN = 30.0
SMALL_BYTES = 256 << 20
# Of these numbers the short profile takes one each.
SHORT = ["F1", "F2", "F3", "F4", "F5", "F6", "F8", "F15", "F17", "F18"]


class Proxied(Cluster):
    """Brokers that clients, other brokers and the brokers' own ZooKeeper sessions reach by the proxy."""

    def __init__(self, zookeeper, kinds, seed, small):
        """`small` is {broker id: a log dir that can be filled}."""
        self.small = small
        self.proxy = Proxy(lambda: {b: broker.process.pid for b, broker in self.brokers.items() if broker.running()}, seed)
        self.brokers, self.inner, self.routes = {}, {}, {}
        self.zookeeper = zookeeper
        super().__init__(zookeeper, kinds, {"log.segment.bytes": 2000000, "log.index.size.max.bytes": 1 << 20,
                                           "replica.high.watermark.checkpoint.interval.ms": 1000})
        self.bootstrap = ",".join(f"127.0.0.1:{self.routes[b]['client']}" for b in self.ids)

    def dirs(self, broker_id):
        folder = self.folder / str(broker_id)
        return [folder / "one", self.small.get(broker_id, folder / "other")]

    def settings_of(self, broker_id):
        if broker_id not in self.routes:
            self.inner[broker_id] = free_port()
            self.routes[broker_id] = {
                "inner": self.proxy.listen(broker_id, self.inner[broker_id]),
                "client": self.proxy.listen(broker_id, self.ports[broker_id], "client"),
                "zookeeper": self.proxy.listen("zookeeper", self.zookeeper.port, broker_id)}
        route = self.routes[broker_id]
        return {**self.settings,
                "log.dirs": ",".join(map(str, self.dirs(broker_id))),
                "zookeeper.connect": f"127.0.0.1:{route['zookeeper']}",
                "listeners": f"INNER://127.0.0.1:{self.inner[broker_id]},CLIENT://127.0.0.1:{self.ports[broker_id]}",
                "advertised.listeners": f"INNER://127.0.0.1:{route['inner']},CLIENT://127.0.0.1:{route['client']}",
                "listener.security.protocol.map": "INNER:PLAINTEXT,CLIENT:PLAINTEXT",
                "inter.broker.listener.name": "INNER"}


class Monitor(threading.Thread):
    """Looks at ZooKeeper all the time. I17: controller epochs only grow. I19: the ISR is part of the
    assignment, the leader of the ISR; leader and partition epochs only grow."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.ended = cluster, threading.Event()
        self.wrong, self.looks = [], 0
        self.controller_epoch, self.epochs = 0, {}

    def run(self):
        while not self.ended.wait(0.1):
            with contextlib.suppress(NoNode, OSError, AssertionError):
                self.look()

    def look(self):
        with self.cluster.nodes() as nodes:
            epoch = int(nodes.data("/controller_epoch"))
            if epoch < self.controller_epoch:
                self.wrong.append(f"I17: controller epoch {epoch} after {self.controller_epoch}")
            self.controller_epoch = epoch
            for p in range(PARTITIONS):
                # The assignment before and after: what a reassignment has just taken out was in it.
                before = nodes.json(f"/brokers/topics/{TOPIC}")["partitions"][str(p)]
                path = f"/brokers/topics/{TOPIC}/partitions/{p}/state"
                version, state = nodes.stat(path)["version"], nodes.json(path)
                after = nodes.json(f"/brokers/topics/{TOPIC}")["partitions"][str(p)]
                if not set(state["isr"]) <= {*before, *after}:
                    self.wrong.append(f"I19: partition {p}: ISR {state['isr']} of replicas {after}")
                if state["leader"] not in (*state["isr"], -1):
                    self.wrong.append(f"I19: partition {p}: leader {state['leader']}, ISR {state['isr']}")
                last = self.epochs.get(p, (0, 0))
                if state["leader_epoch"] < last[0] or version < last[1]:
                    self.wrong.append(f"I19: partition {p}: leader epoch {state['leader_epoch']} and version {version} after {last}")
                self.epochs[p] = (state["leader_epoch"], version)
        self.looks += 1


class Chaos:
    """One run: what faults see of it."""

    def __init__(self, options, cluster, tools, folder, generator):
        self.cluster, self.tools, self.folder, self.random, self.small = cluster, tools, folder, generator, cluster.small
        self.proxy, self.topic, self.partitions, self.session = cluster.proxy, TOPIC, PARTITIONS, SESSION
        self.long = options.soak
        self.times = 5 if options.soak else 2
        self.round = 0
        self.begun = time.monotonic()
        self.schedule = open(folder / "schedule.txt", "w", buffering=1)
        self.load = None

    def note(self, text):
        self.schedule.write(f"{time.monotonic():.3f} round {self.round}: {text}\n")

    def wait(self, seconds):
        until = time.monotonic() + seconds
        wait_for("time to pass", lambda: time.monotonic() >= until, seconds + 5)

    def admin(self, tool, *arguments, **more):
        """One of Kafka's tools."""
        return self.tools.run(tool, "--bootstrap-server", self.cluster.bootstrap, *arguments, **more)

    def some_leader(self):
        """A broker that leads something: one that leads a random partition."""
        def leader():
            found = self.cluster.leader(TOPIC, self.random.randrange(PARTITIONS))
            return found if found > 0 and self.cluster.brokers[found].running() else None
        return wait_for("a leader", leader)

    def coordinator(self):
        h = 0
        for c in GROUP:
            h = (31 * h + ord(c)) & 0xFFFFFFFF
        p = (h & 0x7FFFFFFF) % self.cluster.settings["offsets.topic.num.partitions"]
        return wait_for("a coordinator", lambda: (leader := self.cluster.leader("__consumer_offsets", p)) > 0 and leader)

    def reassigning(self):
        with self.cluster.nodes() as nodes:
            node = nodes.json(f"/brokers/topics/{TOPIC}")
            return node["adding_replicas"] or node["removing_replicas"]

    def play(self, faults, steady, impact):
        """One round; returns how long the cluster took to be whole again."""
        self.round += 1
        self.wait(steady)
        heals = []
        for number, name, function, _ in faults:
            self.note(f"begin {number} {name}")
            heals.append((number, name, function(self)))
        self.wait(impact)
        # The last one first: a topic can only come again when the broker parted after it is back.
        for number, name, heal in reversed(heals):
            self.note(f"heal {number} {name}")
            heal()
        healed = time.monotonic()
        self.note("healed")
        self.cluster.wait_full_isr([TOPIC, "__consumer_offsets"], WHOLE_WITHIN)
        left = max(healed + WHOLE_WITHIN - time.monotonic(), 1)
        self.load.wait_acked_everywhere(seconds=left)
        self.load.wait_group_reads(max(healed + WHOLE_WITHIN - time.monotonic(), 1))
        took = time.monotonic() - healed
        self.note(f"whole after {took:.1f} s")
        return took


def rounds(options, generator):
    """Lists of faults, one a round: every fault once before any comes again."""
    chosen = [f for f in FAULTS if not options.only or any(word in (f[0], *f[1].split()) or word in f[1] for word in options.only)]
    if not options.soak and not options.only:
        chosen = [generator.choice([f for f in FAULTS if f[0] == number]) for number in SHORT]
    count = options.rounds or (len(chosen) if not options.soak else max(30, len(chosen)))
    deck = []
    for _ in range(count):
        if not deck:
            deck = generator.sample(chosen, len(chosen))
        first = deck.pop()
        pair = [first]
        # Sometimes two at once.
        if options.soak and not first[3] and generator.random() < 0.3:
            second = generator.choice([f for f in FAULTS if not f[3] and f[0] not in (first[0], "F7", "F15", "F16", "F17", "F18")])
            pair.append(second)
            # Some faults ask ZooKeeper whom to hit.
            pair.sort(key=lambda fault: fault[0] == "F4")
        yield pair


@contextlib.contextmanager
def small_log_dir(folder):
    """A file system that can be filled, where there is the right to mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "ottla-chaos", str(folder)],
                             capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def run(options, seed, suite):
    generator = random.Random(seed)
    kept = TARGET / "chaos" / str(seed)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ottla-chaos-", ignore_cleanup_errors=True)))
        zookeeper = stack.enter_context(ZooKeeper())
        tools = stack.enter_context(KafkaTools())
        path = folder / "small"
        small = {generator.choice([1, 2, 3]): path} if stack.enter_context(small_log_dir(path)) else {}
        cluster = stack.enter_context(Proxied(zookeeper, KINDS[options.kind], seed, small))
        chaos = Chaos(options, cluster, tools, folder, generator)
        monitor = Monitor(cluster)
        try:
            figures = drive(options, chaos, monitor, suite)
        except BaseException:
            keep(kept, chaos)
            print(f"chaos: seed {seed}; histories, schedule and logs are in {kept}", flush=True)
            raise
        finally:
            monitor.ended.set()
            if chaos.load is not None:
                chaos.load.abandon()
        if options.keep:
            keep(kept, chaos)
    return figures


def drive(options, chaos, monitor, suite):
    steady, impact = (15, 15) if options.soak else (2, 5)
    cluster = chaos.cluster
    chaos.admin("kafka-topics", "--create", "--topic", TOPIC, "--partitions", str(PARTITIONS), "--replication-factor", "3", check=True)
    cluster.wait_full_isr([TOPIC])
    cluster.wait_served(TOPIC)
    chaos.load = Load(chaos.folder, cluster.bootstrap, TOPIC, PARTITIONS, producers=2, plain=1, members=2, rate=options.rate)
    chaos.load.wait_acked_everywhere()
    chaos.load.wait_group_reads()
    monitor.start()
    recoveries, played, skipped = [], collections.Counter(), collections.Counter()
    for faults in rounds(options, chaos.random):
        names = " and ".join(f"{number} {name}" for number, name, _, _ in faults)
        try:
            took = chaos.play(faults, steady, impact)
        except NotRun as reason:
            skipped[faults[0][0]] += 1
            suite.ended("skipped", f"NOT RUN chaos {names}: {reason}")
            continue
        except AssertionError as failure:
            raise AssertionError(f"round {chaos.round}, {names}: {failure}") from None
        played.update(number for number, _, _, _ in faults)
        recoveries.append(took)
        print(f"  round {chaos.round}: {names}: whole after {took:.1f} s", flush=True)
    monitor.ended.set()
    monitor.join(30)
    figures, wrong = chaos.load.finish({b: cluster.dirs(b) for b in cluster.ids})
    for line in monitor.wrong:
        wrong.add(*line.split(": ", 1))
    for broker_id, broker in cluster.brokers.items():
        for path in broker.logs():
            for line in path.read_text(errors="replace").splitlines():
                if "panicked at" in line:
                    wrong.add("I21", f"broker {broker_id}: {line}")
        if not broker.running():
            wrong.add("I21", f"broker {broker_id} does not run in the end")
    assert monitor.looks > 0, "ZooKeeper was never looked at"
    assert not wrong, wrong.text()
    return {"rounds": len(recoveries), **figures, "longest recovery": max(recoveries, default=0.0),
            "faults": " ".join(f"{number}×{count}" for number, count in sorted(played.items())),
            "skipped": " ".join(sorted(skipped)) or "none"}


def keep(kept, chaos):
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for path in [*chaos.folder.glob("*.history"), *chaos.folder.glob("*.err"), chaos.folder / "schedule.txt"]:
        shutil.copy(path, kept)
    for broker_id in chaos.cluster.ids:
        for path in chaos.cluster.brokers[broker_id].logs():
            shutil.copy(path, kept / f"{broker_id}-{path.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, default="ottla")
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--rate", type=int)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--only", action="append")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    options.rate = options.rate or (500 if options.soak else 150)
    suite = Suite("chaos" if options.kind == "ottla" else f"chaos {options.kind}")
    print(f"chaos: seed {options.seed}", flush=True)

    def everything():
        if not have_kafka():
            raise NotRun("Apache Kafka 3.9's jars are not here (mvn, Maven Central)")
        print(f"  {figure_line(run(options, options.seed, suite))}", flush=True)
    suite.case(f"seed {options.seed}", everything)
    suite.finish()


if __name__ == "__main__":
    main()
