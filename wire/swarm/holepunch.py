"""Introductions between peers that nobody can dial (BEP 55), in all three roles, without I/O.

As initiator: where a dial failed and a peer of ours had named the address (BEP 11), that peer is asked to introduce us;
if nobody had, some peer that could, now and then: who is known in one swarm to many is often connected to it.
As relay: two peers of ours are told of each other. As target: who is introduced to us is dialled, by uTP alone.

An introduction makes others send packets, so it is bounded on every side: a relay serves only its own peers, so many a
minute; a `connect` is believed only from a peer, only for addresses of the kind that strangers may name, and unasked
ones only so many a minute. What is dialled in the end, and whether, is decided by `rules` and `candidates`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wire.compact import Endpoint, reach
from wire.limits import TokenBucket
from wire.peer.holepunch import HolepunchError, HolepunchKind, HolepunchMessage
from wire.peer.pex import HOLEPUNCH, PexPeer
from wire.swarm.peer import Peer

__all__ = ["Holepunch"]

RELAYS_PER_MINUTE = 12
"""Introductions that we make for one peer: it may lose a few of them, and need not ask for hundreds."""
CONNECTS_PER_MINUTE = 12
"""Unasked introductions that are followed, of all relays together: each sends packets to an address by hearsay."""
GUESSES_PER_MINUTE = 20
"""Requests to peers that have not named the address: most are answered that they do not know it."""
MAX_GUESSES = 3
"""Peers asked so for one address."""
MAX_NAMED = 1000
"""Addresses of which it is remembered who named them."""
MAX_RELAYS_EACH = 4
ASK_AGAIN_S = 60.0
"""An address is asked for once in so long."""
EXPECTED_S = 30.0
"""How long an introduction that we asked for is waited for."""
FIRST_USER_PORT = 1024
"""No client listens below; what does is somebody's service."""


