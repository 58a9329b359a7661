"""Starts and stops the processes the compatibility tests need: ZooKeeper, Apache Kafka 3.9, Ottla.

Every server gets a free port and a folder of its own below a temp dir, is waited for by a
condition, and is ended by its pid when its `with` block is left. Nothing here sleeps for a fixed
time and hopes.
"""

import atexit
import base64
import contextlib
import os
import pathlib
import signal
import shutil
import socket
import subprocess
import tempfile
import time

from wire import Connection
from zkclient import NoNode, Znodes

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
KAFKA_LIBS = pathlib.Path(os.environ.get("KAFKA_LIBS", TARGET / "compat" / "kafka-libs"))
JAVA = os.environ.get("JAVA", "java")


def ottla_binary():
    """The release binary if there is one, else the debug one; OTTLA_BIN overrides."""
    override = os.environ.get("OTTLA_BIN")
    if override:
        return override
    for profile in ("release", "debug"):
        path = TARGET / profile / "ottla"
        if path.exists():
            return str(path)
    raise FileNotFoundError(f"no ottla binary below {TARGET}: run cargo build --release first")


_running = set()


def _end_what_runs(*_):
    for process in list(_running):
        if process.poll() is None:
            process.kill()


def _terminated(*_):
    """A suite that is told to end leaves no server behind, whichever thread started it."""
    _end_what_runs()
    os._exit(143)


atexit.register(_end_what_runs)
signal.signal(signal.SIGTERM, _terminated)

_handed_out = set()


def free_port():
    """A port nobody listens on now, below the range that outgoing connections are given."""
    while True:
        with socket.socket() as probe:
            port = 12000 + int.from_bytes(os.urandom(2), "big") % 18000
            if port in _handed_out:
                continue
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _handed_out.add(port)
            return port


