#!/usr/bin/env python3
"""How a broker is started, stopped, misconfigured and cut off from ZooKeeper: the scenarios that
compose files, init scripts and test containers lean on, each against the real binary and, where it
matters, a real ZooKeeper.

One ZooKeeper serves most cases, each below a chroot of its own.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite, equal  # noqa: E402
from harness import ROOT, Ottla, Server, ZooKeeper, can_connect, free_port, ottla_binary, wait_for  # noqa: E402
from zkclient import Znodes, expire  # noqa: E402

BINARY = str(pathlib.Path(ottla_binary()).resolve())
STARTED = re.compile(r"\[KafkaServer id=\d+\] started")


class Run(Server):
    """The binary with any command line and environment."""

    name = "ottla"

    def __init__(self, *arguments, folder=None, env=None, port=None, called_as=None, settings=None):
        super().__init__(folder)
        self.port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.arguments = list(map(str, arguments))
        self.env = env or {}
        self.called_as = called_as
        if settings is not None:
            file = self.folder / "server.properties"
            file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
            self.arguments.insert(0, str(file))

    def command(self):
        if self.called_as:
            link = self.folder / self.called_as
            if not link.is_symlink():
                link.symlink_to(BINARY)
            return [str(link), *self.arguments]
        return [BINARY, "server", *self.arguments]

    def launch(self):
        if self.log.exists():
            self.log.unlink()
        env = {k: v for k, v in os.environ.items() if not k.startswith("KAFKA_")}
        self.spawn(self.command(), env={**env, **self.env})

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ready(self):
        return can_connect(self.port) and STARTED.search(self.text())

    def exit(self, seconds=10):
        """Starts what must end by itself; its exit code and how long it took."""
        begun = time.monotonic()
        self.launch()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not exit within {seconds} s\n{self.text()[-2000:]}") from None
        return code, time.monotonic() - begun


def single(zookeeper_connect, **more):
    """Settings of a single broker."""
    port = more.pop("port", None) or free_port()
    folder = more.pop("data")
    settings = {
        "broker.id": 1, "zookeeper.connect": zookeeper_connect, "log.dirs": folder,
        "listeners": f"PLAINTEXT://127.0.0.1:{port}", "zookeeper.session.timeout.ms": 6000,
        "offsets.topic.replication.factor": 1, "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1, "group.initial.rebalance.delay.ms": 0,
    }
    settings.update({key.replace("_", "."): value for key, value in more.items()})
    return settings, port


def broker(zk, chroot, folder=None, **more):
    """A broker below a chroot of its own, with its data in its folder."""
    run = Run(folder=folder)
    settings, run.port = single(f"{zk.connect}/{chroot}", data=run.folder / "data", **more)
    run.bootstrap = f"127.0.0.1:{run.port}"
    file = run.folder / "server.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in settings.items() if value is not None))
    run.arguments = [str(file)]
    return run


def contains(text, *words):
    for word in words:
        assert word in text, f"no {word!r} in:\n{text[-3000:]}"


def tool(name, *arguments, stdin=None, seconds=30):
    return subprocess.run([BINARY, name, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=seconds)


def topics(run):
    done = tool("topics", "--bootstrap-server", run.bootstrap, "--list")
    equal(done.returncode, 0, f"topics --list ({done.stderr})")
    return [line for line in done.stdout.split() if not line.startswith("__")]


def kcat(*arguments, stdin=None, seconds=30):
    if shutil.which("kcat") is None:
        raise NotRun("kcat is not installed")
    return subprocess.run(["kcat", *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=seconds)


def produce(run, topic, lines, *more):
    done = kcat("-P", "-b", run.bootstrap, "-t", topic, "-X", "acks=all", *more, stdin="".join(f"{line}\n" for line in lines))
    equal(done.returncode, 0, f"kcat -P ({done.stderr})")


def consume(run, topic):
    done = kcat("-C", "-b", run.bootstrap, "-t", topic, "-o", "beginning", "-e", "-q")
    equal(done.returncode, 0, f"kcat -C ({done.stderr})")
    return done.stdout.split()


# Configuration.


def override_by_link(zk):
    port = free_port()
    run = Run(called_as="kafka-server-start.sh", port=port)
    settings, _ = single(f"{zk.connect}/d6", data=run.folder / "data")
    file = run.folder / "server.properties"
    file.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
    run.arguments = [str(file), "--override", f"listeners=PLAINTEXT://:{port}", "--override", "broker.id=7"]
    with run:
        contains(run.text(), "[KafkaServer id=7] started (kafka.server.KafkaServer)")
        with Znodes(zk.port) as nodes:
            equal(nodes.children("/d6/brokers/ids"), ["7"], "registered brokers")
            equal(nodes.json("/d6/brokers/ids/7")["port"], port, "registered port")


def daemon_flag(zk):
    run = Run(called_as="kafka-server-start.sh")
    settings, run.port = single(f"{zk.connect}/daemon", data=run.folder / "data")
    file = run.folder / "server.properties"
    file.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
    run.arguments = ["-daemon", str(file)]
    run.env = {"LOG_DIR": str(run.folder / "logs")}
    code, _ = run.exit()
    equal(code, 0, "exit code of the starter")
    output = run.folder / "logs" / "kafkaServer.out"
    try:
        wait_for("the daemon to be ready", lambda: output.exists() and STARTED.search(output.read_text()), 30)
    finally:
        # Only this one: kafka-server-stop would end every broker of the machine.
        for pid in pids_with(str(file)):
            os.kill(pid, signal.SIGTERM)
    wait_for("the daemon to end", lambda: not pids_with(str(file)), 10)


def pids_with(word):
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (entry / "cmdline").read_bytes().split(b"\0") and (entry / "exe").resolve() == pathlib.Path(BINARY):
                found.append(int(entry.name))
    return found


def stock_file():
    """config/server.properties as it is: ports 2181 and 9092 and /tmp/kafka-logs of a namespace of
    its own."""
    if subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True).returncode != 0:
        raise NotRun("no rights to make namespaces")
    script = f"""