class Holepunch:
    """The introductions of one torrent. `peers` is the swarm's table; `dirty` collects whose outbox was filled."""

    def __init__(
        self,
        peers: Mapping[Endpoint, Peer],
        dirty: dict[Peer, None],
        now: float,
        *,
        is_ours: Callable[[Endpoint], bool],
    ) -> None:
        """`is_ours` says whether an address leads to ourselves."""
        self._peers = peers
        self._dirty = dirty
        self._is_ours = is_ours
        self._named: dict[Endpoint, dict[Peer, None]] = {}
        self._asked: dict[Endpoint, float] = {}
        self._budgets: dict[Peer, TokenBucket] = {}
        self._guesses = _per_minute(GUESSES_PER_MINUTE, now)
        self._connects = _per_minute(CONNECTS_PER_MINUTE, now)

    # the initiator

    def named(self, by: Peer, named: PexPeer) -> None:
        """A peer says that it is connected to an address."""
        relays = self._named.pop(named.endpoint, {})
        # Who tells what his peers can, and does not say that this one can be introduced, need not be asked.
        if len(relays) < MAX_RELAYS_EACH and (not named.flags or named.flags & HOLEPUNCH):
            relays[by] = None
        self._named[named.endpoint] = relays
        while len(self._named) > MAX_NAMED:
            del self._named[next(iter(self._named))]

    def ask(self, endpoint: Endpoint, now: float) -> bool:
        """A dial failed: asks a peer that is connected to the address to introduce us. False: nobody can."""
        if now < self._asked.get(endpoint, float("-inf")) + ASK_AGAIN_S:
            return False
        if endpoint not in self._named:
            self._guess(endpoint, now)
        relays = self._named.get(endpoint, {})
        for relay in list(relays):
            del relays[relay]  # the next time it is another's turn
            if relay.ready and relay.connection.remote.ut_holepunch:
                self._asked.pop(endpoint, None)
                self._asked[endpoint] = now
                while len(self._asked) > MAX_NAMED:
                    del self._asked[next(iter(self._asked))]
                self._say(relay, HolepunchKind.RENDEZVOUS, endpoint)
                return True
        return False

    def _guess(self, endpoint: Endpoint, now: float) -> None:
        """Takes some peers that could introduce us for such as have named the address."""
        able = [peer for peer in self._peers.values() if peer.ready and peer.connection.remote.ut_holepunch]
        if able and endpoint.port >= FIRST_USER_PORT and self._guesses.take(1.0, now):
            for peer in able[-MAX_GUESSES:]:
                self.named(peer, PexPeer(endpoint, HOLEPUNCH))

    # what peers say

    def receive(self, peer: Peer, message: HolepunchMessage, now: float) -> Endpoint | None:
        """Takes a message; returns whom to dial because of it, by uTP and at once."""
        match message.kind:
            case HolepunchKind.RENDEZVOUS:
                self._introduce(peer, message.endpoint, now)
            case HolepunchKind.CONNECT:
                return self._introduced(peer, message.endpoint, now)
            case HolepunchKind.ERROR:
                if self._asked.pop(message.endpoint, None) is not None:
                    self.ask(message.endpoint, now)  # another relay, if there is one
        return None

    def gone(self, peer: Peer) -> None:
        """The connection is closed: it introduces nobody any more."""
        self._budgets.pop(peer, None)
        for endpoint in [endpoint for endpoint, relays in self._named.items() if peer in relays]:
            del self._named[endpoint][peer]
            if not self._named[endpoint]:
                del self._named[endpoint]

    # the relay

    def _introduce(self, initiator: Peer, endpoint: Endpoint, now: float) -> None:
        budget = self._budgets.get(initiator)
        if budget is None:
            budget = self._budgets[initiator] = _per_minute(RELAYS_PER_MINUTE, now)
        if not budget.take(1.0, now):
            return
        target = self._connected_to(endpoint)
        error = self._objection(initiator, endpoint, target)
        if error is not HolepunchError.NONE or target is None:
            self._say(initiator, HolepunchKind.ERROR, endpoint, error)
            return
        self._say(target, HolepunchKind.CONNECT, _address_of(initiator))
        self._say(initiator, HolepunchKind.CONNECT, _address_of(target))

    def _objection(self, initiator: Peer, endpoint: Endpoint, target: Peer | None) -> HolepunchError:
        if not endpoint.port or reach(endpoint.host) in ("unspecified", "invalid") or target is initiator:
            return HolepunchError.NO_SUCH_PEER
        if self._is_ours(endpoint):
            return HolepunchError.NO_SELF
        if target is None:
            return HolepunchError.NOT_CONNECTED
        if not target.connection.remote.ut_holepunch:
            return HolepunchError.NO_SUPPORT
        return HolepunchError.NONE

    def _connected_to(self, endpoint: Endpoint) -> Peer | None:
        peer = self._peers.get(endpoint)
        if peer is None:
            peer = next((one for one in self._peers.values() if one.listens_at == endpoint), None)
        return peer if peer is not None and peer.ready else None

    # the target, and the initiator when its wish is granted

    def _introduced(self, relay: Peer, endpoint: Endpoint, now: float) -> Endpoint | None:
        if endpoint.port < FIRST_USER_PORT or self._is_ours(endpoint) or self._connected_to(endpoint) is not None:
            return None
        wished = now <= self._asked.get(endpoint, float("-inf")) + EXPECTED_S
        kind = reach(endpoint.host)
        near = reach(relay.endpoint.host)
        # Strangers do not send us into our own network unless they are in it, nor to this machine unless on it.
        if kind != "global" and (near != "loopback" and (kind != "private" or near != "private")):
            return None
        return endpoint if wished or self._connects.take(1.0, now) else None

    def _say(
        self, to: Peer, kind: HolepunchKind, endpoint: Endpoint, error: HolepunchError = HolepunchError.NONE
    ) -> None:
        to.connection.holepunch(HolepunchMessage(kind, endpoint, error))
        self._dirty[to] = None


def _address_of(peer: Peer) -> Endpoint:
    """Where a uTP packet reaches a peer: whence its own come, if they are such; else where it says that it listens."""
    return peer.endpoint if peer.over_utp else peer.listens_at or peer.endpoint


def _per_minute(count: int, now: float) -> TokenBucket:
    return TokenBucket(count / 60.0, float(count), now)
