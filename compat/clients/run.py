#!/usr/bin/env python3
"""Real clients against Ottla: the scenarios of README.md, each on both coordination stores.

`run.py [CLIENT…]` runs some; `run.py --reference [CLIENT…]` runs them against Apache Kafka 3.9.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from cases import NotRun, Suite, equal  # noqa: E402
from harness import JAVA, KAFKA_LIBS, TARGET, Kafka, Ottla, ZooKeeper, wait_for  # noqa: E402

BUILT = TARGET / "compat"
PYTHON = [str(BUILT / "python" / "bin" / "python"), str(HERE / "python" / "client.py")]
# Clients at a time: most of what they do is waiting for rebalances and restarts.
BESIDE = 3
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


class Client:
    def __init__(self, name, command, missing, codecs=CODECS, env=None):
        self.name, self.command, self.missing, self.codecs = name, command, missing, codecs
        self.env = {**os.environ, **(env or {})}

    def run(self, *arguments, seconds=120):
        done = subprocess.run([*self.command, *map(str, arguments)], capture_output=True, text=True,
                              timeout=seconds, env=self.env)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
        return done.stdout.splitlines()

    def produce(self, broker, topic, count, codec="none", idempotent=False, prefix="v"):
        return acked(self.run("produce", broker.bootstrap, topic, count, codec, int(idempotent), prefix))

    def consume(self, broker, topic, group, count):
        return records(self.run("consume", broker.bootstrap, topic, group, count))


class Kcat(Client):
    """kcat has no program of ours around it; its own options do."""

    def produce(self, broker, topic, count, codec="none", idempotent=False, prefix="v"):
        lines = [f"{prefix}-{n}" for n in range(count)]
        done = subprocess.run(
            # -E: a broker that is away for a while is no reason to give up.
            ["kcat", "-b", broker.bootstrap, "-P", "-E", "-t", topic, "-z", codec, "-K", ":", "-X", "acks=all",
             "-X", f"enable.idempotence={str(idempotent).lower()}", "-X", "message.timeout.ms=120000"],
            input="".join(f"{n}:{line}\n" for n, line in enumerate(lines)), capture_output=True, text=True, timeout=150)
        assert done.returncode == 0 and "Delivery failed" not in done.stderr, done.stderr[-1000:]
        return lines

    def consume(self, broker, topic, group, count):
        done = subprocess.run(
            ["kcat", "-b", broker.bootstrap, "-G", group, "-q", "-c", str(count), "-f", "%p %o %s\\n",
             "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000", topic],
            capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-1000:]
        return records(done.stdout.splitlines())

    def member_command(self, broker, topic, group):
        return ["kcat", "-b", broker.bootstrap, "-G", group, "-q", "-u", "-f", "%p %o %s\\n",
                "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000",
                "-X", "heartbeat.interval.ms=1000", "-X", "auto.commit.interval.ms=100", topic]


def acked(lines):
    return [line.split(" ", 1)[1] for line in lines if line.startswith("acked ")]


def records(lines):
    """[(partition, offset, value)]"""
    found = []
    for line in lines:
        cells = line.split(" ", 2)
        if len(cells) == 3 and cells[0].isdigit() and cells[1].isdigit():
            found.append((int(cells[0]), int(cells[1]), cells[2]))
    return found


def expected(prefix, count):
    return sorted(f"{prefix}-{n}" for n in range(count))


class Member:
    """A group member in a process of its own, whose lines are collected as they come."""

    def __init__(self, client, broker, topic, group):
        command = (client.member_command(broker, topic, group) if isinstance(client, Kcat)
                   else [*client.command, "member", broker.bootstrap, topic, group])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        env=client.env)
        self.lines = []
        self.reader = threading.Thread(target=self.collect, daemon=True)
        self.reader.start()

    def collect(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def values(self):
        return [value for _, _, value in records(list(self.lines))]

    def partitions(self):
        return {partition for partition, _, _ in records(list(self.lines))}

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self.reader.join(30)


def codec_there_and_back(client, broker, codec):
    topic = f"{client.name}-{codec}"
    equal(sorted(client.produce(broker, topic, 300, codec, prefix=codec)), expected(codec, 300), "acknowledged values")
    got = client.consume(broker, topic, f"{topic}-group", 300)
    equal(sorted(value for _, _, value in got), expected(codec, 300), "values read")


def idempotent(client, broker):
    topic = f"{client.name}-idempotent"
    client.produce(broker, topic, 2000, idempotent=True, prefix="i")
    got = client.consume(broker, topic, f"{topic}-group", 2000)
    equal(sorted(value for _, _, value in got), expected("i", 2000), "values read")


def resume_at_committed(client, broker):
    topic, group = f"{client.name}-resume", f"{client.name}-resume-group"
    client.produce(broker, topic, 100, prefix="a")
    first = client.consume(broker, topic, group, 60)
    second = client.consume(broker, topic, group, 40)
    equal(sorted(value for _, _, value in first + second), expected("a", 100), "values of two sittings")


def group_of_three(client, broker):
    """Six partitions, three members, one killed: the others take over what it had."""
    topic, group = f"{client.name}-three", f"{client.name}-three-group"
    create_topic(broker, topic, 6)
    members = [Member(client, broker, topic, group) for _ in range(3)]
    try:
        batch = 0
        sent = []

        def everyone_reads():
            nonlocal batch
            batch += 1
            sent.extend(client.produce(broker, topic, 60, prefix=f"b{batch}"))
            return all(member.partitions() for member in members)

        wait_for("all three members to be given partitions", everyone_reads, 60)
        members[0].kill()
        sent.extend(client.produce(broker, topic, 300, prefix="after"))
        wait_for("the rest of the group to take over", lambda: set(sent) <= {
            value for member in members for value in member.values()}, 60)
    finally:
        for member in members:
            member.kill()


def create_topic(broker, topic, partitions):
    subprocess.run([*PYTHON, "create", broker.bootstrap, topic, str(partitions)], check=True, timeout=60)


def restart_while_producing(client, broker, how):
    """Acknowledged before, during and after a broker restart; all of it is read back."""
    topic = f"{client.name}-restart-{how}"
    client.produce(broker, topic, 50, prefix="before")
    written = log_bytes(broker, topic)
    outcome = {}

    def send():
        try:
            outcome["acked"] = client.produce(broker, topic, 20000, prefix="during")
        except AssertionError as failure:
            outcome["failure"] = failure

    sender = threading.Thread(target=send)
    sender.start()
    wait_for("the producer to be under way", lambda: log_bytes(broker, topic) > written or not sender.is_alive())
    if how == "kill":
        broker.kill()
        if isinstance(broker, Kafka):
            # Kafka does not start while its old session lives; Ottla waits for it by itself.
            broker.zookeeper.wait_for_session_end("/brokers/ids/0")
    else:
        broker.terminate()
    broker.start()
    sender.join(150)
    assert not sender.is_alive(), "the producer did not end"
    assert "failure" not in outcome, outcome.get("failure")
    want = set(expected("before", 50)) | set(outcome["acked"])
    # A producer without idempotence may have written some twice; none may be missing.
    total = end_offset(broker, topic)
    got = {value for _, _, value in client.consume(broker, topic, f"{topic}-group", total)}
    missing = want - got
    assert not missing, f"{len(missing)} acknowledged records are gone, e.g. {sorted(missing)[:5]}"


def log_bytes(broker, topic):
    return sum(path.stat().st_size for path in broker.data.glob(f"{topic}-*/*.log"))


def end_offset(broker, topic):
    out = subprocess.run(["kcat", "-b", broker.bootstrap, "-Q", "-t", f"{topic}:0:-1"], capture_output=True, text=True,
                         timeout=30, check=True).stdout
    return int(out.strip().rsplit(" ", 1)[1])


def admin(client, broker):
    out = client.run("admin", broker.bootstrap, f"{client.name}-admin")
    equal(out[:3], ["partitions 2", "brokers 1", "dirs 1"], "what the admin client saw")


def all_clients():
    def java(version, libs):
        return Client(f"java-{version}", [JAVA, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-XX:TieredStopAtLevel=1",
                                          "-cp", f"{libs}/*", str(HERE / "java" / "Client.java")],
                      None if any(libs.glob("kafka-clients-*.jar")) else f"no jars in {libs}")

    def program(name, path, **kwargs):
        return Client(name, [str(path)], None if path.exists() else f"{path} is not built", **kwargs)

    modules = BUILT / "kafkajs" / "node_modules"
    return [
        Kcat("kcat", ["kcat"], None if shutil.which("kcat") else "kcat is not installed"),
        Client("confluent-kafka", PYTHON,
               None if pathlib.Path(PYTHON[0]).exists() else "the Python packages are not installed"),
        java("3.9", KAFKA_LIBS),
        java("4.1", BUILT / "java-4.1"),
        program("franz-go", BUILT / "bin" / "franz-go"),
        program("sarama", BUILT / "bin" / "sarama"),
        program("sarama-2.1", BUILT / "bin" / "sarama", env={"SARAMA_VERSION": "2.1.0"}),
        Client("kafkajs", ["node", str(HERE / "kafkajs" / "client.js")],
               None if modules.exists() and shutil.which("node") else "the npm packages are not installed",
               codecs=["none", "gzip", "snappy"], env={"NODE_PATH": str(modules), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}),
    ]


def play(suite, client, store, broker):
    def case(name, function, *arguments):
        def alive_first():
            # A broker that is gone fails what follows at once, not after every client's own patience.
            assert broker.running(), "the broker is not running since an earlier case"
            function(client, broker, *arguments)
        suite.case(f"{client.name} on {store}: {name}", alive_first)

    for codec in client.codecs:
        case(f"{codec} there and back", codec_there_and_back, codec)
    case("idempotent producer", idempotent)
    case("resumes at the committed offset", resume_at_committed)
    case("group of three, one killed", group_of_three)
    case("restart by SIGTERM while producing", restart_while_producing, "term")
    case("restart by kill -9 while producing", restart_while_producing, "kill")
    if client.name.startswith("java"):
        case("admin", admin)


def play_alone(suite, client, store, make):
    """Each client has a broker of its own, so that they can run beside each other."""
    def start():
        if client.missing:
            raise NotRun(client.missing)
        with make() as broker:
            play(suite, client, store, broker)
    suite.case(f"{client.name} on {store}: all of it", start)


def main():
    arguments = sys.argv[1:]
    reference = "--reference" in arguments
    wanted = [argument for argument in arguments if not argument.startswith("--")]
    suite = Suite("clients")
    clients = [client for client in all_clients() if not wanted or client.name in wanted]
    settings = {"log.retention.check.interval.ms": 300000}
    if reference:
        with ZooKeeper() as zookeeper, Kafka(zookeeper=zookeeper, settings=settings) as broker:
            for client in clients:
                play(suite, client, "kafka", broker)
        suite.finish()
    with ZooKeeper() as zookeeper, ThreadPoolExecutor(BESIDE) as pool:
        for client in clients:
            chroot = f"{zookeeper.connect}/{client.name}"
            pool.submit(play_alone, suite, client, "embedded", lambda: Ottla(settings=settings))
            pool.submit(play_alone, suite, client, "zookeeper",
                        lambda chroot=chroot: Ottla(zookeeper=chroot, settings=settings))
    suite.finish()


if __name__ == "__main__":
    main()