def wait_for(what, condition, seconds=60.0, process=None):
    """Waits until condition() is true; fails with `what` at the deadline or when process died."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{what}: the process ended with {process.returncode}")
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


def can_connect(port, host="127.0.0.1"):
    with contextlib.suppress(OSError):
        with socket.create_connection((host, port), timeout=1):
            return True
    return False


class Server:
    """One child process with a log file."""

    name = "server"

    def __init__(self, folder=None):
        self._own = None
        if folder is None:
            self._own = tempfile.TemporaryDirectory(prefix=f"ottla-{self.name}-", ignore_cleanup_errors=True)
            folder = self._own.name
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / f"{self.name}.log"
        self.process = None

    def spawn(self, command, env=None, cwd=None):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=env, cwd=cwd or self.folder, start_new_session=True)
        _running.add(self.process)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def ready(self):
        raise NotImplementedError

    def start(self):
        self.launch()
        return self.await_ready()

    def await_ready(self):
        try:
            wait_for(f"{self.name} to be ready (log: {self.log})", self.ready, process=self.process)
        except AssertionError as failure:
            tail = self.log.read_text(errors="replace")[-3000:]
            self.kill()
            raise AssertionError(f"{failure}\n{tail}") from None
        return self

    def launch(self):
        raise NotImplementedError

    def terminate(self, seconds=60):
        """SIGTERM and wait; returns the exit code (143 as the JVM's where the process has its own)."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def pause(self):
        """SIGSTOP: the process stands still, its connections stay."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        if self.running():
            self.process.send_signal(signal.SIGCONT)

    def kill(self):
        """SIGKILL and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        try:
            self.terminate(30)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._own is not None:
            self._own.cleanup()


def zookeeper_class_path():
    """ZooKeeper as Debian ships it; else the jars that Apache Kafka 3.9 brings."""
    debian = pathlib.Path("/usr/share/java/zookeeper.jar")
    if debian.exists():
        return "/usr/share/java/*"
    return f"{KAFKA_LIBS}/*"


class ZooKeeper(Server):
    name = "zookeeper"

    def __init__(self, folder=None, port=None, tick_ms=500):
        super().__init__(folder)
        self.port = port or free_port()
        self.tick_ms = tick_ms
        self.connect = f"127.0.0.1:{self.port}"

    def launch(self):
        config = self.folder / "zoo.cfg"
        config.write_text(
            f"tickTime={self.tick_ms}\ndataDir={self.folder}/data\nclientPort={self.port}\n"
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\n"
            "4lw.commands.whitelist=*\nminSessionTimeout=1000\nmaxSessionTimeout=60000\n")
        self.spawn([JAVA, "-Xmx256m", "-cp", zookeeper_class_path(),
                    "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)])

    def ready(self):
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"ruok")
                return probe.recv(4) == b"imok"
        return False


    def four_letters(self, word):
        """The answer to one of ZooKeeper's four-letter commands."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(word.encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return answer.decode(errors="replace")

    def wait_for_session_end(self, path):
        """Waits until nobody owns the ephemeral node `path` any more."""
        wait_for(f"{path} to expire", lambda: path not in self.four_letters("dump").split())


class Broker(Server):
    """A broker on one PLAINTEXT listener; settings of both kinds are the same."""

    def __init__(self, folder=None, port=None, zookeeper=None, broker_id=0, settings=None):
        super().__init__(folder)
        self.port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.zookeeper = zookeeper
        self.broker_id = broker_id
        self.data = self.folder / "data"
        self.settings = {
            "broker.id": broker_id,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": self.data,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
        }
        if zookeeper is not None:
            connect = zookeeper.connect if isinstance(zookeeper, ZooKeeper) else zookeeper
            self.settings["zookeeper.connect"] = connect
            self.settings["zookeeper.session.timeout.ms"] = 6000
        self.settings.update(settings or {})

    def write_properties(self):
        path = self.folder / f"{self.name}.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in self.settings.items()))
        return path

    def new_log(self):
        """Every life of a broker has a log of its own."""
        if self.log.exists():
            self.log.rename(self.log.with_name(f"{self.name}-{len(self.logs())}.log"))

    def logs(self):
        """The logs of all lives."""
        return sorted(self.folder.glob(f"{self.name}*.log"))

    def ready(self):
        return can_connect(self.port) and "started (kafka.server.KafkaServer)" in self.log.read_text(errors="replace")


class Kafka(Broker):
    """Apache Kafka 3.9 in ZooKeeper mode, from Maven Central's jars."""

    name = "kafka"
    jvm = ["-Xmx1g", "-Xms256m"]

    def launch(self):
        self.new_log()
        log4j = self.folder / "log4j.properties"
        log4j.write_text(
            "log4j.rootLogger=INFO, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.out.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.out.layout.ConversionPattern=[%d] %p %m (%c)%n\n")
        self.spawn([JAVA, *self.jvm, f"-Dlog4j.configuration=file:{log4j}",
                    "-cp", f"{KAFKA_LIBS}/*", "kafka.Kafka", str(self.write_properties())])


class Ottla(Broker):
    """Our broker; without a ZooKeeper it runs on its embedded store."""

    name = "ottla"

    def launch(self):
        self.new_log()
        env = {k: v for k, v in os.environ.items() if not k.startswith("KAFKA_")}
        self.spawn([ottla_binary(), "server", str(self.write_properties())], env=env)


class SmallKafka(Kafka):
    """A broker of a cluster of several on one machine: a small heap, and a JVM that starts fast."""

    jvm = ["-Xmx384m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


# What several brokers on one machine have in common, of whichever kind they are.
CLUSTER_SETTINGS = {
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "offsets.topic.replication.factor": 3,
    "offsets.topic.num.partitions": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "transaction.state.log.num.partitions": 3,
    "auto.create.topics.enable": "false",
    "auto.leader.rebalance.enable": "false",
    "controlled.shutdown.retry.backoff.ms": 500,
    "replica.lag.time.max.ms": 6000,
}


class Cluster:
    """Brokers 1 to N of either kind on one ZooKeeper; `with Cluster(zookeeper, [SmallKafka, Ottla, Ottla])`.

    The first broker is started before the others and so is the controller. What is asked of the
    cluster's state is read from ZooKeeper.
    """

    def __init__(self, zookeeper, kinds, settings=None):
        self.zookeeper = zookeeper
        self.settings = {**CLUSTER_SETTINGS, **(settings or {})}
        self._own = tempfile.TemporaryDirectory(prefix="ottla-cluster-", ignore_cleanup_errors=True)
        self.folder = pathlib.Path(self._own.name)
        self.ids = range(1, len(kinds) + 1)
        self.ports = {broker_id: free_port() for broker_id in self.ids}
        self.brokers = {broker_id: self.make(broker_id, kind) for broker_id, kind in zip(self.ids, kinds)}
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers.values())

    def make(self, broker_id, kind):
        """A broker of this id, its port and data dir those of whoever had the id before."""
        return kind(folder=self.folder / str(broker_id), port=self.ports[broker_id], zookeeper=self.zookeeper,
                    broker_id=broker_id, settings=self.settings_of(broker_id))

    def settings_of(self, broker_id):
        """Settings of one broker; for clusters whose brokers differ."""
        return self.settings

    def replace(self, broker_id, kind):
        """Another kind on the stopped broker's id, port and data dir; not started yet."""
        assert not self.brokers[broker_id].running(), f"broker {broker_id} still runs"
        self.brokers[broker_id] = self.make(broker_id, kind)
        return self.brokers[broker_id]

    def __enter__(self):
        first, *others = self.brokers.values()
        try:
            first.start()
            start_all(others)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for broker in self.brokers.values():
            broker.kill()
        self._own.cleanup()

    def nodes(self):
        """A ZooKeeper session, as soon as ZooKeeper takes one: `with cluster.nodes() as nodes`."""
        def session():
            with contextlib.suppress(OSError):
                return Znodes(self.zookeeper.port)
        return wait_for("a ZooKeeper session", session, 30)

    def controller(self):
        """Id of the active controller; waits until there is one."""
        def elected():
            with contextlib.suppress(NoNode), self.nodes() as nodes:
                return nodes.json("/controller")["brokerid"]
        return wait_for("a controller", elected)

    def registered(self):
        with self.nodes() as nodes:
            return sorted(map(int, nodes.children("/brokers/ids")))

    def assignment(self, topic):
        """{partition: replicas}"""
        with self.nodes() as nodes:
            return {int(p): replicas for p, replicas in nodes.json(f"/brokers/topics/{topic}")["partitions"].items()}

    def state(self, topic, partition):
        """The partition's state znode: leader, leader_epoch, isr…; None when there is none yet."""
        with contextlib.suppress(NoNode), self.nodes() as nodes:
            return nodes.json(f"/brokers/topics/{topic}/partitions/{partition}/state")
        return None

    def leader(self, topic, partition):
        state = self.state(topic, partition)
        return state["leader"] if state else -1

    def behind(self, topics):
        """(topic, partition, replicas, state) of what has no leader or not its full ISR."""
        found = []
        with self.nodes() as nodes:
            for topic in topics:
                try:
                    partitions = nodes.json(f"/brokers/topics/{topic}")["partitions"]
                except NoNode:
                    found.append((topic, None, None, "no such topic"))
                    continue
                for partition, replicas in sorted(partitions.items()):
                    try:
                        state = nodes.json(f"/brokers/topics/{topic}/partitions/{partition}/state")
                    except NoNode:
                        state = None
                    if state is None or state["leader"] < 0 or sorted(state["isr"]) != sorted(replicas):
                        found.append((topic, partition, replicas, state))
        return found

    def wait_full_isr(self, topics, seconds=60):
        """Waits until every partition has a leader and all of its replicas in sync."""
        begun = time.monotonic()
        try:
            wait_for("full ISR", lambda: not self.behind(topics), seconds)
        except AssertionError:
            raise AssertionError(f"not every replica in sync within {seconds} s: {self.behind(topics)}") from None
        return time.monotonic() - begun

    def wait_served(self, topic):
        """Waits until the leaders of a new topic know that they lead. A producer that comes earlier
        may have its first batch refused and the second one taken: a broker that does not know a
        producer takes any sequence number, Kafka as well, and the first one then comes too late."""
        def served():
            for partition in self.assignment(topic):
                leader = self.leader(topic, partition)
                if leader < 0:
                    return False
                with contextlib.closing(Connection(self.ports[leader])) as connection:
                    if connection.end_offset(topic, partition)[0] != 0:
                        return False
            return True
        wait_for(f"the leaders of {topic} to serve it", served)

    def keep(self, name, folder):
        """Histories (in `folder`), logs and files of all brokers, for whoever looks for the reason of a failure."""
        kept = TARGET / "cluster" / name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept / "load")
        for broker_id in self.ids:
            shutil.copytree(self.folder / str(broker_id), kept / str(broker_id))
        print(f"  {name}: histories, logs and data are in {kept}", flush=True)

    def kill(self, broker_id):
        self.brokers[broker_id].kill()

    def start(self, *broker_ids):
        """Starts stopped brokers beside each other. Kafka refuses to start while its old session lives."""
        for broker_id in broker_ids:
            self.zookeeper.wait_for_session_end(f"/brokers/ids/{broker_id}")
        for broker_id in broker_ids:
            self.brokers[broker_id].launch()
        for broker_id in broker_ids:
            try:
                self.brokers[broker_id].await_ready()
            except AssertionError as failure:
                # A ZooKeeper that has just come back may still remember the session.
                if "NodeExists" not in str(failure):
                    raise
                self.zookeeper.wait_for_session_end(f"/brokers/ids/{broker_id}")
                self.brokers[broker_id].start()


def start_all(servers):
    """Starts them beside each other."""
    for server in servers:
        server.launch()
    for server in servers:
        server.await_ready()


def have_kafka():
    return any(KAFKA_LIBS.glob("kafka_2.13-*.jar"))


def tools_log4j():
    log4j = TARGET / "compat" / "tools-log4j.properties"
    if not log4j.exists():
        log4j.parent.mkdir(parents=True, exist_ok=True)
        log4j.write_text(
            "log4j.rootLogger=WARN, err\nlog4j.appender.err=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.err.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.err.layout.ConversionPattern=[%d] %p %m (%c)%n\nlog4j.appender.err.Target=System.err\n")
    return log4j


TOOL_CLASSES = TARGET / "compat" / "tool-classes.jsa"


def _tool_command(main_class, arguments, *jvm_options):
    return [JAVA, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xlog:disable", *jvm_options,
            f"-Dlog4j.configuration=file:{tools_log4j()}", "-cp", f"{KAFKA_LIBS}/*", main_class,
            *map(str, arguments)]


def archive_tool_classes(bootstrap):
    """Lets the JVM keep the classes of Kafka's tools, so that each start takes half the time. A JVM
    that cannot use the archive goes on without it."""
    if TOOL_CLASSES.exists():
        return
    fresh = TOOL_CLASSES.with_suffix(f".{os.getpid()}")
    command = _tool_command(TOOLS["kafka-consumer-groups"], ["--bootstrap-server", bootstrap, "--list"],
                            f"-XX:ArchiveClassesAtExit={fresh}")
    subprocess.run(command, capture_output=True, timeout=120)
    if fresh.exists():
        fresh.replace(TOOL_CLASSES)


def kafka_tool(main_class, *arguments, stdin=None, seconds=120, check=False):
    """Runs one of Apache Kafka's own command-line tools; returns the finished process."""
    archive = [f"-XX:SharedArchiveFile={TOOL_CLASSES}"] if TOOL_CLASSES.exists() else []
    command = _tool_command(main_class, arguments, *archive)
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds)
    if check and done.returncode != 0:
        raise AssertionError(f"{main_class} {arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


class KafkaTools:
    """Apache Kafka's tools in one JVM that is kept: for many commands one after the other."""

    def __init__(self):
        log4j = tools_log4j()
        self.process = subprocess.Popen(
            [JAVA, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j.configuration=file:{log4j}",
             "-cp", f"{KAFKA_LIBS}/*", str(ROOT / "compat" / "ToolRunner.java")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        _running.add(self.process)

    def run(self, tool, *arguments, stdin="", check=False):
        """Like kafka_tool, with the name of one of TOOLS."""
        words = [TOOLS[tool], stdin, *map(str, arguments)]
        self.process.stdin.write(" ".join(base64.b64encode(word.encode()).decode() or "-" for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        assert len(answer) == 3, f"the tools' JVM ended at {tool} {arguments}"
        out, err = ("" if text == "-" else base64.b64decode(text).decode() for text in answer[1:])
        done = subprocess.CompletedProcess([tool, *map(str, arguments)], int(answer[0]), out, err)
        assert not check or done.returncode == 0, f"{tool} {arguments}: exit {done.returncode}\n{out}\n{err}"
        return done

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()


# Kafka's scripts and the classes they run.
TOOLS = {
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-console-producer": "kafka.tools.ConsoleProducer",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "kafka-consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
    "kafka-broker-api-versions": "kafka.admin.BrokerApiVersionsCommand",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-dump-log": "kafka.tools.DumpLogSegments",
    "kafka-cluster": "org.apache.kafka.tools.ClusterTool",
    "kafka-delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka-leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
}
