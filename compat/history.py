"""The load on a cluster and what it proves: runs the processes of load.py beside a test and checks
what they wrote down against a full read and against the replicas' files.

The checks have the numbers of the invariants that every run of a cluster must keep:
I1 every acknowledged record is read at its offset; I2 one offset has one value for every reader,
replica and moment; I3 per producer and partition offsets grow in send order; I4 an idempotent
producer's value appears once; I5 nothing appears that nobody sent; I6 offsets are dense; I7 a
consumer neither skips nor jumps back; I8 log start and high watermark never go back; I9 the
replicas' logs are the same bytes; I15 a group's partition has one owner; I16 committed offsets
never go back.
"""

import array
import bisect
import collections
import itertools
import pathlib
import struct
import subprocess
import sys
import time

from cases import NotRun
from harness import TARGET, _running, wait_for

PYTHON = TARGET / "compat" / "python" / "bin" / "python"
LOAD = pathlib.Path(__file__).resolve().parent / "load.py"
# Of one kind of violation as many are told as help to understand it.
TOLD = 5


class Violations(collections.defaultdict):
    """{invariant: [what was seen]}"""

    def __init__(self):
        super().__init__(list)

    def add(self, invariant, text):
        self[invariant].append(text)

    def text(self):
        lines = []
        for invariant, seen in sorted(self.items()):
            lines += [f"{invariant}: {line}" for line in seen[:TOLD]]
            if len(seen) > TOLD:
                lines.append(f"{invariant}: … and {len(seen) - TOLD} more")
        return "\n".join(lines)


class Process:
    """One process of load.py and the file it writes."""

    def __init__(self, folder, name, *arguments):
        self.name = name
        self.path = pathlib.Path(folder) / f"{name}.history"
        with open(self.path.with_suffix(".err"), "wb") as errors:
            self.process = subprocess.Popen([str(PYTHON), str(LOAD), *map(str, arguments), str(self.path)],
                                            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True)
        _running.add(self.process)
        self._followed = 0

    def news(self):
        """The words of every complete line since this was last asked."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            file.seek(self._followed)
            text = file.read()
        whole = text[:text.rfind(b"\n") + 1]
        self._followed += len(whole)
        return [line.split() for line in whole.decode().splitlines()]

    def lines(self):
        """The words of every complete line so far."""
        if self.path.exists():
            with open(self.path, encoding="utf-8") as file:
                for line in file:
                    if line.endswith("\n"):
                        yield line.split()

    def stop(self, seconds=240):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def errors(self):
        return self.path.with_suffix(".err").read_text(errors="replace")[-1000:]


class Load:
    """Producers with unique values, members of one group and a watcher of offsets on one topic."""

    def __init__(self, folder, bootstrap, topic, partitions, producers=2, rate=300, members=1, plain=0):
        """`producers` idempotent ones and `plain` others, each with `rate` records a second."""
        if not PYTHON.exists():
            raise NotRun("confluent-kafka is not installed (compat/install.sh)")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.bootstrap, self.topic, self.partitions = bootstrap, topic, partitions
        # Values that the test sends itself.
        self.extra = set()
        # Brokers whose leader epochs are not compared.
        self.without_epochs = set()
        self.plain_names = {f"plain{n}" for n in range(plain)}
        names = [f"idem{n}" for n in range(producers)] + sorted(self.plain_names)
        self.producers = {name: Process(folder, name, "produce", bootstrap, topic, partitions, name, rate,
                                        int(name not in self.plain_names)) for name in names}
        self.members = {}
        for n in range(members):
            self.add_member(f"member{n}")
        # By producer the times of its acknowledgements, and their partitions.
        self.acks = {name: (array.array("d"), array.array("i")) for name in names}
        # By partition the largest offset acknowledged, and read by the group.
        self.acked_to, self.read_to = {}, {}
        self.watcher = Process(folder, "watch", "watch", bootstrap, topic, partitions)

    def add_member(self, name):
        self.members[name] = Process(self.folder, name, "group", self.bootstrap, self.topic, f"group-{self.topic}")

    def follow(self):
        """Takes in what the processes have written since; a history is too long to read at every look."""
        for name, process in self.producers.items():
            times, of = self.acks[name]
            for words in process.news():
                if words[0] == "A":
                    p = int(words[2])
                    times.append(float(words[4]))
                    of.append(p)
                    if words[3] != "None":
                        self.acked_to[p] = max(self.acked_to.get(p, 0), int(words[3]))
        for member in self.members.values():
            for words in member.news():
                if words[0] == "R":
                    p = int(words[1])
                    self.read_to[p] = max(self.read_to.get(p, -1), int(words[2]))

    def acked(self):
        """How many records are acknowledged by now."""
        return sum(1 for process in self.producers.values() for words in process.lines() if words[0] == "A")

    def wait_acked_everywhere(self, since=None, seconds=30, partitions=None):
        """Waits until every partition has an acknowledgement later than `since`; returns the time
        of the last partition's first one."""
        since = time.monotonic() if since is None else since
        found = {}

        def all_acked():
            found.update(self.first_acks(since))
            return set(found) >= set(range(self.partitions) if partitions is None else partitions)
        wait_for("acknowledgements of every partition", all_acked, seconds)
        return max(found[p] for p in (range(self.partitions) if partitions is None else partitions))

    def first_acks(self, since):
        """{partition: time of the first acknowledgement after `since`}"""
        self.follow()
        found = {}
        for times, of in self.acks.values():
            for at in range(bisect.bisect_right(times, since), len(times)):
                found[of[at]] = min(found.get(of[at], float("inf")), times[at])
        return found

    def wait_group_reads(self, seconds=60):
        """Waits until the group has read something of every partition that was acknowledged before."""
        self.follow()
        ends = dict(self.acked_to)

        def read():
            self.follow()
            return all(self.read_to.get(p, -1) >= end for p, end in ends.items())
        wait_for("the group to have read what was acknowledged", read, seconds)

    def stop_producers(self):
        for process in self.producers.values():
            if process.process.poll() is None:
                process.process.terminate()
        for process in self.producers.values():
            process.stop()

    def finish(self, replicas=None):
        """Ends everything, reads every partition and checks; returns (figures, violations).

        `replicas` are the log dirs of every broker, {broker: [dir]}, for I9.
        """
        self.stop_producers()
        self.wait_group_reads()
        for process in [*self.members.values(), self.watcher]:
            process.stop()
        reader = Process(self.folder, "reader", "read", self.bootstrap, self.topic, self.partitions)
        assert reader.process.wait(150) == 0, f"the full read: {reader.errors()}"
        return check(self, reader, replicas)

    def abandon(self):
        for process in [*self.producers.values(), *self.members.values(), self.watcher]:
            process.process.kill()
            process.process.wait()


