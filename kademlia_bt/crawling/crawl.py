"""Whom a sampler of the DHT asks next, and what is new in the answers (BEP 51). Decides; sends nothing, writes nothing.

Polite by construction: one question an address, no second one before the interval that the node named is over, and
none to those who did not answer or do not know the question. Every answer becomes a `Finding`; a later crawl that
is fed the findings of an earlier one goes on where that ended. Times are seconds since 1970, as they outlive a process.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kademlia_bt.answers import SampleAnswer
from wire.compact import Endpoint, parse_host_port, reach
from wire.errors import MisuseError, ProtocolError
from wire.ids import ID_BYTES

__all__ = ["Crawl", "Finding"]

_MAX_WAITING = 20_000
"""Nodes that are known and not asked yet; a crawl asks some ten a second."""
_MAX_TURNS = 500_000
"""Addresses whose turn is remembered, of some 8 million in the whole DHT; who is forgotten may be asked again."""
_MAX_KNOWN = 5_000_000
"""Info-hashes told apart: some 400 MB at the most. Beyond it, old ones count as new again."""
_MIN_AGAIN_S: Final = 300.0
"""A node that shows all it has names no interval; asking it at once again would bring nothing."""
_NEVER: Final = float("inf")
_MAX_INTERVAL_S = 21_600


@dataclass(frozen=True, slots=True)
class Finding:
    """What one node showed, at one time: a line of the crawl's file."""

    at_s: float
    """Since 1970."""
    endpoint: Endpoint
    node_id: bytes
    total: int
    """Info-hashes that it says it has."""
    interval_s: int
    sampled: int
    """How many it showed."""
    new: tuple[bytes, ...]
    """Of these, those that nobody had shown before."""

    def to_line(self) -> str:
        """One JSON object, without the line's end."""
        return json.dumps(
            {
                "at": round(self.at_s, 3),
                "node": str(self.endpoint),
                "node_id": self.node_id.hex(),
                "total": self.total,
                "interval": self.interval_s,
                "sampled": self.sampled,
                "info_hashes": [info_hash.hex() for info_hash in self.new],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_line(cls, line: str) -> Finding:
        """Reads what `to_line` wrote. Raises ProtocolError for anything else."""
        try:
            row = json.loads(line)
            new = tuple(bytes.fromhex(text) for text in row["info_hashes"])
            endpoint = Endpoint.of(*parse_host_port(row["node"]))
            finding = cls(
                at_s=float(row["at"]),
                endpoint=endpoint,
                node_id=bytes.fromhex(row["node_id"]),
                total=int(row["total"]),
                interval_s=min(max(int(row["interval"]), 0), _MAX_INTERVAL_S),
                sampled=int(row["sampled"]),
                new=new,
            )
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError, MisuseError) as error:
            raise ProtocolError(f"no line of a crawl: {error}") from None
        if len(finding.node_id) != ID_BYTES or any(len(each) != ID_BYTES for each in new):
            raise ProtocolError("no line of a crawl: an id or info-hash of a wrong length")
        return finding


class Crawl:
    """One crawl's memory."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: dict[str, Endpoint] = {}
        self._order: list[str] = []
        self._turns: dict[str, float] = {}
        """By address: from when on it may be asked again."""
        self._hashes: dict[bytes, None] = {}
        self.asked = self.answered = 0
        """Nodes, of this run."""

    @property
    def found(self) -> int:
        """Distinct info-hashes, those of earlier runs included."""
        return len(self._hashes)

    @property
    def waiting(self) -> int:
        """Nodes that are known and not asked yet."""
        return len(self._waiting)

    def recall(self, finding: Finding, now_s: float) -> None:
        """Takes up what an earlier run found, in the order of its file."""
        self._add_hashes(finding.new)
        self._set_turn(finding.endpoint, finding.at_s + max(finding.interval_s, _MIN_AGAIN_S))
        self.add([finding.endpoint], now_s)

    def add(self, endpoints: Iterable[Endpoint], now_s: float) -> None:
        """Takes up nodes that may be asked now; where many wait already, a random one makes room."""
        for endpoint in endpoints:
            key = _key(endpoint)
            if key in self._waiting or self._turns.get(key, now_s) > now_s:
                continue
            if len(self._order) >= _MAX_WAITING:
                del self._waiting[self._draw()]
            self._waiting[key] = endpoint
            self._order.append(key)

    def next(self) -> Endpoint | None:
        """Whom to ask now; it counts as asked. Any of those that wait, at random, so that no one's list of names leads
        the way; None where nobody waits."""
        if not self._waiting:
            return None
        endpoint = self._waiting.pop(self._draw())
        self.asked += 1
        self._set_turn(endpoint, _NEVER)
        return endpoint

    def take(self, answer: SampleAnswer, endpoint: Endpoint, now_s: float) -> Finding:
        """A node answered."""
        self.answered += 1
        self._set_turn(endpoint, now_s + max(answer.interval_s, _MIN_AGAIN_S))
        self.add((contact.endpoint for contact in answer.nodes), now_s)
        new = tuple(self._add_hashes(answer.info_hashes))
        shown = len(answer.info_hashes)
        return Finding(now_s, endpoint, answer.node.id, answer.total, answer.interval_s, shown, new)

    def _add_hashes(self, hashes: Iterable[bytes]) -> list[bytes]:
        new = [info_hash for info_hash in dict.fromkeys(hashes) if info_hash not in self._hashes]
        for info_hash in new:
            if len(self._hashes) >= _MAX_KNOWN:
                del self._hashes[next(iter(self._hashes))]
            self._hashes[info_hash] = None
        return new

    def _set_turn(self, endpoint: Endpoint, turn: float) -> None:
        key = _key(endpoint)
        self._turns.pop(key, None)
        if len(self._turns) >= _MAX_TURNS:
            del self._turns[next(iter(self._turns))]
        self._turns[key] = turn

    def _draw(self) -> str:
        index = self._rng.randrange(len(self._order))
        self._order[index], self._order[-1] = self._order[-1], self._order[index]
        return self._order.pop()


def _key(endpoint: Endpoint) -> str:
    """One node an address; of local ones, where whole test networks live, one an endpoint."""
    return endpoint.host if reach(endpoint.host) == "global" else str(endpoint)
