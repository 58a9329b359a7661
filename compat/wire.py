"""As much of Kafka's protocol as it takes to send Produce, ListOffsets and Metadata requests to one
chosen broker, which no client library does: they go to whom they believe to lead."""

import socket
import struct
import time

CRC32C = []
for n in range(256):
    for _ in range(8):
        n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
    CRC32C.append(n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(n):
    n, out = (n << 1) ^ (n >> 63), b""
    while n & ~0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def batch(value):
    """A record batch (magic 2) of one record, without producer id."""
    record = b"\0" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    now = int(time.time() * 1000)
    rest = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + varint(len(record)) + record
    return struct.pack(">qiibI", 0, len(rest) + 9, -1, 2, crc32c(rest)) + rest


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


class Connection:
    """One connection to one broker."""

    def __init__(self, port, seconds=30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.correlation = 0

    def send_produce(self, topic, partition, value, acks=-1, timeout_ms=10000):
        """Produce v8; the answer is read by `produced`."""
        self.correlation += 1
        records = batch(value.encode())
        body = (struct.pack(">h", -1) + struct.pack(">hii", acks, timeout_ms, 1) + string(topic)
                + struct.pack(">iii", 1, partition, len(records)) + records)
        frame = struct.pack(">hhi", 0, 8, self.correlation) + string("wire") + body
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def produced(self):
        """(error code, base offset) of the only partition."""
        answer = self.receive()
        at = 4 + 4 + 2 + struct.unpack_from(">h", answer, 8)[0] + 4 + 4
        return struct.unpack_from(">hq", answer, at)

    def end_offset(self, topic, partition):
        """(error code, end offset), by ListOffsets v1."""
        self.correlation += 1
        frame = (struct.pack(">hhi", 2, 1, self.correlation) + string("wire") + struct.pack(">ii", -1, 1) + string(topic)
                 + struct.pack(">iiq", 1, partition, -1))
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        answer = self.receive()
        code, _, offset = struct.unpack_from(">hqq", answer, len(answer) - 18)
        return code, offset

    def metadata(self, topic=None):
        """{(topic, partition): (leader, isr)} of every partition, or of one topic's, by Metadata v1."""
        self.correlation += 1
        topics = struct.pack(">i", -1) if topic is None else struct.pack(f">ih{len(topic)}s", 1, len(topic), topic.encode())
        self.socket.sendall(struct.pack(">ihhih", 10 + len(topics), 3, 1, self.correlation, -1) + topics)
        answer, at = self.receive(), 4

        def number(form):
            nonlocal at
            value, = struct.unpack_from(form, answer, at)
            at += struct.calcsize(form)
            return value

        def text():
            nonlocal at
            length = max(number(">h"), 0)
            at += length
            return answer[at - length:at].decode()

        def numbers():
            return [number(">i") for _ in range(number(">i"))]
        for _ in range(number(">i")):
            # Id, host, port, rack.
            number(">i"), text(), number(">i"), text()
        number(">i")
        found = {}
        for _ in range(number(">i")):
            number(">h")
            topic = text()
            number(">b")
            for _ in range(number(">i")):
                number(">h")
                partition, leader, _, isr = number(">i"), number(">i"), numbers(), numbers()
                found[topic, partition] = leader, isr
        return found

    def receive(self):
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def _exactly(self, count):
        got = b""
        while len(got) < count:
            chunk = self.socket.recv(count - len(got))
            if not chunk:
                raise ConnectionError("the broker closed the connection")
            got += chunk
        return got

    def close(self):
        self.socket.close()
