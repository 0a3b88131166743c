"""What a first link needs is done once before it comes: two peers meet in memory, one has the metadata of the other.

What the interpreter does when lines run for the first time (modules that are imported by who needs them, such as the
ciphers of MSE; lines that it makes faster after some rounds) is then done while nobody waits. There is no network here
and no state: all that is made is thrown away. Bounded: some rounds, each of which is a meeting of two peers.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import trio

from wire.bencode import encode
from wire.compact import Endpoint
from wire.ids import InfoHash, make_peer_id
from wire.metainfo import Info
from wire.peer.connection import PeerConnection
from wire.peer.errand import MetadataErrand
from wire.peer.messages import Event
from wire.peer.mse import Acceptor, Dialler, Methods, Secured
from wire.peer.veiled import VeiledErrand
from wire.secure import Encryption, methods_of
from wire.swarm.crowd import Crowd
from wire.swarm.peer import Peer
from wire.swarm.rules import Settings, Swarm
from wire.swarm.values import MetadataComplete

__all__ = ["QUIET_S", "rehearse", "rehearse_meeting"]

QUIET_S = 0.25
"""So long nothing has been asked of the session before it rehearses."""
_ROUNDS = 12
"""Python 3.11 looks at lines that have run eight times, and writes them anew for what they met."""
_DIALLED, _DIALLING = Endpoint("192.0.2.1", 6881), Endpoint("192.0.2.2", 6882)
"""Addresses of documentation (RFC 5737): nobody's."""


async def rehearse(encryption: Encryption, is_idle: Callable[[], bool]) -> None:
    """Waits a moment and rehearses, a round in each turn of the event loop, for as long as `is_idle`."""
    await trio.sleep(QUIET_S)
    rng = random.Random(0)  # it hides nothing from anybody; a session's own chance stays where it is
    for _ in range(_ROUNDS):
        if not is_idle():
            return
        rehearse_meeting(encryption, rng)
        rehearse_errand(encryption, rng)
        await trio.lowlevel.checkpoint()


def rehearse_meeting(encryption: Encryption, rng: random.Random) -> Info | None:
    """Lets one peer dial another, encrypted as a session would say it, and ask it for its metadata, which it returns.

    None: it did not come to that. `rng`: for keys and paddings.
    """
    name, info = _torrent()
    asking, knowing = _swarm(name, None, rng), _swarm(name, info, rng)
    asking.found(_DIALLED, "dht", 0.0)
    if asking.next_dial(0.0) is None:
        return None
    opening = asking.opening(_DIALLED)
    if encryption != "off":
        opening = _encrypted(opening, name, methods_of(encryption), rng)
    accepted = _accepted(knowing, opening)
    dialled = asking.dial_opened(_DIALLED, 0.0, greeted=True)
    if accepted is None or dialled is None:
        return None
    while _pass(accepted, asking, dialled) or _pass(dialled, knowing, accepted):
        pass
    return next((event.info for event in asking.events() if isinstance(event, MetadataComplete)), None)


def rehearse_errand(encryption: Encryption, rng: random.Random) -> bytes | None:
    """The same of a peer who is asked for his metadata alone (`magnet.errands`), which is returned as he sent it."""
    name, info = _torrent()
    knowing = _swarm(name, info, rng)
    errand = MetadataErrand(name, make_peer_id(rng))
    if encryption == "off":
        accepted = _accepted(knowing, errand.opening())
        return None if accepted is None else _answered(errand, knowing, accepted, None)
    methods = methods_of(encryption)
    talk = VeiledErrand(errand, name.swarm_ids[0], methods, rng)
    acceptor = Acceptor(name.swarm_ids, methods, Methods.RC4, rng)
    acceptor.receive(talk.opening())
    secured = acceptor.receive(talk.receive(acceptor.outgoing()))
    if secured is None or (accepted := _accepted(knowing, secured.received)) is None:
        return None
    talk.receive(acceptor.outgoing())
    return _answered(talk, knowing, accepted, secured)


def _answered(
    talk: MetadataErrand | VeiledErrand, knowing: Swarm, accepted: Peer, secured: Secured | None
) -> bytes | None:
    """Hands on what both say, encrypted where it is `secured`, until the errand is done."""
    while data := b"".join(accepted.connection.outgoing()):
        if secured is not None and secured.outbound is not None:
            data = bytes(secured.outbound.apply(data))
        said = talk.receive(data)
        if secured is not None and secured.inbound is not None:
            said = bytes(secured.inbound.apply(said))
        knowing.receive(accepted, _hear(accepted.connection, said), 0.0)
    return talk.raw


def _torrent() -> tuple[InfoHash, Info]:
    raw = encode({b"length": 1, b"name": b"rehearsal", b"piece length": 1 << 14, b"pieces": bytes(20)})
    name = InfoHash(v1=hashlib.sha1(raw).digest())
    return name, Info.from_bytes(raw, name)


def _accepted(knowing: Swarm, opening: bytes) -> Peer | None:
    connection = PeerConnection(
        peer_id=knowing.peer_id, info_hash=None, extended=knowing.handshake(_DIALLING), now=0.0, dht=True
    )
    return knowing.accept(_DIALLING, connection, _hear(connection, opening), 0.0)


def _swarm(name: InfoHash, info: Info | None, rng: random.Random) -> Swarm:
    settings = Settings(metadata_only=True)
    return Swarm(name, peer_id=make_peer_id(rng), rng=rng, now=0.0, settings=settings, info=info, crowd=Crowd())


def _encrypted(opening: bytes, name: InfoHash, methods: Methods, rng: random.Random) -> bytes:
    """The opening as it comes out of an encrypted handshake (MSE), both sides of which are played."""
    dialler = Dialler(name.swarm_ids[0], methods, opening, rng)
    acceptor = Acceptor(name.swarm_ids, methods, Methods.RC4, rng)
    while acceptor.secured is None:
        acceptor.receive(dialler.outgoing())
        dialler.receive(acceptor.outgoing())
    return acceptor.secured.received


def _hear(connection: PeerConnection, data: bytes) -> list[Event]:
    buffer = connection.buffer()
    buffer[: len(data)] = data
    return connection.received(len(data), 0.0)


def _pass(speaker: Peer, to: Swarm, hearer: Peer) -> bool:
    """Hands on what one side has to say; False where it is silent."""
    data = b"".join(speaker.connection.outgoing())
    if data:
        to.receive(hearer, _hear(hearer.connection, data), 0.0)
    return bool(data)
