#!/usr/bin/env python3
"""Ottla's own command-line tools beside Apache Kafka 3.9's: every row runs once with Kafka's tool
against one Ottla broker and once with `ottla TOOL` against a second one that is treated the same.
What they print, on which stream, and their exit codes must be equal.

Rows are those of `tool_rows.py`. Every other row of ours is called by the name of Kafka's script,
through a link as the image has them. What our tools do otherwise on purpose is in `accepted`, with
the reason.
"""

import concurrent.futures
import pathlib
import re
import select
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite, equal  # noqa: E402
from harness import (  # noqa: E402
    TOOLS, Ottla, archive_tool_classes, free_port, have_kafka, kafka_tool, ottla_binary)
from tool_rows import comparable, difference, rows  # noqa: E402


def own_rows(broker):
    """Rows that make sense only where both tools look at the same: an absent server, one file."""
    impatient = broker.folder / "impatient.properties"
    impatient.write_text("default.api.timeout.ms=2000\nrequest.timeout.ms=1000\n")
    nobody = ["--bootstrap-server", f"127.0.0.1:{free_port()}"]
    yield "topics nobody answers", "kafka-topics", [*nobody, "--command-config", str(impatient), "--list"], None
    yield "groups nobody answers", "kafka-consumer-groups", [*nobody, "--timeout", "2000", "--list"], None
    groups = [path for path in broker.data.glob("__consumer_offsets-*/*.log") if path.stat().st_size]
    yield "dump-log groups", "kafka-dump-log", ["--files", ",".join(map(str, groups)), "--offsets-decoder"], None
    yield "dump-log decoder", "kafka-dump-log", ["--files", str(broker.data / "lines-0" / "00000000000000000000.log"),
                                                 "--value-decoder-class", "org.apache.kafka.tools.api.IntegerDecoder",
                                                 "--skip-record-metadata"], None


CHANGES = {"--create", "--alter", "--delete", "--delete-offsets", "--execute"}


def only_looks(name, tool, arguments):
    """Whether a row changes nothing and shows nothing that the start of another group changes."""
    if name.startswith("groups list") or " live" in name or name == "groups reset all groups":
        return False
    if "console" in tool or tool == "kafka-delete-records":
        return False
    return not CHANGES.intersection(arguments)


def pairs(reference, subject):
    """Each row for both brokers."""
    yield from zip(rows(reference), rows(subject))
    for row in own_rows(subject):
        yield row, row


def accepted(name, tool, code, out, err):
    """The outcome of a row without what our tools do otherwise on purpose."""
    # Where an error came from in Java: the trace, and the exceptions around the one that says what
    # happened.
    err = re.sub(r"^(\tat |\t\.\.\. \d+ more|Caused by: ).*\n?", "", err, flags=re.M)
    err = re.sub(r"^(Exception in thread \"main\" |java\.lang\.RuntimeException: "
                 r"|java\.util\.concurrent\.(Execution|Completion)Exception: |java\.time\.format\.DateTimeParseException: "
                 r"|joptsimple\.\w+: )+", "", err, flags=re.M)
    # How often a client tries, and which of its calls was the one that ran out of time.
    err = re.sub(r".*(could not be established|Couldn't resolve server).*\n?", "", err)
    out, err = (re.sub(r" Call: \w+(\(.*?\))?", "", text) for text in (out, err))
    out, err = (re.sub(r"(java.util.concurrent.ExecutionException: )?org.apache.kafka.common.(KafkaException: Failed to "
                       r"find brokers to send ListGroups|errors.TimeoutException: Timed out waiting for a node assignment.)",
                       "NOBODY", text) for text in (out, err))
    # How often a client asks for a topic that is being created depends on the clock.
    err = re.sub(r".*The metadata response from the cluster reported a recoverable issue.*\n?", "", err)
    # Our usage after a complaint is ordered by purpose, Kafka's by letter.
    err = re.split(r"^(?:Option +Description|Usage: )", err, maxsplit=1, flags=re.M)[0]
    # Kafka lists these in the order of Java's hash of an object's address.
    err = re.sub(r"(takes .*? options: |scenarios: )(.*)", lambda m: m[1] + " ".join(sorted(re.findall(r"[\w-]+", m[2]))), err)
    out, err = out.strip(), err.strip()
    # Some of Kafka's tools say a complaint twice, as message and as head of the trace.
    err = "\n".join(dict.fromkeys(err.splitlines()))
    # Kafka reads numbers only when it needs them, we read all flags first.
    number = re.search(r"Cannot parse argument .*", f"{out}\n{err}")
    if number:
        return code, number[0], ""
    if tool == "kafka-consumer-groups":
        # Kafka begins each row of some tables with a line break and ends none, and 3.9 forgot the
        # breaks altogether in what --reset-offsets and --delete-offsets print; ours is one row a line.
        # Its rows come in the order of a hash table.
        err = "\n".join(sorted(err.splitlines()))
        if "NEW-OFFSET" in out:
            before, _, table = out.partition("GROUP ")
            cells = table.split()
            out = "\n".join([before.strip(), *sorted(" ".join(cells[at:at + 4]) for at in range(3, len(cells), 4))])
        elif "STATUS" in out:
            out = "".join(out.split())
        else:
            out = "\n".join(sorted(line.rstrip() for line in out.splitlines() if line))
    return code, out, err


def run_ottla(tool, arguments, stdin, links, by_link):
    command = [links / f"{tool}.sh"] if by_link else [ottla_binary(), tool.removeprefix("kafka-")]
    return subprocess.run([*command, *arguments], input=stdin, capture_output=True, text=True, timeout=120)