def check(load, reader, replicas):
    wrong = Violations()
    final = {p: {} for p in range(load.partitions)}
    last = {}
    for _, p, offset, value in reader.lines():
        p, offset = int(p), int(offset)
        if offset != last.get(p, -1) + 1:
            wrong.add("I6", f"partition {p}: offset {offset} after {last.get(p, -1)}")
        last[p] = offset
        final[p][offset] = value

    sent_again = []
    seen, duplicated = collections.Counter(v for records in final.values() for v in records.values()), 0
    sent, acked, lost, failed = {}, 0, 0, 0
    longest = (0.0, None, None)
    for name, process in load.producers.items():
        in_order, ack_times = {}, collections.defaultdict(list)
        for words in process.lines():
            if words[0] == "E":
                sent[name] = int(words[1])
            elif words[0] == "F":
                failed += 1
                if name not in load.plain_names:
                    wrong.add("delivery", f"{name}-{words[1]} to partition {words[2]}: {words[3]}")
            elif words[0] == "A":
                n, p, at = int(words[1]), int(words[2]), float(words[4])
                acked += 1
                ack_times[p].append(at)
                if words[3] == "None":
                    # A record that was sent twice and appended once may be acknowledged without offset.
                    if f"{name}-{n}" not in seen:
                        lost += 1
                        wrong.add("I1", f"{name}-{n} acknowledged in partition {p} is not there")
                    continue
                offset = int(words[3])
                if final[p].get(offset) != f"{name}-{n}":
                    lost += 1
                    wrong.add("I1", f"{name}-{n} acknowledged at partition {p} offset {offset}; there is {final[p].get(offset)}")
                if name not in load.plain_names:
                    if offset <= in_order.get(p, (-1, -1))[1] and n > in_order[p][0]:
                        wrong.add("I3", f"{name}-{n} at partition {p} offset {offset}, after {name}-{in_order[p][0]} at {in_order[p][1]}")
                    in_order[p] = (n, offset)
        if name not in sent:
            wrong.add("delivery", f"{name} ended with {process.process.returncode} and left answers out: {process.errors()}")
        for p, times in ack_times.items():
            for before, after in zip(times, times[1:]):
                if after - before > longest[0]:
                    longest = (after - before, name, p)
    for value, times in seen.items():
        if value in load.extra:
            continue
        name, _, n = value.rpartition("-")
        if times > 1:
            duplicated += times - 1
            if name not in load.plain_names:
                places = [(p, offset) for p, records in final.items() for offset, other in records.items() if other == value]
                copies = [copy(load.topic, p, offset, replicas or {}) for p, offset in places]
                if None in copies or len({(c.producer, c.epoch) for c in copies}) < times:
                    wrong.add("I4", f"{value} is there {times} times: {', '.join(map(str, copies))}")
                else:
                    sent_again.append(f"{value}: {', '.join(map(str, copies))}")
        if name not in load.producers or (name in sent and not 0 <= int(n) < sent[name]):
            wrong.add("I5", f"{value} was not sent")

    if len(sent_again) > acked / 1000:
        wrong.add("I4", f"{len(sent_again)} records were sent again in a new producer epoch, as {sent_again[0]}")
    check_group(load, final, wrong)
    check_watcher(load, final, wrong)
    if replicas:
        check_replicas(load, final, replicas, wrong)
    figures = {"acked": acked, "lost": lost, "duplicated": duplicated, "failed": failed,
               "idempotent duplicates": len(wrong.get("I4", [])), "sent again in a new producer epoch": len(sent_again),
               "longest unavailability": longest[0]}
    return figures, wrong


