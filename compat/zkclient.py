"""A ZooKeeper client of a few requests, enough to see what a broker registered and to end a
broker's session behind its back.

A frame is its length and then a request: xid, type, fields in big-endian order (jute). A session's
password is derived from its id by the server, so anybody who knows the id can take the session
over, and close it.
"""

import json
import socket
import struct
import time

CREATE, DELETE, GET_DATA, GET_CHILDREN, CLOSE_SESSION = 1, 2, 4, 8, -11
NO_NODE = -101
# SessionTrackerImpl.superSecret, with which passwords are seeded.
SUPER_SECRET = 0xB3415C00


class NoNode(Exception):
    """There is no such node."""


class Znodes:
    """One session; `with Znodes(port) as nodes`."""

    def __init__(self, port, session=0):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.xid = 0
        secret = password(session) if session else bytes(16)
        self._send(struct.pack(">iqiqi", 0, 0, 10_000, session, 16) + secret)
        answer = self._receive()
        self.session = struct.unpack(">q", answer[8:16])[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the session, and with it its ephemeral nodes."""
        try:
            self._call(CLOSE_SESSION, b"")
        finally:
            self.connection.close()

    def data(self, path):
        return self._node(path)[0]

    def json(self, path):
        return json.loads(self.data(path))

    def stat(self, path):
        """czxid, version and ephemeral owner."""
        stat = self._node(path)[1]
        fields = struct.unpack(">qqqqiiiqiiq", stat)
        return {"czxid": fields[0], "version": fields[4], "owner": fields[7]}

    def exists(self, path):
        try:
            self._node(path)
        except NoNode:
            return False
        return True

    def children(self, path):
        body = self._call(GET_CHILDREN, text(path) + b"\0")
        count, at = struct.unpack(">i", body[:4])[0], 4
        names = []
        for _ in range(count):
            length = struct.unpack(">i", body[at:at + 4])[0]
            names.append(body[at + 4:at + 4 + length].decode())
            at += 4 + length
        return sorted(names)

    def delete_tree(self, path):
        for name in self.children(path):
            self.delete_tree(f"{path}/{name}")
        self._call(DELETE, text(path) + struct.pack(">i", -1))

    def _node(self, path):
        body = self._call(GET_DATA, text(path) + b"\0")
        length = max(struct.unpack(">i", body[:4])[0], 0)
        return body[4:4 + length], body[4 + length:4 + length + 68]

    def _call(self, kind, body):
        self.xid += 1
        self._send(struct.pack(">ii", self.xid, kind) + body)
        answer = self._receive()
        _, _, error = struct.unpack(">iqi", answer[:16])
        if error == NO_NODE:
            raise NoNode
        assert error == 0, f"ZooKeeper answered {error}"
        return answer[16:]

    def _send(self, frame):
        self.connection.sendall(struct.pack(">i", len(frame)) + frame)

    def _receive(self):
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def _exactly(self, count):
        got = b""
        while len(got) < count:
            chunk = self.connection.recv(count - len(got))
            if not chunk:
                raise ConnectionError("ZooKeeper closed the connection")
            got += chunk
        return got


def text(words):
    encoded = words.encode()
    return struct.pack(">i", len(encoded)) + encoded


def password(session):
    """Sixteen bytes of java.util.Random, seeded with the session's id."""
    multiplier, mask = 0x5DEECE66D, (1 << 48) - 1
    seed = (((session ^ SUPER_SECRET) & ((1 << 64) - 1)) ^ multiplier) & mask
    made = b""
    for _ in range(4):
        seed = (seed * multiplier + 0xB) & mask
        made += struct.pack("<I", (seed >> 16) & 0xFFFFFFFF)
    return made


def expire(port, session):
    """Ends a session of another client, however fast that client reconnects."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            taken = Znodes(port, session)
            if taken.session != session:
                # 0: the server knows it no more, and has closed this connection too.
                taken.connection.close()
                return
            taken.close()
        except (OSError, ConnectionError):
            pass
    raise AssertionError(f"session 0x{session:x} does not end")