import sys, subprocess
sys.path[:0] = [{str(ROOT / 'compat')!r}, {str(ROOT / 'compat' / 'operation')!r}]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], check=True)
import os; os.makedirs("/mnt/tmp/kafka-logs"); os.makedirs("/tmp/kafka-logs", exist_ok=True)
subprocess.run(["mount", "--bind", "/mnt/tmp/kafka-logs", "/tmp/kafka-logs"], check=True)
from run import *
with ZooKeeper(port=2181) as zk, Run({str(ROOT / 'config' / 'server.properties')!r}, port=9092) as run:
    contains(run.text(), "[KafkaServer id=0] started (kafka.server.KafkaServer)")
    assert pathlib.Path("/tmp/kafka-logs/meta.properties").exists()
    assert " ERROR " not in run.text() and "KafkaConfig)" not in run.text(), run.text()
    print("fine")
"""
    if shutil.which("ip") is None:
        raise NotRun("no ip command to bring a namespace's loopback up")
    done = subprocess.run(["unshare", "-n", "-m", sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("fine\n"), f"{done.stdout}\n{done.stderr}"


def bad_value():
    for env, arguments in (({"KAFKA_NUM_PARTITIONS": "abc", "KAFKA_ZOOKEEPER_CONNECT": "localhost:1"}, []),
                           ({}, ["--override", "num.partitions=abc"])):
        run = Run(*arguments, env=env)
        code, took = run.exit()
        equal(code, 1, "exit code")
        contains(run.text(), "num.partitions", "abc")
        assert took < 1, f"took {took:.1f} s"


def unknown_keys(zk):
    run = broker(zk, "unknown", no_such_key="x")
    run.env = {"KAFKA_MAX_REQUEST_SIZE": "50000000", "CONFLUENT_SUPPORT_METRICS_ENABLE": "0", "KAFKA_HEAP_OPTS": "-Xmx1G"}
    with run:
        warnings = [line for line in run.text().splitlines() if " WARN " in line]
        for key in ("no.such.key", "max.request.size"):
            equal(len([line for line in warnings if f"'{key}'" in line]), 1, f"warnings of {key}")
        for line in warnings:
            assert "heap" not in line and "confluent" not in line, line


def create_topics(zk):
    run = broker(zk, "a/b/kafka")
    run.env = {"KAFKA_CREATE_TOPICS": "ping:3:1,events:1:1:compact"}
    with run:
        equal(topics(run), ["events", "ping"], "topics")
        with Znodes(zk.port) as nodes:
            equal(nodes.json("/a/b/kafka/config/topics/events")["config"], {"cleanup.policy": "compact"}, "config of events")
            equal(sorted(nodes.json("/a/b/kafka/brokers/topics/ping")["partitions"]), ["0", "1", "2"], "partitions of ping")
            version = nodes.stat("/a/b/kafka/brokers/topics/ping")["version"]
        equal(run.terminate(), 143, "exit code")
        # The second start changes nothing.
        run.start()
        equal(topics(run), ["events", "ping"], "topics after a restart")
        assert " ERROR " not in run.text(), run.text()
        with Znodes(zk.port) as nodes:
            equal(nodes.stat("/a/b/kafka/brokers/topics/ping")["version"], version, "version of ping")


def kraft_variables():
    port = free_port()
    run = Run(port=port)
    run.env = {
        "KAFKA_PROCESS_ROLES": "broker,controller", "KAFKA_NODE_ID": "1", "CLUSTER_ID": "MkU3OEVBNTcwNTJENDM2Qg",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093", "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_LOG_DIRS": str(run.folder / "data"),
    }
    with run:
        contains(run.text(), "Transitioning from RECOVERY to RUNNING", "Kafka Server started", "Cluster ID = MkU3OEVBNTcwNTJENDM2Qg")
        done = tool("cluster", "cluster-id", "--bootstrap-server", run.bootstrap)
        equal(done.stdout, "Cluster ID: MkU3OEVBNTcwNTJENDM2Qg\n", "cluster id")
    half = Run(env={**run.env, "KAFKA_PROCESS_ROLES": "broker"})
    code, _ = half.exit()
    equal(code, 1, "exit code of a broker without its controllers")
    contains(half.text(), "process.roles", "zookeeper.connect")


def generated_id(zk):
    run = broker(zk, "generated", broker_id=None)
    with run:
        contains(run.text(), "[KafkaServer id=1001] started (kafka.server.KafkaServer)")
        contains((run.folder / "data" / "meta.properties").read_text(), "broker.id=1001")
        run.terminate()
        run.start()
        contains(run.text(), "[KafkaServer id=1001] started (kafka.server.KafkaServer)")


# ZooKeeper.


def zookeeper_late():
    zk = ZooKeeper()
    run = broker(zk, "late")
    try:
        run.launch()
        wait_for("a line that names what is waited for", lambda: f"Waiting for ZooKeeper: 127.0.0.1:{zk.port}: Connection refused" in run.text(), 10, run.process)
        time.sleep(5)
        assert not can_connect(run.port), "the port is open before there is a cluster"
        with zk:
            wait_for("the broker to come up", run.ready, 20, run.process)
            assert run.text().count("Waiting for ZooKeeper") < 5, "one line every few seconds"
            equal(run.terminate(), 143, "exit code")
    finally:
        run.kill()


def zookeeper_never():
    port = free_port()
    run = Run(env={"KAFKA_CUB_ZK_TIMEOUT": "1"})
    settings, _ = single(f"127.0.0.1:{port}", data=run.folder / "data", zookeeper_connection_timeout_ms=1000)
    file = run.folder / "server.properties"
    file.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
    run.arguments = [str(file)]
    code, took = run.exit(20)
    equal(code, 1, "exit code")
    last = run.text().strip().splitlines()[-1]
    contains(last, f"127.0.0.1:{port}", "Connection refused")
    assert 1.5 < took < 8, f"took {took:.1f} s"


def kill_and_restart(zk):
    run = broker(zk, "killed")
    with run:
        produce(run, "t", range(200))
        run.kill()
        begun = time.monotonic()
        run.start()
        took = time.monotonic() - begun
        contains(run.text(), "/brokers/ids/1 is held by session")
        assert took < 9, f"took {took:.1f} s with a session timeout of 6 s"
        equal(consume(run, "t"), [str(n) for n in range(200)], "acknowledged records")


def same_id_twice(zk):
    first = broker(zk, "twice")
    with first:
        second = broker(zk, "twice", zookeeper_session_timeout_ms=2000)
        code, _ = second.exit(20)
        equal(code, 1, "exit code")
        contains(second.text().strip().splitlines()[-1], "broker.id=1", first.bootstrap)
        equal(topics(first), [], "the first serves on")


def zookeeper_data_lost(zk):
    run = broker(zk, "lost")
    with run:
        equal(run.terminate(), 143, "exit code")
        old = re.search(r"cluster.id=(\S+)", (run.folder / "data" / "meta.properties").read_text()).group(1)
        with Znodes(zk.port) as nodes:
            nodes.delete_tree("/lost")
        code, _ = run.exit()
        equal(code, 1, "exit code")
        with Znodes(zk.port) as nodes:
            new = nodes.json("/lost/cluster/id")["id"]
        last = run.text().strip().splitlines()[-1]
        contains(last, f"Expected {new}, but read {old}", "zookeeper.connect", str(run.folder / "data"))
        assert re.search(r"ZooKeeper.*(new|created just now|was empty)", last), f"which store is new: {last}"


def session_expiry(zk):
    run = broker(zk, "expiry")
    with run, Znodes(zk.port) as nodes:
        produce(run, "t", ["before"])
        old, controller = nodes.stat("/expiry/brokers/ids/1"), nodes.stat("/expiry/controller")
        epoch = int(nodes.data("/expiry/controller_epoch"))
        equal(controller["owner"], old["owner"], "owner of /controller")
        expire(zk.port, old["owner"])

        def again():
            with contextlib.suppress(Exception):
                now = nodes.stat("/expiry/brokers/ids/1")
                return now["owner"] != old["owner"] and nodes.stat("/expiry/controller")["owner"] == now["owner"] and now
        now = wait_for("registration and controller in a new session", again, 20, run.process)
        assert now["czxid"] > old["czxid"], f"broker epoch {now['czxid']} after {old['czxid']}"
        wait_for("the next controller epoch", lambda: int(nodes.data("/expiry/controller_epoch")) == epoch + 1, 10)
        contains(run.text(), "Session expired", f"czxid (broker epoch): {now['czxid']}")
        # The new epoch is good for work: a topic is created, led and written.
        produce(run, "t", ["after"])
        produce(run, "new", ["x"])
        equal(consume(run, "t"), ["before", "after"], "records")
        equal(nodes.json("/expiry/brokers/topics/new/partitions/0/state")["controller_epoch"], epoch + 1, "controller epoch of a new partition")
        equal(run.terminate(), 143, "exit code")
        equal(nodes.children("/expiry/brokers/ids"), [], "registered brokers")


def zookeeper_outage():
    with ZooKeeper() as zk:
        run = broker(zk, "outage")
        with run:
            produce(run, "t", ["before"])
            with Znodes(zk.port) as nodes:
                old = nodes.stat("/outage/brokers/ids/1")
            zk.kill()
            wait_for("the broker to notice", lambda: "Disconnected from ZooKeeper" in run.text(), 10, run.process)
            produce(run, "t", ["during"])
            equal(consume(run, "t"), ["before", "during"], "records while ZooKeeper is away")
            zk.start()

            def back():
                with contextlib.suppress(Exception), Znodes(zk.port) as nodes:
                    return nodes.stat("/outage/brokers/ids/1")
            wait_for("the registration", back, 15, run.process)
            # A new topic needs ZooKeeper, the controller and the broker to be together again.
            produce(run, "later", ["x"])
            equal(consume(run, "later"), ["x"], "records")
            assert old, "it was registered before"


# Stop, health, logs.


def stop_with_partitions(zk):
    run = broker(zk, "stop")
    run.env = {"KAFKA_CREATE_TOPICS": "many:250:1"}
    with run:
        with Znodes(zk.port) as nodes:
            equal(nodes.children("/stop/brokers/ids"), ["1"], "registered brokers")
        wait_for("the partitions", lambda: len(list((run.folder / "data").glob("many-*"))) == 250, 30)
        begun = time.monotonic()
        equal(run.terminate(), 143, "exit code")
        took = time.monotonic() - begun
        with Znodes(zk.port) as nodes:
            equal(nodes.children("/stop/brokers/ids"), [], "registered brokers")
        assert took < 5, f"took {took:.1f} s"
        assert (run.folder / "data" / ".kafka_cleanshutdown").exists(), "no .kafka_cleanshutdown"
        contains(run.text(), "Terminating process due to signal SIGTERM", "[KafkaServer id=1] shut down completed")
        run.start()
        assert "held by session" not in run.text(), "waits for its own old session after a clean stop"
        assert not (run.folder / "data" / ".kafka_cleanshutdown").exists(), "the marker must go at start"
        run.process.send_signal(signal.SIGINT)
        equal(run.process.wait(10), 130, "exit code after SIGINT")


def stop_while_waiting_for_zookeeper():
    run = Run(settings=single(f"127.0.0.1:{free_port()}", data="/nonexistent-yet")[0] | {"log.dirs": "data"})
    run.launch()
    wait_for("the broker to wait", lambda: "Waiting for ZooKeeper" in run.text(), 10, run.process)
    begun = time.monotonic()
    equal(run.terminate(), 143, "exit code")
    assert time.monotonic() - begun < 2, "a broker that waits ends at once"


def health_checks(zk):
    run = broker(zk, "health")
    checks = {
        "tcp": ["bash", "-c", f"</dev/tcp/127.0.0.1/{run.port}"],
        "topics": [BINARY, "topics", "--bootstrap-server", run.bootstrap, "--list"],
        "api-versions": [BINARY, "broker-api-versions", f"--bootstrap-server={run.bootstrap}"],
        "cluster-id": [BINARY, "cluster", "cluster-id", "--bootstrap-server", run.bootstrap],
    }
    if shutil.which("nc"):
        checks["nc"] = ["nc", "-z", "127.0.0.1", str(run.port)]
    # Before: never 0. Kafka's admin tools go on asking for a minute, and so do ours: whoever runs
    # the check ends them.
    for name, command in checks.items():
        begun = time.monotonic()
        done = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert done.wait(1) != 0, f"{name} is 0 before there is a broker"
        except subprocess.TimeoutExpired:
            done.kill()
            done.wait()
        took = time.monotonic() - begun
        assert took < 8, f"{name} took {took:.1f} s without a broker"
    with run:
        slow = {}
        for name, command in checks.items():
            times = []
            for _ in range(5):
                begun = time.monotonic()
                done = subprocess.run(command, capture_output=True, text=True, timeout=10)
                equal(done.returncode, 0, f"{name} ({done.stderr})")
                times.append(time.monotonic() - begun)
            slow[name] = min(times)
        equal({name: took for name, took in slow.items() if took > 0.1}, {}, "checks above 100 ms")
        shell = subprocess.run([BINARY, "zookeeper-shell", f"{zk.connect}/health", "ls", "/brokers/ids"], capture_output=True, text=True, timeout=10)
        contains(shell.stdout, "[1]")
        shell = subprocess.run([BINARY, "zookeeper-shell", f"{zk.connect}/health", "get", "/brokers/ids/1"], capture_output=True, text=True, timeout=10)
        contains(shell.stdout, f'"endpoints":["PLAINTEXT://{run.bootstrap}"]')


def log_lines(zk):
    run = broker(zk, "lines")
    run.env = {"KAFKA_LOG4J_LOGGERS": "kafka.controller=TRACE"}
    with run:
        with Znodes(zk.port) as nodes:
            cluster = nodes.json("/lines/cluster/id")["id"]
        text = run.text()
        contains(text, "[KafkaServer id=1] started (kafka.server.KafkaServer)", f"Cluster ID = {cluster} (kafka.server.KafkaServer)",
                 f"Awaiting socket connections on 127.0.0.1:{run.port}. (kafka.network.", "Kafka version: 3.9.",
                 f"Registered broker 1 at path /brokers/ids/1 with addresses: PLAINTEXT://127.0.0.1:{run.port}, czxid (broker epoch): ")
        shape = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] (TRACE|DEBUG|INFO|WARN|ERROR) .* \([\w.$]+\)$")
        for line in text.splitlines():
            assert shape.match(line), f"not a line of Kafka's shape: {line!r}"
        wait_for("the line testcontainers-rs waits for", lambda: "Checking need to trigger auto leader balancing" in run.text(), 15)


def missing_topic(zk):
    with broker(zk, "auto", num_partitions=3) as run:
        produce(run, "t", ["x"])
        with Znodes(zk.port) as nodes:
            equal(len(nodes.json("/auto/brokers/topics/t")["partitions"]), 3, "partitions of a topic created by use")
    with broker(zk, "noauto", auto_create_topics_enable="false") as run:
        done = kcat("-P", "-b", run.bootstrap, "-t", "t", "-X", "topic.metadata.propagation.max.ms=500", stdin="x\n")
        assert done.returncode != 0 and "Unknown topic" in done.stderr, f"{done.returncode}: {done.stderr}"


def unknown_api_versions(zk):
    with broker(zk, "versions") as run, socket.create_connection(("127.0.0.1", run.port), timeout=5) as connection:
        def call(version, correlation, rest=b""):
            frame = struct.pack(">hhih", 18, version, correlation, -1) + rest
            connection.sendall(struct.pack(">i", len(frame)) + frame)
            length = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))[0]
            return connection.recv(length, socket.MSG_WAITALL)
        # From version 3 on there are tagged fields, and the client's name and version.
        answer = call(99, 7, b"\0\x02a\x02b\0")
        correlation, code, count = struct.unpack(">ihi", answer[:10])
        equal((correlation, code), (7, 35), "correlation id and error")
        apis = dict((key, (low, high)) for key, low, high in struct.iter_unpack(">hhh", answer[10:10 + 6 * count]))
        equal(apis[18], (0, 4), "versions of ApiVersions")
        correlation, code, _ = struct.unpack(">ihi", call(0, 8)[:10])
        equal((correlation, code), (8, 0), "normal traffic on the same connection")


def remove_while_in_use(folder):
    """Deletes a log dir as `rm -rf` does: a checkpoint that the broker renames meanwhile is no failure."""
    def gone():
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    wait_for(f"{folder} to be deleted", gone, 10)


def failed_log_dir(zk):
    run = broker(zk, "dirs")
    one, other = run.folder / "one", run.folder / "other"
    run.arguments += ["--override", f"log.dirs={one},{other}", "--override", "log.segment.bytes=4096"]
    run.env = {"KAFKA_CREATE_TOPICS": "t:4:1"}
    with run:
        wait_for("the partitions", lambda: len(list(run.folder.glob("o*/t-*"))) == 4, 10)
        lost = [int(path.name[2:]) for path in one.glob("t-*")]
        kept = [int(path.name[2:]) for path in other.glob("t-*")]
        equal((len(lost), len(kept)), (2, 2), "partitions by log dir")
        remove_while_in_use(one)
        # Files that are open can still be written; the next segment cannot be made.
        kcat("-P", "-b", run.bootstrap, "-t", "t", "-p", lost[0], "-X", "message.timeout.ms=4000", "-X", "batch.size=2000",
             "-X", "linger.ms=0", stdin="".join(f"{'x' * 500}-{n}\n" for n in range(60)), seconds=60)
        wait_for("the log dir to go offline", lambda: re.search(rf"ERROR .*{re.escape(str(one))}", run.text()), 10, run.process)
        for partition in kept:
            produce(run, "t", ["kept"], "-p", partition)
        done = kcat("-C", "-b", run.bootstrap, "-t", "t", "-p", kept[0], "-o", "beginning", "-e", "-q")
        equal(done.stdout, "kept\n", "records of the log dir that is well")
        with Znodes(zk.port) as nodes:
            def leaderless():
                state = nodes.json(f"/dirs/brokers/topics/t/partitions/{lost[0]}/state")
                return state["leader"] == -1
            wait_for("the controller to know", leaderless, 15, run.process)


def main():
    suite = Suite("operation")
    wanted = sys.argv[1:]

    def case(name, function, *arguments):
        if not wanted or any(word in name for word in wanted):
            suite.case(name, function, *arguments)

    case("a bad value is named, exit 1 within 1 s", bad_value)
    case("KRaft variables run alone or not at all", kraft_variables)
    case("ZooKeeper never comes", zookeeper_never)
    case("SIGTERM while waiting for ZooKeeper", stop_while_waiting_for_zookeeper)
    case("ZooKeeper comes late", zookeeper_late)
    case("stock server.properties", stock_file)
    case("ZooKeeper goes and comes back", zookeeper_outage)
    with ZooKeeper() as zk:
        case("kafka-server-start.sh with overrides", override_by_link, zk)
        case("kafka-server-start.sh -daemon", daemon_flag, zk)
        case("unknown keys only warn", unknown_keys, zk)
        case("KAFKA_CREATE_TOPICS below a chroot", create_topics, zk)
        case("generated broker id", generated_id, zk)
        case("kill -9 and start within the session timeout", kill_and_restart, zk)
        case("two brokers with one id", same_id_twice, zk)
        case("ZooKeeper's data is lost", zookeeper_data_lost, zk)
        case("session expires", session_expiry, zk)
        case("stop with 250 partitions", stop_with_partitions, zk)
        case("health checks", health_checks, zk)
        case("log lines that tools wait for", log_lines, zk)
        case("topics that do not exist", missing_topic, zk)
        case("unknown version of ApiVersions", unknown_api_versions, zk)
        case("a log dir fails", failed_log_dir, zk)
    suite.finish()


if __name__ == "__main__":
    main()
