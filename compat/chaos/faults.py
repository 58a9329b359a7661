"""The faults that a round can have, each as it is begun and as it is healed.

A fault is a function of the cluster that makes things bad and returns what makes them good again.
Its number is that of the catalogue of faults which the suite reports by; one that this machine
cannot play raises NotRun and is reported as skipped.
"""

import json
import os
import re
import shutil
import subprocess

from cases import NotRun
from harness import free_port, wait_for
from proxy import Rule
from zkclient import NoNode, expire

# (number, name, function, whether it may share a round with another fault)
FAULTS = []


def fault(number, name, alone=False):
    def add(function):
        FAULTS.append((number, name, function, alone))
        return function
    return add


def others(chaos, broker_id):
    return [b for b in chaos.cluster.ids if b != broker_id]


def both(one, many):
    return [(one, other) for other in many] + [(other, one) for other in many]


def restart(chaos, *ids):
    """Heals by starting what was ended."""
    return lambda: chaos.cluster.start(*ids)


def killed(chaos, who, broker_id):
    chaos.note(f"kill -9 of broker {broker_id}, {who}")
    chaos.cluster.kill(broker_id)
    return restart(chaos, broker_id)


@fault("F1", "kill -9 of a leader")
def kill_leader(chaos):
    return killed(chaos, "a leader", chaos.some_leader())


@fault("F1", "kill -9 of a follower")
def kill_follower(chaos):
    p = chaos.random.randrange(chaos.partitions)
    leader = chaos.cluster.leader(chaos.topic, p)
    return killed(chaos, f"a follower of partition {p}", chaos.random.choice(others(chaos, leader)))


@fault("F1", "kill -9 of the controller")
def kill_controller(chaos):
    return killed(chaos, "the controller", chaos.cluster.controller())


@fault("F1", "kill -9 of a group's coordinator")
def kill_coordinator(chaos):
    return killed(chaos, "the coordinator", chaos.coordinator())


@fault("F1", "kill -9 of all brokers", alone=True)
def kill_all(chaos):
    for broker in chaos.cluster.brokers.values():
        broker.kill()
    return restart(chaos, *chaos.cluster.ids)


@fault("F2", "SIGTERM, chasing the leader", alone=True)
def chase(chaos):
    for _ in range(chaos.times):
        leader = chaos.some_leader()
        code = chaos.cluster.brokers[leader].terminate(60)
        assert code == 143, f"broker {leader} ended with {code} after SIGTERM"
        chaos.note(f"broker {leader} stopped")
        restart(chaos, leader)()
        chaos.cluster.wait_full_isr([chaos.topic], 60)
    return lambda: None


@fault("F3", "a broker stands still")
def pause(chaos):
    seconds = chaos.random.choice([1, 1.5 * chaos.session, 3 * chaos.session] if chaos.long else [1, 1.5 * chaos.session])
    broker_id = chaos.some_leader()
    chaos.note(f"SIGSTOP of broker {broker_id} for {seconds} s")
    chaos.cluster.brokers[broker_id].pause()
    chaos.wait(seconds)
    chaos.cluster.brokers[broker_id].resume()
    return lambda: None


@fault("F4", "ZooKeeper is killed")
def kill_zookeeper(chaos):
    chaos.cluster.zookeeper.kill()
    return chaos.cluster.zookeeper.start


@fault("F4", "ZooKeeper stands still")
def pause_zookeeper(chaos):
    chaos.cluster.zookeeper.pause()
    return chaos.cluster.zookeeper.resume


@fault("F5", "a session expires")
def expire_session(chaos):
    broker_id = chaos.random.choice(list(chaos.cluster.ids))
    try:
        with chaos.cluster.nodes() as nodes:
            owner = nodes.stat(f"/brokers/ids/{broker_id}")["owner"]
    except NoNode:
        return lambda: None
    chaos.note(f"the session of broker {broker_id} ends")
    expire(chaos.cluster.zookeeper.port, owner)
    return lambda: None


def parted(chaos, pairs, what):
    chaos.note(what)
    chaos.proxy.set(pairs, Rule(stall=True))
    return lambda: chaos.proxy.set(pairs)


@fault("F6", "two brokers do not hear each other")
def part_brokers(chaos):
    one, other = chaos.random.sample(list(chaos.cluster.ids), 2)
    return parted(chaos, both(one, [other]), f"brokers {one} and {other} are parted")