def check_group(load, final, wrong):
    commits, starts, owned = [], [], collections.defaultdict(list)
    for name, process in load.members.items():
        position, owns = {}, {}
        for words in process.lines():
            p = int(words[1])
            if words[0] == "P":
                starts.append((float(words[3]), name, p, int(words[2])))
                position[p] = None
                owns[p] = [float(words[3]), float("inf"), name]
                owned[p].append(owns[p])
            elif words[0] == "V":
                if p in owns:
                    owns[p][1] = float(words[2])
            elif words[0] == "C":
                commits.append((float(words[3]), float(words[4]), name, p, int(words[2])))
            elif words[0] == "R":
                offset = int(words[2])
                if final[p].get(offset) != words[3]:
                    wrong.add("I2", f"{name} read {words[3]} at partition {p} offset {offset}; later there is {final[p].get(offset)}")
                before = position.get(p)
                if before is not None and offset != before + 1:
                    wrong.add("I7", f"{name}: partition {p} offset {offset} after {before}")
                position[p] = offset
    by_partition = collections.defaultdict(list)
    for commit in commits:
        by_partition[commit[3]].append(commit)
    for p, done in by_partition.items():
        acknowledged = Highest((ended, offset) for _, ended, _, _, offset in done)
        for begun, _, name, _, offset in done:
            if offset < acknowledged.before(begun):
                wrong.add("I16", f"{name} committed {offset} for partition {p} after {acknowledged.before(begun)} was committed")
            newer = [span for span in owned[p] if span[2] != name and span[0] < begun]
            own = max((span[0] for span in owned[p] if span[2] == name and span[0] <= begun), default=0)
            if newer and max(newer)[0] > own:
                wrong.add("I15", f"{name} committed {offset} for partition {p}, which {max(newer)[2]} had been given")
        for at, name, q, offset in starts:
            if q == p and max(offset, -1) < acknowledged.before(at):
                wrong.add("I16", f"{name} was told offset {offset} for partition {p} after {acknowledged.before(at)} was committed")


class Highest:
    """The highest value that was known before a time."""

    def __init__(self, timed):
        timed = sorted(timed)
        self.times = [at for at, _ in timed]
        self.highest = list(itertools.accumulate((value for _, value in timed), max))

    def before(self, at):
        """-1 when there was none."""
        index = bisect.bisect_left(self.times, at)
        return self.highest[index - 1] if index else -1


