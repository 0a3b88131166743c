"""A bootstrap router for a whole network, without I/O: it hands out live nodes, and holds neither table nor peers.

How a shell drives it: one `UdpPump` a socket with its `RouterFace` as tenant; after each batch and tick, wake the
pump of each face whose `has_outgoing` is true. Faces of one family share a ring (ring_keeper.py). What the
processes of one port must agree on (ids, the key of the transaction ids) comes from a secret that they are given.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle

from kademlia_bt.dht.krpc import WANT_IPV4, WANT_IPV6, Answer
from kademlia_bt.dht.node_id import make_node_id, random_id
from kademlia_bt.dht.places import is_global, is_local
from kademlia_bt.router.echo import Echoes
from kademlia_bt.router.face import RouterFace
from kademlia_bt.router.ring import MAX_NODES
from kademlia_bt.router.ring_keeper import SMALL, RingKeeper
from kademlia_bt.router.stats import RouterFaceStats, RouterStats
from wire.compact import IPV6, Endpoint, Family
from wire.ids import ID_BYTES
from wire.limits import TokenBucket

__all__ = ["Router", "RouterConfig", "RouterFace", "RouterStats"]

_SECRET_BYTES = 32
_PER_IP_LIMIT = 5.0
_LOCAL_PER_IP_LIMIT = 1_000.0
_UPLOAD_BURST_S = 1.0
_POLLINATE_S = 600.0
_POLLINATE_ALONE_S = 15.0
"""While fewer nodes are known than an answer holds."""
_ENOUGH = 16
_LENT = 64


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """How a router behaves. Nothing here changes while it runs."""

    max_nodes: int = MAX_NODES
    """Of each family."""
    per_ip_limit: float | None = None
    """Queries a second that one address may send, averaged over 10 s; who sends more is ignored for 5 min. 0: no limit.
    None: 5, or 1,000 on a face with `allow_local`, where a whole network may share one address."""
    upload_limit: int = 8 << 20
    """Bytes a second of answers, UDP headers counted: some 25,000 answers. 0: no limit."""
    verify_ids: bool = True
    """Whether only nodes come in whose id fits their address (BEP 42); local addresses are exempt."""
    network_tag: bytes = b""
    """The tag of a private network (`private.network_tag`); empty for the mainline DHT."""
    version: bytes = b"KB\x01\x00"
    """Client and version: the `v` of each message."""


class Router:
    """The router. Times are monotonic seconds; `rng` should be unpredictable in life (`random.SystemRandom()`)."""

    def __init__(
        self,
        config: RouterConfig,
        rng: random.Random,
        now: float,
        *,
        secret: bytes | None = None,
        clock_offset_s: float = 0.0,
    ) -> None:
        """`secret`, 32 bytes, is shared by the processes of one port, whose clocks agree by `clock_offset_s`."""
        self.config = config
        self.faces: list[RouterFace] = []
        self.keepers: list[tuple[int, RingKeeper]] = []
        """Each family's, with its bit of `want`."""
        self.others: set[bytes] = set()
        """Compact addresses of other routers: asked for nodes, never handed out."""
        self._rng = rng
        self._start = now
        self._secret = rng.randbytes(_SECRET_BYTES) if secret is None else secret
        self.echoes = Echoes(self._secret, now, offset_s=clock_offset_s)
        self._upload = TokenBucket(config.upload_limit, config.upload_limit * _UPLOAD_BURST_S, now)
        self._turns: dict[Family, cycle[RouterFace]] = {}
        self._pollinate_at = now

    def add_face(
        self,
        family: Family,
        node_id: bytes | None,
        now: float,
        *,
        allow_local: bool = False,
        bound: Endpoint | None = None,
    ) -> RouterFace:
        """A socket more. Without an id it gets one that fits where it is bound, as far as that says anything."""
        keeper = self._keeper(family)
        if keeper is None:
            keeper = RingKeeper(
                family, self._rng, now, max_nodes=self.config.max_nodes, verify_ids=self.config.verify_ids
            )
            self.keepers.append((WANT_IPV6 if family is IPV6 else WANT_IPV4, keeper))
        if node_id is None:
            node_id = self.id_for(bound.ip) if bound is not None and is_global(bound.ip) else random_id(self._rng)
        per_ip = self.config.per_ip_limit
        if per_ip is None:
            per_ip = _LOCAL_PER_IP_LIMIT if allow_local else _PER_IP_LIMIT
        face = RouterFace(self, keeper, node_id, now, allow_local=allow_local, bound=bound, per_ip_limit=per_ip)
        self.faces.append(face)
        self._turns[family] = cycle([each for each in self.faces if each.family is family])
        return face

    def add_others(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Other routers, to learn nodes from."""
        self.others.update(endpoint.compact() for endpoint in endpoints)
        self._pollinate_at = now

    def restore(self, family: Family, nodes: bytes) -> None:
        """Takes up saved compact nodes: they are handed out, and pinged soon. A million at once would keep others
        waiting for seconds: give some thousands at a time."""
        keeper = self._keeper(family)
        if keeper is not None:
            width = family.node_bytes
            entries = (nodes[at : at + width] for at in range(0, len(nodes) - width + 1, width))
            keeper.restore([entry for entry in entries if self._usable(entry[ID_BYTES:])])

    def dump(self) -> Mapping[Family, bytes]:
        """All nodes of each family in their compact form."""
        return {keeper.family: keeper.ring.dump() for _, keeper in self.keepers}

    def to_lend(self) -> Mapping[Family, bytes]:
        """Some nodes of each small ring, for other processes on the port."""
        return {keeper.family: keeper.ring.newest(_LENT) for _, keeper in self.keepers if 0 < len(keeper.ring) < SMALL}

    def borrow(self, lent: Mapping[Family, bytes]) -> None:
        """What other processes lend; replaces what they lent before."""
        for _, keeper in self.keepers:
            keeper.lent = lent.get(keeper.family, b"") if len(keeper.ring) < SMALL else b""

    def stats(self, now: float) -> RouterStats:
        """A snapshot."""
        faces = self.faces
        keepers = [keeper for _, keeper in self.keepers]
        queries, dropped, refused = Counter[str](), Counter[str](), Counter[str]()
        for face in faces:
            queries += face.queries
            dropped += face.dropped
        for keeper in keepers:
            refused += keeper.refused
        return RouterStats(
            faces=tuple(self._family_stats(keeper) for keeper in keepers),
            uptime_s=now - self._start,
            queries=dict(queries),
            answers=sum(face.answers for face in faces),
            repeats=sum(face.repeats for face in faces),
            read_only=sum(face.read_only for face in faces),
            handed_out=sum(face.handed_out for face in faces),
            received_bytes=sum(face.received_bytes for face in faces),
            sent_bytes=sum(face.sent_bytes for face in faces),
            dropped=dict(dropped),
            pings=sum(face.pings for face in faces),
            pongs=sum(keeper.pongs for keeper in keepers),
            admitted=sum(keeper.admitted for keeper in keepers),
            refused=dict(refused),
            lost=sum(keeper.lost for keeper in keepers),
            sampled=sum(keeper.sampled[0] for keeper in keepers),
            sampled_alive=sum(keeper.sampled[1] for keeper in keepers),
        )

    def _family_stats(self, keeper: RingKeeper) -> RouterFaceStats:
        faces = [face for face in self.faces if face.keeper is keeper]
        return RouterFaceStats(
            family=keeper.family.name,
            addresses=tuple(str(face.bound) for face in faces if face.bound is not None),
            node_id=faces[0].node_id,
            external=next((face.votes.agreed for face in faces if face.votes.agreed is not None), None),
            nodes=len(keeper.ring),
            waiting=keeper.waiting,
        )

    # What face.py calls

    def may_send(self, size: int, now: float) -> bool:
        """Whether an answer of that many bytes is within the upload limit; counts it if so."""
        return not self._upload.rate or self._upload.take(size, now)

    def id_for(self, ip: bytes) -> bytes:
        """The id for a packed address (BEP 42): the same in each process that shares the secret."""
        return make_node_id(ip, random.Random(self._secret + ip))

    def beat(self, face: RouterFace, now: float) -> None:
        """A face's timer: the first of each family pings for all of them, in turn."""
        if face is next(each for each in self.faces if each.family is face.family):
            turn = self._turns[face.family]
            for address in face.keeper.beat(now):
                next(turn).ping(address, now)
        if self.others and now >= self._pollinate_at:
            self._pollinate(now)

    def named(self, answer: Answer, sender: Endpoint, now: float) -> None:
        """Another router has named nodes: they are pinged before they come in."""
        for _, keeper in self.keepers:
            for contact in answer.contacts(keeper.family):
                address = contact.endpoint.compact()
                trusted = is_global(address[:-2]) or not is_global(sender.ip)
                if trusted and self._usable(address) and address not in self.others:
                    keeper.suggest(address, now)

    def _pollinate(self, now: float) -> None:
        alone = any(len(keeper.ring) < _ENOUGH for _, keeper in self.keepers)
        self._pollinate_at = now + (_POLLINATE_ALONE_S if alone else _POLLINATE_S)
        if not any(len(keeper.ring) < SMALL for _, keeper in self.keepers):
            return
        for face in self.faces:
            for address in sorted(self.others):
                if len(address) == face.family.endpoint_bytes:
                    face.ask_for_nodes(address, self._rng, now)

    def _keeper(self, family: Family) -> RingKeeper | None:
        return next((keeper for _, keeper in self.keepers if keeper.family is family), None)

    def _usable(self, address: bytes) -> bool:
        """Whether datagrams may go to a compact address."""
        ip = address[:-2]
        if address[-2:] == b"\0\0":
            return False
        return is_global(ip) or (is_local(ip) and any(face.allow_local for face in self.faces))