@fault("F6", "a broker does not hear ZooKeeper")
def part_from_zookeeper(chaos):
    broker_id = chaos.some_leader()
    return parted(chaos, both(broker_id, ["zookeeper"]), f"broker {broker_id} is parted from ZooKeeper")


@fault("F6", "clients do not hear a broker")
def part_from_clients(chaos):
    broker_id = chaos.some_leader()
    return parted(chaos, both(broker_id, ["client"]), f"broker {broker_id} is parted from clients")


@fault("F6", "a broker is heard and hears nothing, or the other way round")
def one_way(chaos):
    broker_id = chaos.some_leader()
    rest = [*others(chaos, broker_id), "zookeeper"]
    if chaos.random.random() < 0.5:
        return parted(chaos, [(broker_id, other) for other in rest], f"nothing of broker {broker_id} arrives")
    return parted(chaos, [(other, broker_id) for other in rest], f"nothing arrives at broker {broker_id}")


@fault("F6", "a leader is alone with its clients")
def leader_alone(chaos):
    broker_id = chaos.some_leader()
    return parted(chaos, both(broker_id, [*others(chaos, broker_id), "zookeeper"]), f"broker {broker_id} is alone with its clients")


@fault("F7", "connections are reset")
def reset_storm(chaos):
    everybody = [*chaos.cluster.ids, "zookeeper", "client"]
    pairs = [(a, b) for a in everybody for b in everybody]
    for _ in range(10):
        chaos.proxy.reset(pairs)
        chaos.wait(0.3)
    return lambda: None


@fault("F7", "packets are lost at random")
def random_loss(_):
    raise NotRun("a proxy of connections cannot lose packets; it takes netem or iptables")


@fault("F8", "latency")
def latency(chaos):
    pairs = [(a, b) for a in chaos.cluster.ids for b in chaos.cluster.ids]
    chaos.proxy.set(pairs, Rule(delay=chaos.random.choice([0.02, 0.1])))
    return lambda: chaos.proxy.set(pairs)


@fault("F8", "a slow link")
def slow(chaos):
    broker_id = chaos.some_leader()
    pairs = both(broker_id, others(chaos, broker_id))
    chaos.note(f"20 kB/s from and to broker {broker_id}")
    chaos.proxy.set(pairs, Rule(rate=20000))
    return lambda: chaos.proxy.set(pairs)


@fault("F8", "connections are cut in the middle of a frame")
def cut(chaos):
    pairs = [(a, b) for a in [*chaos.cluster.ids, "client"] for b in [*chaos.cluster.ids, "client"]]
    return damaging(chaos, pairs, Rule(cut=0.05))


@fault("F8", "bits of records turn over between brokers")
def corrupt(chaos):
    # Only what a CRC protects: a turned bit in a header is another valid header.
    pairs = [(a, b) for a in chaos.cluster.ids for b in chaos.cluster.ids]
    return damaging(chaos, pairs, Rule(corrupt=0.2))


def damaging(chaos, pairs, rule):
    before = chaos.proxy.damaged
    chaos.proxy.set(pairs, rule)
    # A fault that happens to hit nothing would count as played.
    wait_for("something to be damaged", lambda: chaos.proxy.damaged > before, 30)

    def heal():
        chaos.proxy.set(pairs)
        chaos.note(f"{chaos.proxy.damaged - before} pieces damaged")
    return heal