def check_watcher(load, final, wrong):
    lows, highs = {}, {}
    for _, p, low, high, at in load.watcher.lines():
        p, low, high = int(p), int(low), int(high)
        if low < lows.get(p, 0):
            wrong.add("I8", f"partition {p}: log start offset {low} after {lows[p]} (at {at})")
        if high < highs.get(p, 0):
            wrong.add("I8", f"partition {p}: high watermark {high} after {highs[p]} (at {at})")
        lows[p], highs[p] = low, high
    for p, high in highs.items():
        if high > len(final[p]):
            wrong.add("I8", f"partition {p}: high watermark {high}, but {len(final[p])} records in the end")


def log_bytes(folder):
    """The segments of one partition, one after the other: replicas roll at different places."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.log")))


def batches(data):
    """(base offset, last offset, leader epoch, start, end) of every batch."""
    at = 0
    while at + 61 <= len(data):
        base, length, epoch = struct.unpack_from(">qii", data, at)
        end = at + 12 + length
        if length < 49 or end > len(data):
            break
        yield base, base + struct.unpack_from(">i", data, at + 23)[0], epoch, at, end
        at = end


Copy = collections.namedtuple("Copy", "partition offset producer epoch sequence leader_epoch")


def copy(topic, p, offset, replicas):
    """Who sent a record, as any replica has it. A client that is told that a record may not have reached enough
    replicas, and then that a later one is out of order, begins a new producer epoch and sends both again
    (librdkafka does, whatever the broker): what no broker can tell from new records is not its fault."""
    for dirs in replicas.values():
        for folder in [d / f"{topic}-{p}" for d in dirs if (d / f"{topic}-{p}").exists()]:
            data = log_bytes(folder)
            for base, last, leader_epoch, at, _ in batches(data):
                if base <= offset <= last:
                    producer, epoch, sequence = struct.unpack_from(">qhi", data, at + 43)
                    return Copy(p, offset, producer, epoch, sequence + offset - base, leader_epoch)
    return None


def epochs(folder, below):
    """(epoch, start offset) of leader-epoch-checkpoint, of epochs that have records."""
    lines = (folder / "leader-epoch-checkpoint").read_text().split("\n")[2:]
    return [tuple(map(int, line.split())) for line in lines if line and int(line.split()[1]) < below]


def check_replicas(load, final, replicas, wrong):
    """I9: byte for byte up to the high watermark, and the leader epochs of what is there."""
    for p in range(load.partitions):
        end, known = len(final[p]), {}
        for broker, dirs in replicas.items():
            for folder in [d / f"{load.topic}-{p}" for d in dirs if (d / f"{load.topic}-{p}").exists()]:
                data, upto, next_offset = log_bytes(folder), 0, 0
                for base, last, _, _, batch_end in batches(data):
                    if last >= end:
                        break
                    if base != next_offset:
                        wrong.add("I9", f"broker {broker} partition {p}: batch at offset {base} after {next_offset - 1}")
                    upto, next_offset = batch_end, last + 1
                if next_offset < end:
                    wrong.add("I9", f"broker {broker} partition {p}: its log ends at {next_offset}, the high watermark is {end}")
                try:
                    known[broker] = (data[:upto], epochs(folder, end))
                except (OSError, ValueError) as failure:
                    wrong.add("I9", f"broker {broker} partition {p}: {failure}")
        with_epochs = {broker: checkpoint for broker, (_, checkpoint) in known.items() if broker not in load.without_epochs}
        for broker, (data, checkpoint) in known.items():
            first, (expected, _) = next(iter(known.items()))
            if data != expected and len(data) == len(expected):
                at = next(i for i in range(len(data)) if data[i] != expected[i])
                where = next((f"in the batch of offsets {b}..{l}" for b, l, _, s, e in batches(data) if s <= at < e), "")
                wrong.add("I9", f"partition {p}: brokers {first} and {broker} differ at byte {at} {where}")
            elif data != expected:
                wrong.add("I9", f"partition {p}: brokers {first} and {broker} have {len(expected)} and {len(data)} bytes up to offset {end}")
        if len(set(map(tuple, with_epochs.values()))) > 1:
            wrong.add("I9", f"partition {p}: leader epochs by broker {with_epochs}")


def figure_line(figures, **more):
    words = {**more, **figures}
    return ", ".join(f"{name} {value:.2f} s" if isinstance(value, float) else f"{name} {value}" for name, value in words.items())


if __name__ == "__main__":
    sys.exit(__doc__)
