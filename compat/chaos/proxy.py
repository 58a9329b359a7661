"""A TCP proxy between brokers, ZooKeeper and clients, on which the network's faults are played.

Every connection of the cluster goes through it: brokers advertise its ports and find ZooKeeper at a
port of it that is theirs alone. Who connects to a broker's port is told by the process that owns the
other end, so nothing needs a namespace or rights. A rule is for bytes from one party to another;
parties are broker ids, "zookeeper" and "client".
"""

import asyncio
import contextlib
import os
import random
import re
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)
# The values of load.py: what is changed inside of one is inside of a record, under its CRC.
VALUE = re.compile(rb"(idem|plain)\d-\d")


class Rule:
    """What happens to bytes on their way; the default lets them pass."""

    def __init__(self, stall=False, refuse=False, delay=0.0, rate=None, cut=0.0, corrupt=0.0):
        self.stall = stall  # they wait until the rule is gone, as behind a dead link
        self.refuse = refuse  # connections are reset, new ones at once
        self.delay = delay  # seconds, for each piece that is read
        self.rate = rate  # bytes a second
        self.cut = cut  # how likely a piece is cut short and its connection closed
        self.corrupt = corrupt  # how likely a bit of a piece's first record value is turned over


class Proxy(threading.Thread):
    def __init__(self, pids, seed):
        """`pids()` is {broker id: pid} of those that run."""
        super().__init__(daemon=True)
        self.pids, self.random = pids, random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.rules, self.links = {}, set()
        self.damaged = 0  # pieces that were cut or changed
        self.changed = asyncio.Event()
        self.start()

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def listen(self, to, target_port, source=None):
        """A port that leads to target_port of the party `to`; who connects is `source`, or is
        looked up among the brokers."""
        async def serve():
            server = await asyncio.start_server(
                lambda reader, writer: self.connected(reader, writer, to, target_port, source), "127.0.0.1", 0)
            return server.sockets[0].getsockname()[1]
        return self.call(serve())

    def set(self, pairs, rule=None):
        """The same rule for the bytes of all (from, to) pairs; None takes it away."""
        async def change():
            for pair in pairs:
                if rule is None:
                    self.rules.pop(pair, None)
                else:
                    self.rules[pair] = rule
            if rule is not None and rule.refuse:
                self.cut_links(pairs)
            self.changed.set()
            self.changed = asyncio.Event()
        self.call(change())

    def clear(self):
        self.set(list(self.rules))

    def reset(self, pairs):
        """Resets what is connected now; connecting again is fine."""
        async def change():
            self.cut_links(pairs)
        self.call(change())

    def cut_links(self, pairs):
        for link in [link for link in self.links if (link[0], link[1]) in pairs or (link[1], link[0]) in pairs]:
            for writer in link[2:]:
                abort(writer)

    async def connected(self, reader, writer, to, target_port, source):
        link = None
        try:
            party = source or self.owner(writer.get_extra_info("peername")[1], writer.get_extra_info("sockname")[1])
            if party is None or self.refused(party, to):
                return
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", target_port)
            link = (party, to, writer, onward)
            self.links.add(link)
            # Either end closes both: nobody here half-closes.
            done, left = await asyncio.wait(
                [asyncio.ensure_future(self.pump(reader, onward, party, to)),
                 asyncio.ensure_future(self.pump(onward_reader, writer, to, party))],
                return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
            await asyncio.gather(*done, *left, return_exceptions=True)
        except OSError:
            pass
        finally:
            self.links.discard(link)
            if link is None:
                abort(writer)
            else:
                writer.close()
                onward.close()

    def refused(self, one, other):
        return any((rule := self.rules.get(pair)) and rule.refuse for pair in ((one, other), (other, one)))

    async def pump(self, reader, writer, source, to):
        while True:
            data = await reader.read(65536)
            while (rule := self.rules.get((source, to))) and rule.stall:
                await self.changed.wait()
            if not data:
                return
            if rule is not None:
                if rule.delay:
                    await asyncio.sleep(rule.delay)
                if rule.rate:
                    await asyncio.sleep(len(data) / rule.rate)
                if self.random.random() < rule.corrupt and (at := VALUE.search(data)):
                    changed = bytearray(data)
                    changed[at.end() - 1] ^= 1 << self.random.randrange(8)
                    data = bytes(changed)
                    self.damaged += 1
                if self.random.random() < rule.cut:
                    self.damaged += 1
                    writer.write(data[:self.random.randrange(len(data))])
                    await writer.drain()
                    return
            writer.write(data)
            await writer.drain()

    def owner(self, port, our_port):
        """The broker whose process has the connection's other end."""
        inode = inode_of(port, our_port)
        for broker_id, pid in self.pids().items():
            with contextlib.suppress(OSError):
                for entry in os.scandir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        if os.readlink(entry.path) == f"socket:[{inode}]":
                            return broker_id
        return None


def inode_of(port, remote_port):
    """Of the local socket of this connection; a JVM's are in the table of IPv6."""
    ends = f":{port:04X}", f":{remote_port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as lines:
            for line in lines:
                words = line.split()
                if words[1].endswith(ends[0]) and words[2].endswith(ends[1]):
                    return words[9]
    return None


def abort(writer):
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