@fault("F10", "a disk is full", alone=True)
def full(chaos):
    if not chaos.small:
        raise NotRun("no rights to mount a small file system")
    broker_id = chaos.random.choice(sorted(chaos.small))
    filler = chaos.small[broker_id] / "filler"
    chaos.note(f"a log dir of broker {broker_id} is full")
    with open(filler, "wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2

    def heal():
        filler.unlink()
        broker = chaos.cluster.brokers[broker_id]
        # A log dir that has failed stays offline until the broker starts again.
        if broker.running():
            broker.terminate(60)
        restart(chaos, broker_id)()
    return heal


# Damage to the files of a broker that is down. It is killed, and its session has ended, so that the
# others have gone on without it.


def damaged(chaos, damage):
    broker_id = chaos.some_leader()
    chaos.cluster.kill(broker_id)
    chaos.cluster.zookeeper.wait_for_session_end(f"/brokers/ids/{broker_id}")
    wait_for("the others to go on", lambda: all(
        (state := chaos.cluster.state(chaos.topic, p)) and broker_id not in (state["leader"], *state["isr"]) and state["leader"] >= 0
        for p in range(chaos.partitions)), 30)
    chaos.note(f"broker {broker_id} is down: {damage(chaos, broker_id)}")
    return restart(chaos, broker_id)


def folders(chaos, broker_id):
    return [folder for d in chaos.cluster.dirs(broker_id) for folder in sorted(d.glob(f"{chaos.topic}-*"))]


def newest(folder, suffix):
    return max(folder.glob(f"*{suffix}"), default=None)


def last_batch(path):
    """(start, end) of the last whole batch, or None."""
    data, at, found = path.read_bytes(), 0, None
    while at + 61 <= len(data) and (end := at + 12 + int.from_bytes(data[at + 8:at + 12], "big")) <= len(data):
        found, at = (at, end), end
    return found


@fault("F15", "the last batch is torn")
def torn(chaos):
    def damage(chaos, broker_id):
        for folder in folders(chaos, broker_id):
            path = newest(folder, ".log")
            if batch := last_batch(path):
                os.truncate(path, chaos.random.randrange(*batch))
        return "the last batch of each partition cut at a random byte"
    return damaged(chaos, damage)


@fault("F15", "a bit of the last batch is turned over")
def flipped(chaos):
    def damage(chaos, broker_id):
        for folder in folders(chaos, broker_id):
            path = newest(folder, ".log")
            if batch := last_batch(path):
                # From the CRC on; what is before it, nothing protects.
                flip(chaos, path, batch[0] + 17, batch[1])
        return "a bit of the last batch of each partition turned over"
    return damaged(chaos, damage)


def flip(chaos, path, start, end):
    data = bytearray(path.read_bytes())
    if start < min(end, len(data)):
        data[chaos.random.randrange(start, min(end, len(data)))] ^= 1 << chaos.random.randrange(8)
        path.write_bytes(data)


@fault("F15", "segments end in zeros")
def zeros(chaos):
    def damage(chaos, broker_id):
        for folder in folders(chaos, broker_id):
            with open(newest(folder, ".log"), "ab") as file:
                file.write(bytes(chaos.random.randrange(1, 5000)))
        return "zeros behind the last batch of each partition"
    return damaged(chaos, damage)


@fault("F15", "indexes and snapshots are damaged or gone")
def indexes(chaos):
    def damage(chaos, broker_id):
        for folder in folders(chaos, broker_id):
            for suffix in (".index", ".timeindex", ".snapshot"):
                if path := newest(folder, suffix):
                    if chaos.random.random() < 0.5:
                        path.unlink()
                    else:
                        flip(chaos, path, 0, path.stat().st_size)
        return "the newest indexes and snapshots deleted, or a bit of them turned over"
    return damaged(chaos, damage)


@fault("F16", "checkpoints are missing or empty")
def checkpoints(chaos):
    def damage(chaos, broker_id):
        hurt = []
        for folder in chaos.cluster.dirs(broker_id):
            for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint", "log-start-offset-checkpoint"):
                path = folder / name
                if path.exists():
                    hurt.append(hurt_file(chaos, path))
        for folder in folders(chaos, broker_id):
            if (path := folder / "leader-epoch-checkpoint").exists() and chaos.random.random() < 0.5:
                path.unlink()
                hurt.append(f"{folder.name}/{path.name} deleted")
                # What is before the segment that is recovered, nobody tells it again.
                chaos.load.without_epochs.add(broker_id)
        return ", ".join(hurt)
    return damaged(chaos, damage)


def hurt_file(chaos, path):
    if chaos.random.random() < 0.5:
        path.unlink()
        return f"{path.name} deleted"
    path.write_bytes(b"")
    return f"{path.name} empty"


@fault("F17", "the data of a broker is gone")
def wiped(chaos):
    def damage(chaos, broker_id):
        for folder in chaos.cluster.dirs(broker_id):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return "its log dirs are empty"
    return damaged(chaos, damage)


def refused(broker, seconds=60):
    """Starts what must not start; the end of its log."""
    broker.launch()
    try:
        code = broker.process.wait(seconds)
    except subprocess.TimeoutExpired:
        broker.kill()
        raise AssertionError(f"broker {broker.broker_id} was to be refused and runs") from None
    text = broker.log.read_text(errors="replace")
    assert code == 1, f"broker {broker.broker_id} ended with {code}: {text[-1000:]}"
    return text


@fault("F17", "a second broker with the same id", alone=True)
def same_id(chaos):
    broker_id = chaos.some_leader()
    kind = type(chaos.cluster.brokers[broker_id])
    second = kind(folder=chaos.cluster.folder / "second", port=free_port(), zookeeper=chaos.cluster.zookeeper, broker_id=broker_id,
                  settings={"log.dirs": chaos.cluster.folder / "second" / "data"})
    refused(second)
    return lambda: None


@fault("F17", "log dirs of two brokers are swapped", alone=True)
def swapped(chaos):
    one, other = chaos.random.sample(list(chaos.cluster.ids), 2)
    for broker_id in (one, other):
        chaos.cluster.brokers[broker_id].terminate(60)

    def swap():
        meta = [chaos.cluster.dirs(broker_id)[0] / "meta.properties" for broker_id in (one, other)]
        texts = [path.read_text() for path in meta]
        meta[0].write_text(texts[1])
        meta[1].write_text(texts[0])
    swap()
    try:
        text = refused(chaos.cluster.brokers[one])
        assert "meta.properties" in text or "broker.id" in text.lower() or "broker id" in text.lower(), text[-1000:]
    finally:
        swap()
    return restart(chaos, one, other)


@fault("F17", "the data of another cluster", alone=True)
def other_cluster(chaos):
    broker_id = chaos.some_leader()
    chaos.cluster.brokers[broker_id].terminate(60)
    meta = chaos.cluster.dirs(broker_id)[0] / "meta.properties"
    text = meta.read_text()
    meta.write_text(re.sub(r"cluster\.id=.*", "cluster.id=AAAAAAAAAAAAAAAAAAAAAA", text))
    try:
        assert "AAAAAAAAAAAAAAAAAAAAAA" in refused(chaos.cluster.brokers[broker_id])
    finally:
        meta.write_text(text)
    return restart(chaos, broker_id)


# Administration under load.


@fault("F18", "replicas are moved, and leaders elected")
def reassign(chaos):
    ids = list(chaos.cluster.ids)
    plan = []
    for p in range(chaos.partitions):
        chaos.random.shuffle(ids)
        # Two replicas for a while; heal() makes them three again, in another order.
        plan.append({"topic": chaos.topic, "partition": p, "replicas": ids[:2]})
    submit(chaos, plan)

    def heal():
        full = []
        for row in plan:
            third = [b for b in chaos.cluster.ids if b not in row["replicas"]]
            full.append({**row, "replicas": chaos.random.sample(row["replicas"] + third, 3)})
        submit(chaos, full)
        wait_for("the reassignment to end", lambda: not chaos.reassigning(), 60)
        chaos.cluster.wait_full_isr([chaos.topic], 60)
        chaos.admin("kafka-leader-election", "--election-type", "preferred", "--all-topic-partitions")
    return heal


def submit(chaos, plan):
    path = chaos.folder / "reassign.json"
    path.write_text(json.dumps({"version": 1, "partitions": plan}))
    # A reassignment that is under way is replaced.
    done = chaos.admin("kafka-reassign-partitions", "--reassignment-json-file", path, "--execute", "--additional")
    assert "Successfully started partition reassignment" in done.stdout, f"{done.stdout}\n{done.stderr}"


@fault("F18", "topics come, grow, go and come again")
def topics(chaos):
    name = f"side-{chaos.round}"

    def topic(*arguments):
        chaos.admin("kafka-topics", *arguments, "--topic", name, check=True)
    topic("--create", "--partitions", "3", "--replication-factor", "3")
    chaos.admin("kafka-console-producer", "--topic", name, "--producer-property", "acks=all", stdin="old\n" * 100, check=True)
    topic("--alter", "--partitions", "9")
    topic("--delete")

    def heal():
        def recreated():
            return chaos.admin("kafka-topics", "--create", "--topic", name, "--partitions", "2", "--replication-factor", "3").returncode == 0
        # Deletion waits for every replica.
        wait_for(f"{name} to be gone and made again", recreated, 60)
        wait_for("its offsets", lambda: f"{name}:1:" in chaos.admin("kafka-get-offsets", "--topic", name).stdout, 30)
        ends = [line.split(":")[2] for line in chaos.admin("kafka-get-offsets", "--topic", name, check=True).stdout.split()]
        assert ends == ["0", "0"], f"{name} was deleted and made again, and ends at {ends}"
        topic("--delete")
    return heal


