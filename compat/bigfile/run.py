#!/usr/bin/env python3
"""A large file of JSON lines goes in through kcat and must come out byte for byte the same, in every
codec, with the broker killed (kill -9) and started again in the middle.

`run.py [MEGABYTES]`: the default is small enough for every run of the tests; 1000 is the full one.
"""

import hashlib
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import NotRun, Suite, equal  # noqa: E402
from harness import Ottla, wait_for  # noqa: E402

WORDS = ("order customer shipped pending invoice street Zürich 東京 refund basket voucher express gift "
         "returned warehouse carrier tracking label total discount").split()


def write_lines(path, megabytes):
    """Seeded JSON lines that look like events; returns (lines, checksum)."""
    random_source = random.Random(20240611)
    digest = hashlib.sha256()
    lines = size = 0
    with open(path, "wb") as file:
        while size < megabytes * 1_000_000:
            chunk = []
            for _ in range(1000):
                chunk.append(json.dumps({
                    "id": lines, "user": random_source.randrange(10**6), "amount": round(random_source.random() * 500, 2),
                    "at": f"2024-06-{random_source.randrange(1, 30):02}T{random_source.randrange(24):02}:00:00Z",
                    "note": " ".join(random_source.choices(WORDS, k=random_source.randrange(4, 40)))}, ensure_ascii=False))
                lines += 1
            data = ("\n".join(chunk) + "\n").encode()
            file.write(data)
            digest.update(data)
            size += len(data)
    return lines, digest.hexdigest()


def log_bytes(broker, topic):
    return sum(path.stat().st_size for path in (broker.data / f"{topic}-0").glob("*.log")
               ) if (broker.data / f"{topic}-0").exists() else 0


def there_and_back(broker, source, lines, checksum, codec, megabytes):
    topic = f"big-{codec}"
    sender = subprocess.Popen(
        ["kcat", "-b", broker.bootstrap, "-P", "-E", "-t", topic, "-z", codec, "-l", str(source), "-X", "acks=all",
         "-X", "enable.idempotence=true", "-X", "message.timeout.ms=300000", "-X", "reconnect.backoff.max.ms=500"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    errors = []
    collector = threading.Thread(target=lambda: errors.extend(sender.stderr), daemon=True)
    collector.start()
    # A tenth of what the best codec leaves of the file.
    wait_for("some of the file to be on disk", lambda: log_bytes(broker, topic) > megabytes * 20_000 or sender.poll() is not None, 120)
    assert sender.poll() is None, "the producer ended before the broker was killed: use a larger file"
    broker.kill()
    broker.start()
    equal(sender.wait(1200), 0, f"exit code of the producer ({errors[-3:]})")
    collector.join(10)
    failures = [line for line in errors if "Delivery failed" in line]
    assert not failures, failures[:3]
    reader = subprocess.Popen(["kcat", "-b", broker.bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q"],
                              stdout=subprocess.PIPE)
    digest, count = hashlib.sha256(), 0
    for block in iter(lambda: reader.stdout.read(1 << 20), b""):
        digest.update(block)
        count += block.count(b"\n")
    equal(reader.wait(60), 0, "exit code of the consumer")
    equal(count, lines, "lines read")
    equal(digest.hexdigest(), checksum, "checksum of what was read")
    print(f"   {codec}: {lines} lines, {megabytes} MB, {log_bytes(broker, topic) / 1e6:.0f} MB on disk, sha256 {checksum[:16]}… the same", flush=True)


def main():
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    suite = Suite("bigfile")
    if not shutil.which("kcat"):
        def missing():
            raise NotRun("kcat is not installed")
        suite.case("all", missing)
        suite.finish()
    with tempfile.TemporaryDirectory(prefix="ottla-bigfile-") as folder:
        source = pathlib.Path(folder) / "lines.json"
        lines, checksum = write_lines(source, megabytes)
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            with Ottla() as broker:
                suite.case(f"{megabytes} MB, {codec}, kill -9 in the middle", there_and_back, broker, source, lines,
                           checksum, codec, megabytes)
    suite.finish()


if __name__ == "__main__":
    main()
