"""Local service discovery without I/O: what is shouted into the local network, and what is heard there (BEP 14).

The sockets and groups are the shell's. A sender's address is where the packet came from; the port is what it says.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from wire.compact import Endpoint
from wire.errors import ProtocolError

__all__ = ["GROUP_V4", "GROUP_V6", "INTERVAL_S", "MIN_INTERVAL_S", "LocalPeer", "Lsd", "build", "parse"]

GROUP_V4 = Endpoint("239.192.152.143", 6771)
GROUP_V6 = Endpoint("ff15::efc0:988f", 6771)
INTERVAL_S = 300.0
MIN_INTERVAL_S = 60.0
_MAX_BYTES = 1400
_MAX_HASHES = 32
"""Of one packet: more does not fit into 1,400 bytes."""
_HEAD = b"BT-SEARCH * HTTP/1.1"


@dataclass(frozen=True, slots=True)
class LocalPeer:
    """A neighbour that shares some torrents."""

    endpoint: Endpoint
    info_hashes: tuple[bytes, ...]


def build(group: Endpoint, port: int, info_hashes: Iterable[bytes], cookie: str) -> list[bytes]:
    """The datagrams that announce the torrents (20 bytes each), none above 1,400 bytes."""
    head = f"BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {port}\r\n".encode()
    tail = f"cookie: {cookie}\r\n\r\n\r\n".encode()
    packets = []
    lines = b""
    for info_hash in info_hashes:
        line = b"Infohash: " + info_hash.hex().encode() + b"\r\n"
        if len(head) + len(lines) + len(line) + len(tail) > _MAX_BYTES:
            packets.append(head + lines + tail)
            lines = b""
        lines += line
    if lines:
        packets.append(head + lines + tail)
    return packets


def parse(data: bytes, source: Endpoint, own_cookie: str) -> LocalPeer | None:
    """Reads a datagram; None where it is our own. Raises ProtocolError where it is no announcement."""
    if len(data) > _MAX_BYTES or not data.startswith(_HEAD):
        raise ProtocolError("no local announcement")
    port: int | None = None
    info_hashes: list[bytes] = []
    for line in data.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name == b"port" and value.isdigit() and len(value) <= 5:
            port = int(value)
        elif name == b"infohash" and len(value) == 40 and len(info_hashes) < _MAX_HASHES:
            try:
                info_hashes.append(bytes.fromhex(value.decode("ascii")))
            except ValueError:
                continue
        elif name == b"cookie" and value == own_cookie.encode():
            return None
    if port is None or not 0 < port < 65536 or not info_hashes:
        raise ProtocolError("a local announcement without a port or a torrent")
    return LocalPeer(Endpoint(source.host, port), tuple(dict.fromkeys(info_hashes)))


class Lsd:
    """When which torrent is announced to one group. Times are monotonic seconds."""

    def __init__(self, group: Endpoint, port: int, rng: random.Random) -> None:
        self._group = group
        self._port = port
        self._cookie = f"{rng.getrandbits(64):016x}"
        self._due: dict[bytes, float] = {}
        self._next = float("-inf")

    def add(self, info_hash: bytes, now: float) -> None:
        """Announces a torrent from now on; never to be called for a private one (BEP 27)."""
        self._due.setdefault(info_hash, now)

    def remove(self, info_hash: bytes) -> None:
        """No more."""
        self._due.pop(info_hash, None)

    def receive(self, data: bytes, source: Endpoint) -> LocalPeer | None:
        """A neighbour with torrents that are announced here too; None for anything else."""
        try:
            peer = parse(data, source, self._cookie)
        except ProtocolError:
            return None
        if peer is None:
            return None
        shared = tuple(info_hash for info_hash in peer.info_hashes if info_hash in self._due)
        return LocalPeer(peer.endpoint, shared) if shared else None

    def next_timer(self) -> float | None:
        """When `tick` has something to send."""
        return max(min(self._due.values()), self._next) if self._due else None

    def tick(self, now: float) -> list[bytes]:
        """The datagrams for the group; at most one round a minute."""
        due = [info_hash for info_hash, at in self._due.items() if at <= now]
        if not due or now < self._next:
            return []
        self._next = now + MIN_INTERVAL_S
        for info_hash in due:
            self._due[info_hash] = now + INTERVAL_S
        return build(self._group, self._port, due, self._cookie)
