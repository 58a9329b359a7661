#!/usr/bin/env python3
"""Three brokers on one ZooKeeper under load: what a cluster must survive, and what it must not lose.

`run.py [CASE…]` on Ottla, `run.py kafka [CASE…]` on Apache Kafka 3.9, which says whether a case is
fair, `run.py mixed [CASE…]` on both in one cluster. A word selects the cases that contain it.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite, equal  # noqa: E402
from harness import Cluster, Ottla, SmallKafka, Znodes, ZooKeeper, have_kafka, kafka_tool, start_all, wait_for  # noqa: E402
from harness import TOOLS, KafkaTools  # noqa: E402
from history import Load, figure_line  # noqa: E402
from wire import Connection  # noqa: E402
from zkclient import NoNode, expire  # noqa: E402

KINDS = {"ottla": [Ottla] * 3, "kafka": [SmallKafka] * 3, "mixed": [SmallKafka, Ottla, Ottla]}
SESSION = 6.0
PARTITIONS = 6
NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND = 6, 7, 19, 20


class TwoDirs(Cluster):
    """Every broker has two log dirs, and checkpoints often enough to see soon that one is gone."""

    def dirs(self, broker_id):
        return [self.folder / str(broker_id) / name for name in ("one", "other")]

    def settings_of(self, broker_id):
        return {**self.settings, "log.dirs": ",".join(map(str, self.dirs(broker_id))),
                "replica.high.watermark.checkpoint.interval.ms": 1000}


class Cases:
    def __init__(self, zookeeper, cluster, tools):
        self.zookeeper, self.cluster, self.tools = zookeeper, cluster, tools
        self.number = 0

    def tool(self, name, *arguments, **more):
        return self.tools.run(name, "--bootstrap-server", self.cluster.bootstrap, *arguments, check=True, **more).stdout

    def create(self, topic, partitions=PARTITIONS, *more):
        self.tool("kafka-topics", "--create", "--topic", topic, "--partitions", str(partitions), "--replication-factor", "3", *more)
        self.cluster.wait_full_isr([topic])
        self.cluster.wait_served(topic)

    @contextlib.contextmanager
    def load(self, **more):
        """A topic under load; checked when the block is left, with the cluster whole again."""
        self.number += 1
        topic = f"load-{self.number}"
        self.create(topic)
        with tempfile.TemporaryDirectory(prefix="ottla-load-") as folder:
            load = Load(folder, self.cluster.bootstrap, topic, PARTITIONS, **more)
            try:
                load.wait_acked_everywhere()
                load.wait_group_reads()
                yield load
                self.cluster.wait_full_isr([topic, "__consumer_offsets"], 30)
                load.wait_acked_everywhere()
                figures, wrong = load.finish({b: self.cluster.dirs(b) for b in self.cluster.ids})
                if wrong:
                    self.cluster.keep(topic, folder)
            finally:
                load.abandon()
        print(f"  {topic}: {figure_line(figures)}", flush=True)
        assert not wrong, wrong.text()

    def busiest(self, topic):
        """The broker that leads partition 0, and the partitions it leads."""
        states = {p: self.cluster.leader(topic, p) for p in range(PARTITIONS)}
        return states[0], [p for p, leader in states.items() if leader == states[0]]

    def coordinator_of(self, group):
        """Who leads the partition of __consumer_offsets that the group falls into."""
        h = 0
        for c in group:
            h = (31 * h + ord(c)) & 0xFFFFFFFF
        return self.cluster.leader("__consumer_offsets", (h & 0x7FFFFFFF) % self.cluster.settings["offsets.topic.num.partitions"])

    def describe(self):
        self.create("described", 3)
        text = self.tool("kafka-topics", "--describe", "--topic", "described")
        head, *rows = text.splitlines()
        assert "PartitionCount: 3\tReplicationFactor: 3" in head, text
        equal(len(rows), 3, "lines of partitions")
        for row in rows:
            found = re.search(r"Partition: \d\tLeader: (\d)\tReplicas: ([\d,]+)\tIsr: ([\d,]+)", row)
            assert found, row
            replicas, isr = found.group(2).split(","), found.group(3).split(",")
            equal(sorted(replicas), ["1", "2", "3"], f"replicas in {row!r}")
            equal(sorted(isr), ["1", "2", "3"], f"isr in {row!r}")
            equal(found.group(1), replicas[0], f"leader in {row!r}")
        equal(sorted(row.split("Leader: ")[1][0] for row in rows), ["1", "2", "3"], "leaders")

    def kill_leader(self):
        with self.load() as load:
            victim, led = self.busiest(load.topic)
            epochs = {p: self.cluster.state(load.topic, p)["leader_epoch"] for p in led}
            killed = time.monotonic()
            self.cluster.kill(victim)
            served = load.wait_acked_everywhere(since=killed, seconds=SESSION + 10, partitions=led) - killed
            for p in led:
                state = self.cluster.state(load.topic, p)
                assert state["leader"] not in (victim, -1) and victim not in state["isr"], f"partition {p}: {state}"
                assert state["leader_epoch"] > epochs[p], f"partition {p}: leader epoch {state['leader_epoch']} after {epochs[p]}"
            print(f"  new leaders of {len(led)} partitions acknowledge {served:.2f} s after kill -9", flush=True)
            # A tick of ZooKeeper may pass before it looks at sessions.
            assert served <= SESSION + 1 + self.zookeeper.tick_ms / 1000, f"{served:.2f} s until a new leader acknowledged"
            self.cluster.start(victim)

    def kill_controller(self):
        with self.load() as load:
            victim = self.cluster.controller()
            with self.cluster.nodes() as nodes:
                epoch = int(nodes.data("/controller_epoch"))
            self.cluster.kill(victim)

            def another():
                with contextlib.suppress(NoNode), self.cluster.nodes() as nodes:
                    return nodes.json("/controller")["brokerid"] != victim and int(nodes.data("/controller_epoch")) > epoch
            wait_for("another controller", another, SESSION + 5)
            load.wait_acked_everywhere(seconds=SESSION + 10)
            # The new controller works: a topic on those that are left.
            self.number += 1
            self.tool("kafka-topics", "--create", "--topic", f"after-{self.number}", "--partitions", "2", "--replication-factor", "2")
            self.cluster.start(victim)

    def kill_all(self):
        with self.load() as load:
            for broker in self.cluster.brokers.values():
                broker.kill()
            for broker_id in self.cluster.ids:
                self.zookeeper.wait_for_session_end(f"/brokers/ids/{broker_id}")
            start_all(self.cluster.brokers.values())
            load.wait_acked_everywhere(seconds=60)

    def controlled_shutdown(self):
        with self.load() as load:
            victim, led = self.busiest(load.topic)
            begun = time.monotonic()
            code = self.cluster.brokers[victim].terminate(60)
            took = time.monotonic() - begun
            equal(code, 143, "exit code")
            for p in range(PARTITIONS):
                state = self.cluster.state(load.topic, p)
                assert state["leader"] not in (victim, -1), f"partition {p} after a controlled shutdown: {state}"
                assert victim not in state["isr"], f"partition {p} after a controlled shutdown: {state}"
            assert victim not in self.cluster.registered(), "still registered after its end"
            served = load.wait_acked_everywhere(since=begun, seconds=30, partitions=led)
            load.wait_acked_everywhere(seconds=30)
            gap = max_gap(load, led, begun)
            print(f"  stopped in {took:.2f} s, longest gap between acknowledgements {gap:.2f} s", flush=True)
            assert served and gap < SESSION / 2, f"{gap:.2f} s without an acknowledgement during a controlled shutdown"
            self.cluster.start(victim)

    def coordinator_moves(self):
        with self.load(members=2) as load:
            group = f"group-{load.topic}"
            before = self.committed(group, load.topic)
            for how in ("terminate", "kill"):
                victim = self.coordinator_of(group)
                getattr(self.cluster.brokers[victim], how)()
                wait_for("another coordinator", lambda victim=victim: self.coordinator_of(group) not in (victim, -1), SESSION + 5)
                after = self.committed(group, load.topic)
                for p, offset in before.items():
                    assert after.get(p, -1) >= offset, f"partition {p}: {offset} was committed, the new coordinator says {after.get(p)}"
                load.wait_group_reads()
                self.cluster.start(victim)
                self.cluster.wait_full_isr(["__consumer_offsets", load.topic], 30)
                before = after

    def committed(self, group, topic):
        """{partition: committed offset}, asked until the coordinator answers."""
        def ask():
            done = self.tools.run("kafka-consumer-groups", "--bootstrap-server", self.cluster.bootstrap, "--describe", "--group", group)
            rows = [line.split() for line in done.stdout.splitlines() if line.startswith(group)]
            return {int(row[2]): int(row[3]) for row in rows if row[1] == topic and row[3] != "-"}
        return wait_for(f"committed offsets of {group}", ask, 30)

    def zookeeper_away(self):
        away = float(os.environ.get("CLUSTER_ZOOKEEPER_AWAY", "8"))
        with self.load() as load:
            self.zookeeper.kill()
            # Longer than the session: nobody may act on a session that only seems to have ended.
            until = time.monotonic() + away
            while time.monotonic() < until:
                load.wait_acked_everywhere(seconds=5)
                load.wait_group_reads(10)
            self.zookeeper.start()
            wait_for("every broker in ZooKeeper", lambda: self.cluster.registered() == list(self.cluster.ids), 30)
            self.number += 1
            self.create(f"after-{self.number}", 3)

    def session_expires(self):
        for who in ("the controller", "a broker that is not"):
            with self.load() as load:
                controller = self.cluster.controller()
                victim = controller if who == "the controller" else next(b for b in self.cluster.ids if b != controller)
                with self.cluster.nodes() as nodes:
                    old = nodes.stat(f"/brokers/ids/{victim}")
                    expire(self.zookeeper.port, old["owner"])

                    def again():
                        with contextlib.suppress(NoNode):
                            stat = nodes.stat(f"/brokers/ids/{victim}")
                            return stat["owner"] != old["owner"] and stat
                    now = wait_for(f"{who} to register again", again, 20)
                assert now["czxid"] > old["czxid"], f"broker epoch {now['czxid']} after {old['czxid']}"
                self.cluster.wait_full_isr([load.topic], 30)

    def paused_leader(self):
        with self.load() as load:
            victim, led = self.busiest(load.topic)
            connection = Connection(self.cluster.ports[victim])
            connection.send_produce(load.topic, led[0], "wire-0")
            equal(connection.produced()[0], 0, "error of a record sent straight to the leader")
            self.cluster.brokers[victim].pause()
            paused = time.monotonic()
            try:
                # It is in the old leader's socket when it wakes.
                connection.send_produce(load.topic, led[0], "wire-1")
                wait_for("other leaders", lambda: all(self.cluster.leader(load.topic, p) not in (victim, -1) for p in led), SESSION + 10)
                load.wait_acked_everywhere(since=paused, partitions=led)
                wait_for("three sessions to pass", lambda: time.monotonic() > paused + 3 * SESSION, 4 * SESSION)
            finally:
                self.cluster.brokers[victim].resume()
            try:
                error, offset = connection.produced()
                # It may have become the leader again by the time it looks at the request: then the
                # record is at the offset it names, which the check of values below would show.
                assert error in (NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND), \
                    f"error {error}, offset {offset}: a leader that was replaced while it slept acknowledged"
            except ConnectionError:
                pass
            finally:
                connection.close()
            load.extra = {"wire-0", "wire-1"}
            wait_for("the paused broker in ZooKeeper", lambda: victim in self.cluster.registered(), 30)

    def log_dir_fails(self):
        with self.load() as load:
            topic = load.topic
            victim, _ = self.busiest(topic)
            one, other = self.cluster.dirs(victim)
            lost = sorted(int(path.name.rpartition("-")[2]) for path in one.glob(f"{topic}-*"))
            kept = sorted(int(path.name.rpartition("-")[2]) for path in other.glob(f"{topic}-*"))
            assert lost and kept, f"partitions {lost} and {kept} in the two log dirs of broker {victim}"
            one.rename(one.with_name("one.gone"))
            # Whatever writes next in it fails: a checkpoint, at the latest.

            def moved():
                states = {p: self.cluster.state(topic, p) for p in lost}
                return all(s["leader"] not in (victim, -1) and victim not in s["isr"] for s in states.values())
            wait_for(f"partitions {lost} to leave broker {victim}", moved, 60)
            assert self.cluster.brokers[victim].running() and victim in self.cluster.registered(), "the broker went with its log dir"
            for p in kept:
                assert victim in self.cluster.state(topic, p)["isr"], f"partition {p} is in the log dir that is well"
            load.wait_acked_everywhere()
            equal(self.cluster.brokers[victim].terminate(60), 143, "exit code")
            # A new disk in its place.
            shutil.rmtree(one, ignore_errors=True)
            one.mkdir()
            self.cluster.start(victim)

    def log_dirs_move(self):
        """Every replica moves to the other log dir of its broker, under load; one broker is killed meanwhile."""
        with self.load() as load:
            topic = load.topic
            load.wait_acked_everywhere(since=time.monotonic() + 5)

            def folders(suffix):
                return [path for b in self.cluster.ids for one in self.cluster.dirs(b) for path in one.glob(f"{topic}-*{suffix}")]
            wished, partitions = set(), []
            for p in range(PARTITIONS):
                replicas = self.cluster.assignment(topic)[p]
                targets = []
                for b in replicas:
                    one, other = self.cluster.dirs(b)
                    targets.append(other if (one / f"{topic}-{p}").exists() else one)
                    wished.add(targets[-1] / f"{topic}-{p}")
                partitions.append({"topic": topic, "partition": p, "replicas": replicas, "log_dirs": list(map(str, targets))})
            with tempfile.TemporaryDirectory(prefix="ottla-plan-") as folder:
                plan = pathlib.Path(folder, "plan.json")
                plan.write_text(json.dumps({"version": 1, "partitions": partitions}))
                moves = ["--reassignment-json-file", plan]
                begun = self.tool("kafka-reassign-partitions", *moves, "--execute", "--replica-alter-log-dirs-throttle", "50000")
                assert "The replica-alter-dir throttle limit was set to 50000 B/s" in begun, begun
                for path in wished:
                    p = path.name.rpartition("-")[2]
                    assert f"Successfully started moving log directory to {path.parent} for replica {topic}-{p} with broker" in begun, begun
                moving = self.tool("kafka-reassign-partitions", *moves, "--verify")
                assert "is still in progress" in moving, moving
                victim, _ = self.busiest(topic)
                wait_for("a copy on the way", lambda: [f for f in folders("-future") if f"/{victim}/" in str(f)], 30)
                self.cluster.kill(victim)
                load.wait_acked_everywhere(seconds=SESSION + 10)
                self.cluster.start(victim)
                for b in self.cluster.ids:
                    self.tool("kafka-configs", "--alter", "--entity-type", "brokers", "--entity-name", str(b),
                              "--delete-config", "replica.alter.log.dirs.io.max.bytes.per.second")

                def done():
                    text = self.tool("kafka-reassign-partitions", *moves, "--verify")
                    return text if "in progress" not in text and text.count("completed successfully") >= len(wished) else None
                verified = wait_for("the moves to end", done, 120)
            for p in range(PARTITIONS):
                for b in self.cluster.ids:
                    line = f"Reassignment of replica {topic}-{p}-{b} completed successfully."
                    assert line in verified, f"{line!r} is not in {verified}"
            found = {path for path in folders("") if "." not in path.name}
            equal(sorted(map(str, found)), sorted(map(str, wished)), "folders of the partitions")
            equal(folders("-future"), [], "copies left")
            for path in sorted(wished):
                for segment in sorted(path.glob("*.log")):
                    dumped = self.tools.run("kafka-dump-log", "--deep-iteration", "--files", segment, check=True).stdout
                    assert "isvalid: false" not in dumped and "Found" not in dumped, f"{segment}: {dumped[-2000:]}"

    def throttled_reassignment(self):
        megabytes, rate, slack = 8, 1 << 20, 1 << 20
        # The last fetch may come when the others are within the rate, which is taken over whole seconds.
        at_least = ((megabytes << 20) - 2 * slack) / rate
        for name, throttle in (("throttled", ["--throttle", str(rate)]), ("unthrottled", [])):
            self.tool("kafka-topics", "--create", "--topic", name, "--replica-assignment", "1", "--config", "min.insync.replicas=1")
            self.cluster.wait_full_isr([name])
            self.cluster.wait_served(name)
            self.tools.run("kafka-producer-perf-test", "--topic", name, "--num-records", str(megabytes << 10), "--record-size", "1024",
                           "--throughput", "-1", "--producer-props", f"bootstrap.servers={self.cluster.bootstrap}", "acks=all", check=True)
            with tempfile.TemporaryDirectory(prefix="ottla-plan-") as folder:
                plan = pathlib.Path(folder, "plan.json")
                plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": name, "partition": 0, "replicas": [2]}]}))
                self.tool("kafka-reassign-partitions", "--reassignment-json-file", plan, "--execute", *throttle)
                begun = time.monotonic()
                wait_for(f"{name} to move", lambda name=name: (self.cluster.state(name, 0) or {}).get("isr") == [2], 120)
                took = time.monotonic() - begun
                self.tool("kafka-reassign-partitions", "--reassignment-json-file", plan, "--verify")
            print(f"  {name}: {megabytes} MiB in {took:.2f} s", flush=True)
            if throttle:
                assert took >= at_least, f"{took:.2f} s for {megabytes} MiB at {rate} bytes per second, which takes {at_least:.2f} s"
            else:
                assert took < at_least, f"{took:.2f} s without a throttle"
        shown = self.tool("kafka-configs", "--describe", "--entity-type", "brokers", "--entity-name", "1")
        assert "throttled" not in shown, f"--verify left a throttle: {shown}"


def max_gap(load, partitions, since):
    """The longest time between two acknowledgements of one partition, of a producer."""
    longest = 0.0
    for process in load.producers.values():
        times = {}
        for words in process.lines():
            p = int(words[2]) if words[0] == "A" else -1
            if p in partitions and float(words[4]) > since - 1:
                at = float(words[4])
                longest = max(longest, at - times.get(p, at))
                times[p] = at
    return longest


def main():
    arguments = sys.argv[1:]
    which = arguments.pop(0) if arguments and arguments[0] in KINDS else "ottla"
    suite = Suite("cluster" if which == "ottla" else f"cluster {which}")
    if not have_kafka():
        def missing():
            raise NotRun("Apache Kafka 3.9's jars are not here (mvn, Maven Central)")
        suite.case("all", missing)
        suite.finish()
    with ZooKeeper() as zookeeper, KafkaTools() as tools, TwoDirs(zookeeper, KINDS[which]) as cluster:
        cases = Cases(zookeeper, cluster, tools)
        for name, function in (
                ("three replicas, created and described", cases.describe),
                ("kill -9 of a leader", cases.kill_leader),
                ("kill -9 of the controller", cases.kill_controller),
                ("controlled shutdown of a leader", cases.controlled_shutdown),
                ("a group's coordinator stops and is killed", cases.coordinator_moves),
                ("ZooKeeper goes and comes back", cases.zookeeper_away),
                ("sessions expire", cases.session_expires),
                ("a leader stands still for three sessions", cases.paused_leader),
                ("a log dir fails", cases.log_dir_fails),
                ("a throttled reassignment takes its time", cases.throttled_reassignment),
                ("replicas move between log dirs, with a kill -9", cases.log_dirs_move),
                ("kill -9 of all brokers at once", cases.kill_all)):
            if not arguments or any(word in name for word in arguments):
                if not suite.case(name, function):
                    revive(cluster)
    suite.finish()


def revive(cluster):
    """A failed case must not fail those after it."""
    with contextlib.suppress(Exception):
        if not cluster.zookeeper.running():
            cluster.zookeeper.start()
        for broker_id, broker in cluster.brokers.items():
            broker.resume()
            if not broker.running():
                cluster.start(broker_id)


if __name__ == "__main__":
    main()
