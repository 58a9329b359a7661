#!/usr/bin/env python3
"""The checker of history.py must find each violation that it claims to find."""

import pathlib
import struct
import sys
import tempfile
import types
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from history import Highest, check  # noqa: E402
from wire import batch  # noqa: E402


def process(*lines):
    return types.SimpleNamespace(lines=lambda: (line.split() for line in lines), errors=lambda: "",
                                 process=types.SimpleNamespace(returncode=0))


class Checker(unittest.TestCase):
    """Two partitions, two idempotent producers' records, one member that read and committed."""

    def setUp(self):
        self.read = ["R 0 0 idem0-0", "R 0 1 idem0-2", "R 1 0 idem0-1", "R 1 1 plain0-0"]
        self.idem = ["A 0 0 0 1.0", "A 2 0 1 1.5", "A 1 1 0 1.1", "E 3"]
        self.plain = ["A 0 1 1 1.2", "E 1"]
        self.members = {"m0": ["P 0 -1001 1.0", "P 1 -1001 1.0", "R 0 0 idem0-0", "C 0 1 2.0 2.1", "R 0 1 idem0-2",
                               "C 0 2 3.0 3.1", "R 1 0 idem0-1", "C 1 1 3.0 3.1"]}
        self.watch = ["W 0 0 1 1.0", "W 0 0 2 2.0", "W 1 0 2 2.0"]

    def found(self, replicas=None):
        load = types.SimpleNamespace(
            topic="t", partitions=2, producers={"idem0": process(*self.idem), "plain0": process(*self.plain)}, plain_names={"plain0"},
            extra=set(), without_epochs=set(), members={name: process(*lines) for name, lines in self.members.items()},
            watcher=process(*self.watch))
        figures, wrong = check(load, process(*self.read), replicas)
        return figures, set(wrong)

    def test_nothing_wrong(self):
        figures, wrong = self.found()
        self.assertEqual(wrong, set())
        self.assertEqual((figures["acked"], figures["lost"], figures["duplicated"]), (4, 0, 0))
        self.assertAlmostEqual(figures["longest unavailability"], 0.5)

    def test_i1_a_lost_record(self):
        self.read.remove("R 0 1 idem0-2")
        figures, wrong = self.found()
        self.assertIn("I1", wrong)
        self.assertEqual(figures["lost"], 1)

    def test_i1_acknowledged_without_offset(self):
        self.idem[1] = "A 2 0 None 1.5"
        self.assertEqual(self.found()[1], set())
        self.read[1] = "R 0 1 plain0-0"
        self.assertIn("I1", self.found()[1])

    def test_i2_another_value_for_a_reader(self):
        self.members["m0"][4] = "R 0 1 idem0-9"
        self.assertEqual(self.found()[1], {"I2"})

    def test_i3_out_of_order(self):
        self.read[:2] = ["R 0 0 idem0-2", "R 0 1 idem0-0"]
        self.idem[:2] = ["A 0 0 1 1.0", "A 2 0 0 1.5"]
        self.assertIn("I3", self.found()[1])

    def test_i4_a_duplicate(self):
        self.read.append("R 0 2 idem0-2")
        self.assertEqual(self.found()[1], {"I4"})
        self.read[-1] = "R 0 2 plain0-0"
        self.assertEqual(self.found()[1], set(), "not judged without idempotence")

    def test_i4_a_copy_of_another_producer_epoch_is_the_clients(self):
        self.read.append("R 0 2 idem0-2")
        self.idem[:0] = [f"A {n} 0 None 1.0" for n in [0] * 2000]
        with tempfile.TemporaryDirectory() as folder:
            def log(*senders):
                data = b""
                for offset, sender in enumerate(senders):
                    bytes_of = bytearray(struct.pack(">q", offset) + batch(b"v")[8:])
                    struct.pack_into(">qhi", bytes_of, 43, *sender)
                    data += bytes_of
                for p in range(2):
                    path = pathlib.Path(folder) / f"t-{p}"
                    path.mkdir(exist_ok=True)
                    (path / "00000000000000000000.log").write_bytes(data)
                    (path / "leader-epoch-checkpoint").write_text("0\n1\n0 0\n")
                return {1: [pathlib.Path(folder)]}
            figures, wrong = self.found(log((7, 0, 0), (7, 0, 1), (7, 1, 0)))
            self.assertEqual((wrong, figures["sent again in a new producer epoch"]), (set(), 1))
            self.assertEqual(self.found(log((7, 0, 0), (7, 0, 1), (7, 0, 2)))[1], {"I4"})
            # More than a few are not bad luck.
            del self.idem[:2000]
            self.assertEqual(self.found(log((7, 0, 0), (7, 0, 1), (7, 1, 0)))[1], {"I4"})

    def test_i5_nobody_sent_it(self):
        self.read.append("R 0 2 idem0-3")
        self.assertEqual(self.found()[1], {"I5"})
        self.read[-1] = "R 0 2 other-0"
        self.assertEqual(self.found()[1], {"I5"})

    def test_i6_a_hole(self):
        self.read[3] = "R 1 2 plain0-0"
        self.assertIn("I6", self.found()[1])

    def test_i7_a_skip(self):
        self.members["m0"].remove("R 0 0 idem0-0")
        self.members["m0"][2:2] = ["R 0 1 idem0-2", "R 0 0 idem0-0"]
        self.assertIn("I7", self.found()[1])

    def test_i8_a_high_watermark_that_goes_back(self):
        self.watch.append("W 0 0 1 3.0")
        self.assertEqual(self.found()[1], {"I8"})
        self.watch[-1] = "W 0 0 3 3.0"
        self.assertEqual(self.found()[1], {"I8"}, "more than there is in the end")

    def test_i15_two_owners(self):
        self.members["m1"] = ["P 0 2 3.5"]
        self.assertEqual(self.found()[1], set())
        self.members["m0"].append("C 0 2 4.0 4.1")
        self.assertEqual(self.found()[1], {"I15"})

    def test_i16_a_committed_offset_that_goes_back(self):
        self.members["m1"] = ["P 0 1 3.5"]
        self.assertEqual(self.found()[1], {"I16"})
        self.members["m1"] = ["P 0 -1001 3.5"]
        self.assertEqual(self.found()[1], {"I16"})

    def test_an_answer_that_never_came(self):
        self.idem.remove("E 3")
        self.assertEqual(self.found()[1], {"delivery"})

    def test_i9_replicas(self):
        with tempfile.TemporaryDirectory() as folder:
            logs = [struct.pack(">q", n) + batch(f"v{n}".encode())[8:] for n in range(2)]
            replicas = {}
            for broker in (1, 2):
                replicas[broker] = [pathlib.Path(folder) / str(broker)]
                for p in range(2):
                    path = replicas[broker][0] / f"t-{p}"
                    path.mkdir(parents=True)
                    # Replicas roll at different places.
                    if broker == 1:
                        (path / "00000000000000000000.log").write_bytes(b"".join(logs))
                    else:
                        (path / "00000000000000000000.log").write_bytes(logs[0])
                        (path / "00000000000000000001.log").write_bytes(logs[1])
                    (path / "leader-epoch-checkpoint").write_text("0\n1\n0 0\n")
            self.assertEqual(self.found(replicas)[1], set())
            epochs = replicas[2][0] / "t-1" / "leader-epoch-checkpoint"
            epochs.write_text("0\n2\n0 0\n3 1\n")
            self.assertEqual(self.found(replicas)[1], {"I9"})
            epochs.write_text("0\n2\n0 0\n3 2\n")
            self.assertEqual(self.found(replicas)[1], set(), "an epoch without records is only its leader's")
            last = replicas[2][0] / "t-0" / "00000000000000000001.log"
            last.write_bytes(logs[1][:-1] + b"\1")
            self.assertEqual(self.found(replicas)[1], {"I9"})
            last.unlink()
            self.assertEqual(self.found(replicas)[1], {"I9"}, "a log that ends too soon")


class HighestBefore(unittest.TestCase):
    def test_before(self):
        highest = Highest([(3.0, 5), (1.0, 7), (2.0, 4)])
        self.assertEqual([highest.before(at) for at in (1.0, 1.5, 2.5, 9.0)], [-1, 7, 7, 7])


if __name__ == "__main__":
    unittest.main()
