"""Trackers over UDP: packets and the order of a conversation, without I/O (BEP 15, BEP 41).

`UdpAnnounce` is one conversation: connect, then announce, sent again after 15 · 2^n seconds. The answer is taken only
from the address that was asked, with the transaction id that was sent.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from wire.compact import Endpoint, Family, unpack_endpoints
from wire.errors import ProtocolError
from wire.tracker.values import (
    MAX_PEERS,
    Announce,
    AnnounceReply,
    ScrapeReply,
    TrackerError,
    bounded_interval,
    printable,
)

__all__ = ["ConnectionIds", "UdpAnnounce", "UdpScrape"]

_PROTOCOL_ID = 0x41727101980
_CONNECT, _ANNOUNCE, _SCRAPE, _ERROR = range(4)
_CONNECTION_LIFE_S = 60.0
_FIRST_TIMEOUT_S = 15.0
_MAX_ATTEMPTS = 9
"""BEP 15: n goes up to 8; the last try then waits 3,840 s. Callers give up sooner and ask another tracker."""
_MAX_KNOWN = 256
MAX_SCRAPE = 74
"""Info-hashes in one packet (BEP 15)."""
_URL_DATA = 2
_MAX_OPTION_BYTES = 255


@dataclass(frozen=True, slots=True)
class _Connection:
    number: int
    until: float


class ConnectionIds:
    """The connection ids that trackers gave, each for a minute. Shared by all conversations of a session."""

    def __init__(self) -> None:
        self._known: dict[Endpoint, _Connection] = {}

    def get(self, tracker: Endpoint, now: float) -> int | None:
        """The id that is still good, if any."""
        known = self._known.get(tracker)
        return known.number if known is not None and now < known.until else None

    def put(self, tracker: Endpoint, number: int, now: float) -> None:
        """Keeps one."""
        self._known.pop(tracker, None)
        if len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[tracker] = _Connection(number, now + _CONNECTION_LIFE_S)

    def forget(self, tracker: Endpoint) -> None:
        """The tracker did not know it any more."""
        self._known.pop(tracker, None)


class _Conversation:
    """Connect, then ask one thing, with BEP 15's time-outs."""

    def __init__(self, tracker: Endpoint, ids: ConnectionIds, rng: random.Random, now: float) -> None:
        self.tracker = tracker
        self.failed = False
        """No answer came to any try."""
        self._ids = ids
        self._rng = rng
        self._attempt = 0
        self._transaction = 0
        self._action = _CONNECT
        self._connected = False
        """The id in use was given in this conversation."""
        self._outbox: list[bytes] = []
        self._due = now
        self._ask(now)

    def outgoing(self) -> list[bytes]:
        """The datagrams to be sent to `tracker`, drained."""
        out, self._outbox = self._outbox, []
        return out

    def next_timer(self) -> float:
        """When `tick` is wanted."""
        return self._due

    def tick(self, now: float) -> None:
        """Asks again; sets `failed` after the last try."""
        if now < self._due or self.failed:
            return
        self._attempt += 1
        if self._attempt >= _MAX_ATTEMPTS:
            self.failed = True
            return
        self._ask(now)

    def _ask(self, now: float) -> None:
        self._due = now + _FIRST_TIMEOUT_S * 2**self._attempt
        self._transaction = self._rng.getrandbits(32)
        number = self._ids.get(self.tracker, now)
        if number is None:
            self._action = _CONNECT
            self._outbox.append(struct.pack(">QII", _PROTOCOL_ID, _CONNECT, self._transaction))
        else:
            self._action, body = self._question()
            self._outbox.append(struct.pack(">QII", number, self._action, self._transaction) + body)

    def _take(self, data: bytes, now: float) -> bytes | None:
        """The body of the answer, if this datagram is it; None for anything else. Raises TrackerError."""
        if len(data) < 8:
            return None
        action, transaction = struct.unpack_from(">II", data)
        if transaction != self._transaction:
            return None
        if action == _ERROR:
            self._ids.forget(self.tracker)
            if self._action != _CONNECT and not self._connected:
                self._ask(now)  # it may have started anew since it gave the id
                return None
            raise TrackerError(printable(data[8:].decode("utf-8", "replace")) or "no reason given")
        if action != self._action:
            return None
        if action == _CONNECT:
            if len(data) >= 16:
                self._ids.put(self.tracker, struct.unpack_from(">Q", data, 8)[0], now)
                self._attempt = 0
                self._connected = True
                self._ask(now)
            return None
        return data[8:]

    def _question(self) -> tuple[int, bytes]:
        raise NotImplementedError


class UdpAnnounce(_Conversation):
    """Announces to one address of a tracker."""

    def __init__(
        self,
        tracker: Endpoint,
        announce: Announce,
        url_data: str,
        ids: ConnectionIds,
        rng: random.Random,
        now: float,
    ) -> None:
        """`url_data`: path and query of the tracker's URL, told to it by BEP 41; empty for none."""
        self._announce = announce
        self._url_data = url_data.encode("utf-8", "replace")
        super().__init__(tracker, ids, rng, now)

    def _question(self) -> tuple[int, bytes]:
        said = self._announce
        body = struct.pack(
            ">20s20sQQQIIIiH",
            said.info_hash,
            said.peer_id,
            said.downloaded,
            said.left,
            said.uploaded,
            said.event.number,
            0,
            said.key,
            said.numwant,
            said.port,
        )
        for at in range(0, len(self._url_data), _MAX_OPTION_BYTES):
            part = self._url_data[at : at + _MAX_OPTION_BYTES]
            body += bytes((_URL_DATA, len(part))) + part
        return _ANNOUNCE, body

    def receive(self, data: bytes, now: float) -> AnnounceReply | None:
        """Takes a datagram from `tracker`; the answer once it is there. Raises TrackerError for a refusal."""
        body = self._take(data, now)
        if body is None:
            return None
        if len(body) < 12:
            raise ProtocolError("the tracker's answer is cut off")
        interval, leechers, seeders = struct.unpack_from(">III", body)
        family: Family = self.tracker.family
        peers = unpack_endpoints(body[12 : 12 + MAX_PEERS * family.endpoint_bytes], family)
        return AnnounceReply(
            peers=tuple(dict.fromkeys(peer for peer in peers if peer.port)),
            interval_s=bounded_interval(interval),
            seeders=seeders,
            leechers=leechers,
        )


class UdpScrape(_Conversation):
    """Asks one address of a tracker for the counts of some torrents."""

    def __init__(
        self, tracker: Endpoint, info_hashes: list[bytes], ids: ConnectionIds, rng: random.Random, now: float
    ) -> None:
        self._info_hashes = info_hashes[:MAX_SCRAPE]
        super().__init__(tracker, ids, rng, now)

    def _question(self) -> tuple[int, bytes]:
        return _SCRAPE, b"".join(self._info_hashes)

    def receive(self, data: bytes, now: float) -> list[ScrapeReply] | None:
        """As `UdpAnnounce.receive`; the rows stand in the order of the info-hashes."""
        body = self._take(data, now)
        if body is None:
            return None
        count = min(len(self._info_hashes), len(body) // 12)
        return [ScrapeReply(*struct.unpack_from(">III", body, at * 12)) for at in range(count)]
