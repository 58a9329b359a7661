"""A few lines of test runner: named cases, one result line each, one closing line."""

import sys
import threading
import time
import traceback


class NotRun(Exception):
    """A case that this machine cannot run; it is reported as such and never as passed."""


class Suite:
    def __init__(self, name):
        self.name = name
        self.passed = self.failed = self.skipped = 0
        self.lock = threading.Lock()

    def ended(self, outcome, line):
        with self.lock:
            setattr(self, outcome, getattr(self, outcome) + 1)
            print(line, flush=True)

    def case(self, name, function, *arguments):
        """Runs one case and prints its line; returns whether it passed."""
        started = time.monotonic()
        try:
            function(*arguments)
        except NotRun as reason:
            self.ended("skipped", f"NOT RUN {self.name} {name}: {reason}")
            return False
        except Exception as failure:  # noqa: BLE001 a failing case must not end the suite
            trace = "" if isinstance(failure, AssertionError) else traceback.format_exc()
            self.ended("failed", f"FAILED {self.name} {name}: {failure}\n{trace}")
            return False
        self.ended("passed", f"ok {self.name} {name} ({time.monotonic() - started:.1f} s)")
        return True

    def finish(self):
        print(f"{self.name}: {self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        sys.exit(1 if self.failed else 0)


def equal(actual, expected, what):
    assert actual == expected, f"{what}: expected {expected!r}, got {actual!r}"
