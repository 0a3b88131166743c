"""A crowd of DHT nodes for one node to know: enough to fill its whole table, each at an address of its own on loopback.

    python benchmarks/crowd.py NET PORT HOST:PORT         the crowd lives at 127.NET.0.1, 127.NET.1.1, ... on PORT

As soon as the node at HOST:PORT answers, ids are made for it: for each number of leading bits that an id can share
with its own, up to those of a network of ten million, as many as such a bucket holds, and a quarter more. Each of the
crowd then asks the node something, so that it gets to know them, and answers all that it is asked (BEP 5), the crowd's
nodes closest to the target included. Prints one JSON object a line and ends when its stdin closes.
"""

from __future__ import annotations

import random
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kademlia_bt.dht.node_id import random_id_sharing
from kademlia_bt.dht.table import bucket_capacity
from tests.interop.libtorrent_child import commands, say
from wire.bencode import decode, encode
from wire.compact import Endpoint
from wire.errors import ProtocolError

DEPTH = 20
"""Leading bits that the closest of ten million nodes share with one of them, a bucket's worth left out."""
SPARE = 1.25
"""How many there are for each place: in life too some wait for one."""
CAPACITY = sum(bucket_capacity(bits) for bits in range(DEPTH))
"""Nodes that a full table of that depth holds; libtorrent's buckets are as large."""
SIZE = sum(round(bucket_capacity(bits) * SPARE) for bits in range(DEPTH))
NAMED = 8
ROUND_S = 1.0
"""Who was not asked by the node yet, asks it something this often."""
SETTLED_S = 12.0
"""So long nobody new was asked by it: it has what it wants. libtorrent asks in bursts, with pauses of seconds."""


def address(net: str, index: int, port: str) -> tuple[str, int]:
    """Where one of the crowd lives: each in a /24 of its own."""
    return f"127.{int(net) + index // 256}.{index % 256}.1", int(port)


class Crowd:
    """The sockets, the ids, and who was asked by the node."""

    def __init__(self, net: str, port: str, node: tuple[str, int]) -> None:
        self._node = node
        self._own = random.Random(net)
        self._sockets: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        for index in range(SIZE):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.setblocking(False)
            one.bind(address(net, index, port))
            self._sockets.append(one)
            self._selector.register(one, selectors.EVENT_READ, index)
        self._ids = [self._own.randbytes(20)] * SIZE
        self._compact = [Endpoint(*address(net, index, port)).compact() for index in range(SIZE)]
        self._by_number: dict[int, bytes] = {}
        self.is_made = False
        self.asked: set[int] = set()

    def meet(self) -> None:
        """Those that the node did not ask yet ask it; before its id is known one does, to learn it."""
        for index in range(SIZE) if self.is_made else (0,):
            if index not in self.asked:
                asking = {b"t": b"meet", b"y": b"q", b"q": b"ping", b"a": {b"id": self._ids[index]}}
                self._sockets[index].sendto(encode(asking), self._node)

    def listen(self, seconds: float) -> None:
        """Answers what comes within that time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                self._take(int(key.data))

    def _take(self, index: int) -> None:
        try:
            data, source = self._sockets[index].recvfrom(2048)
            message: Any = decode(data)
        except (OSError, ProtocolError):
            return
        if message[b"y"] == b"r" and not self.is_made:
            self._make(message[b"r"][b"id"])
        if message[b"y"] != b"q":
            return
        if source == self._node and self.is_made:
            self.asked.add(index)
        arguments = message[b"a"]
        answer: dict[bytes, Any] = {b"id": self._ids[index]}
        target = arguments.get(b"target", arguments.get(b"info_hash"))
        if target is not None:
            answer |= {b"nodes": self._closest(target), b"token": b"crowd"}
        self._sockets[index].sendto(encode({b"t": message[b"t"], b"y": b"r", b"r": answer}), source)

    def _make(self, node_id: bytes) -> None:
        depths = [bits for bits in range(DEPTH) for _ in range(round(bucket_capacity(bits) * SPARE))]
        self._ids = [random_id_sharing(node_id, bits, self._own) for bits in depths]
        self._by_number = {
            int.from_bytes(one, "big"): one + at for one, at in zip(self._ids, self._compact, strict=True)
        }
        self.is_made = True

    def _closest(self, target: bytes) -> bytes:
        at = int.from_bytes(target, "big")
        return b"".join(self._by_number[near] for near in sorted(self._by_number, key=lambda n: n ^ at)[:NAMED])


def main() -> int:
    net, port, node = sys.argv[1:]
    commands()
    host, _, node_port = node.rpartition(":")
    crowd = Crowd(net, port, (host, int(node_port)))
    say("ready", bootstrap=f"127.{net}.0.1:{port}", nodes=SIZE)
    while not crowd.is_made:
        crowd.meet()
        crowd.listen(0.1)
    say("made")
    settled_at = time.monotonic() + SETTLED_S
    while time.monotonic() < settled_at:
        before = len(crowd.asked)
        crowd.meet()
        crowd.listen(ROUND_S)
        if len(crowd.asked) > before:
            settled_at = time.monotonic() + SETTLED_S
    say("settled", asked=len(crowd.asked))
    while True:
        crowd.listen(60.0)


if __name__ == "__main__":
    sys.exit(main())
