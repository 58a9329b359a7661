"""Starts and stops the processes the compatibility tests need: ZooKeeper, Apache Kafka 3.9, Ottla.

Every server gets a free port and a folder of its own below a temp dir, is waited for by a
condition, and is ended by its pid when its `with` block is left. Nothing here sleeps for a fixed
time and hopes.
"""

import atexit
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

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

    def ready(self):
        return can_connect(self.port) and "started (kafka.server.KafkaServer)" in self.log.read_text(errors="replace")


class Kafka(Broker):
    """Apache Kafka 3.9 in ZooKeeper mode, from Maven Central's jars."""

    name = "kafka"

    def launch(self):
        if self.log.exists():
            self.log.unlink()
        log4j = self.folder / "log4j.properties"
        log4j.write_text(
            "log4j.rootLogger=INFO, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.out.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.out.layout.ConversionPattern=[%d] %p %m (%c)%n\n")
        self.spawn([JAVA, "-Xmx1g", "-Xms256m", f"-Dlog4j.configuration=file:{log4j}",
                    "-cp", f"{KAFKA_LIBS}/*", "kafka.Kafka", str(self.write_properties())])


class Ottla(Broker):
    """Our broker; without a ZooKeeper it runs on its embedded store."""

    name = "ottla"

    def launch(self):
        if self.log.exists():
            self.log.unlink()
        env = {k: v for k, v in os.environ.items() if not k.startswith("KAFKA_")}
        self.spawn([ottla_binary(), "server", str(self.write_properties())], env=env)


def have_kafka():
    return any(KAFKA_LIBS.glob("kafka_2.13-*.jar"))


def _tools_log4j():
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
            f"-Dlog4j.configuration=file:{_tools_log4j()}", "-cp", f"{KAFKA_LIBS}/*", main_class,
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
}