def start(*words, **streams):
    return subprocess.Popen([ottla_binary(), *map(str, words)], text=True, **streams)


def ended(process, seconds=60):
    """What a tool printed until it ended by itself."""
    try:
        return process.communicate(timeout=seconds)
    finally:
        process.kill()


def a_line(stream, seconds=60):
    """The next line; each wait is for one line only, so none hides in a buffer."""
    ready, _, _ = select.select([stream], [], [], seconds)
    assert ready, f"no line within {seconds} s"
    return stream.readline()


def a_line_is_sent_before_the_next_comes(broker):
    b = ["--bootstrap-server", broker.bootstrap]
    producer = start("console-producer", *b, "--topic", "slow", stdin=subprocess.PIPE)
    try:
        producer.stdin.write("first\n")
        producer.stdin.flush()
        consumer = start("console-consumer", *b, "--topic", "slow", "--from-beginning", "--max-messages", "1",
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, _ = ended(consumer)
        equal(out, "first\n", "what arrived while the producer waits for its next line")
    finally:
        producer.stdin.close()
        equal(producer.wait(30), 0, "exit code of the producer")


def an_interrupted_consumer_commits(broker):
    b = ["--bootstrap-server", broker.bootstrap]
    consumer = start("console-consumer", *b, "--topic", "slow", "--from-beginning", "--group", "interrupted",
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        equal(a_line(consumer.stdout), "first\n", "the record")
        consumer.send_signal(signal.SIGINT)
        _, err = ended(consumer)
        equal((consumer.returncode, err), (130, "Processed a total of 1 messages\n"), "how it ended")
        described, _ = ended(start("consumer-groups", *b, "--describe", "--group", "interrupted",
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        equal(described.split()[9:15], ["interrupted", "slow", "0", "1", "1", "0"], "what it committed")
    finally:
        consumer.kill()


def console_tools_survive_a_restart(broker):
    b = ["--bootstrap-server", broker.bootstrap]
    with open(broker.folder / "restart.err", "w") as err:
        consumer = start("console-consumer", *b, "--topic", "slow", "--from-beginning", "--group", "restart",
                         stdout=subprocess.PIPE, stderr=err)
        producer = start("console-producer", *b, "--topic", "slow", "--timeout", "0", stdin=subprocess.PIPE, stderr=err)
    try:
        equal(a_line(consumer.stdout), "first\n", "the record before the restart")
        broker.kill()
        broker.start()
        producer.stdin.write("second\n")
        producer.stdin.flush()
        equal(a_line(consumer.stdout), "second\n", "the record after the restart")
        broker.kill()
        producer.stdin.write("third\n")
        producer.stdin.flush()
        broker.start()
        equal(a_line(consumer.stdout), "third\n", "the record of the time between")
        producer.stdin.close()
        equal(producer.wait(30), 0, "exit code of the producer")
    finally:
        consumer.kill()
        producer.kill()


def a_tool_waits_for_its_broker():
    with Ottla() as broker:
        broker.kill()
        waiting = start("topics", "--bootstrap-server", broker.bootstrap, "--list",
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert "could not be established" in a_line(waiting.stderr), "it did not say what it waits for"
            broker.start()
            out, _ = ended(waiting)
            equal((waiting.returncode, out), (0, "\n"), "what it answered in the end")
        finally:
            waiting.kill()


def main():
    suite = Suite("own-tools")
    with Ottla() as broker:
        for case in (a_line_is_sent_before_the_next_comes, an_interrupted_consumer_commits,
                     console_tools_survive_a_restart):
            suite.case(case.__name__.replace("_", " "), case, broker)
    suite.case("a tool waits for its broker", a_tool_waits_for_its_broker)
    if not have_kafka():
        def missing():
            raise NotRun("Apache Kafka 3.9's jars are not here (mvn, Maven Central)")
        suite.case("all", missing)
        suite.finish()
    ours = subprocess.run([ottla_binary(), "--help"], capture_output=True, text=True, timeout=60).stdout
    turns = {}
    running = []
    with Ottla() as reference, Ottla() as subject, concurrent.futures.ThreadPoolExecutor(3) as pool:
        archive_tool_classes(reference.bootstrap)
        links = subject.folder / "bin"
        links.mkdir()
        for tool in TOOLS:
            (links / f"{tool}.sh").symlink_to(ottla_binary())
        for (name, tool, arguments, stdin), (_, _, our_arguments, _) in pairs(reference, subject):
            if f"  {tool.removeprefix('kafka-')} " not in ours:
                continue
            if tool == "kafka-dump-log":
                # It reads files of one data dir, not what different clients made of the same lines.
                arguments = our_arguments
            turns[tool] = turns.get(tool, 0) + 1
            by_link = turns[tool] % 2 == 1

            def compare(name=name, tool=tool, arguments=arguments, our_arguments=our_arguments, stdin=stdin, by_link=by_link):
                actual = comparable(name, tool, run_ottla(tool, our_arguments, stdin, links, by_link), subject)
                done = kafka_tool(TOOLS[tool], *arguments, stdin=stdin)
                expected = comparable(name, tool, done, subject if arguments is our_arguments else reference)
                expected, actual = accepted(name, tool, *expected), accepted(name, tool, *actual)
                assert expected == actual, difference(expected, actual, "ours")
            # Rows that only look may overlap; what a row changes, later ones see.
            looks = only_looks(name, tool, our_arguments)
            if not looks:
                concurrent.futures.wait(running)
                running.clear()
            running.append(pool.submit(suite.case, name, compare))
            if not looks:
                running[0].result()
    suite.finish()


if __name__ == "__main__":
    main()
