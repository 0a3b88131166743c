"""The encrypted handshake: both roles in every pair of modes, cut anywhere, and against junk."""

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from wire.errors import MisuseError, ProtocolError
from wire.peer import mse
from wire.peer.mse import KEY_BYTES, MAX_PAD_BYTES, Acceptor, Dialler, KeyPair, Methods, Secured, looks_plain
from wire.peer.power import power

HASH = bytes(range(20))
BOTH = Methods.PLAIN | Methods.RC4
HEAD = b"\x13BitTorrent protocol" + bytes(8) + HASH + b"-XX0000-abcdefghijkl"


def run(
    dialler: Dialler, acceptor: Acceptor, cut: random.Random, after: tuple[bytes, bytes] = (b"", b"")
) -> tuple[Secured, Secured]:
    """Lets the two talk in pieces of random size until both are done."""
    to_acceptor, to_dialler = bytearray(), bytearray()
    for _ in range(100_000):
        to_acceptor += dialler.outgoing()
        to_dialler += acceptor.outgoing()
        for side, queue in ((acceptor, to_acceptor), (dialler, to_dialler)):
            if queue and side.secured is None:
                size = cut.randint(1, len(queue))
                side.receive(bytes(queue[:size]))
                del queue[:size]
        if dialler.secured and acceptor.secured and not acceptor._outbox:
            assert not to_acceptor
            assert not to_dialler
            return dialler.secured, acceptor.secured
    raise AssertionError("they never finish")


@pytest.mark.parametrize("provide", [Methods.PLAIN, Methods.RC4, BOTH])
@pytest.mark.parametrize("allow", [Methods.PLAIN, Methods.RC4, BOTH])
@pytest.mark.parametrize("prefer", [Methods.PLAIN, Methods.RC4])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ways", [(power,), (pow,), (power, pow)], ids=["fast", "pow", "mixed"])
def test_every_pair_of_modes(
    provide: Methods,
    allow: Methods,
    prefer: Methods,
    seed: int,
    ways: tuple[Callable[[int, int, int], int], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`ways`: how powers are taken, in turns: a side that has OpenSSL and one that has not agree."""
    turns = itertools.cycle(ways)
    monkeypatch.setattr(mse, "power", lambda *numbers: next(turns)(*numbers))
    rng = random.Random(seed)
    dialler = Dialler(HASH, provide, HEAD, rng)
    acceptor = Acceptor([bytes(20), HASH], allow, prefer, rng)
    if not provide & allow:
        with pytest.raises(ProtocolError):
            run(dialler, acceptor, rng)
        return
    ours, theirs = run(dialler, acceptor, rng)
    assert theirs.info_hash == HASH
    assert theirs.received == HEAD
    chosen = prefer if provide & allow & prefer else provide & allow
    if chosen is Methods.PLAIN:
        assert (ours.inbound, ours.outbound, theirs.inbound, theirs.outbound) == (None, None, None, None)
        return
    assert ours.outbound
    assert theirs.inbound
    assert theirs.outbound
    assert ours.inbound
    secret = ours.outbound.apply(b"some words")
    assert secret != b"some words"
    buffer = bytearray(secret)
    theirs.inbound.apply_in_place(memoryview(buffer))
    assert bytes(buffer) == b"some words"
    assert ours.inbound.apply(theirs.outbound.apply(b"an answer")) == b"an answer"


def test_keys_may_be_made_before() -> None:
    rng = random.Random(1)
    keys = KeyPair.make(rng)
    dialler = Dialler(HASH, BOTH, HEAD, rng, keys)
    assert dialler.outgoing()[:KEY_BYTES] == keys.public.to_bytes(KEY_BYTES, "big")
    _, theirs = run(Dialler(HASH, BOTH, HEAD, rng, keys), Acceptor([HASH], BOTH, Methods.RC4, rng), rng)
    assert theirs.received == HEAD


@given(st.integers(0, 2**32))
@settings(max_examples=examples(25), deadline=None)
def test_any_cut_gives_the_same(seed: int) -> None:
    rng = random.Random(seed)
    _, theirs = run(Dialler(HASH, BOTH, HEAD, rng), Acceptor([HASH], BOTH, Methods.RC4, rng), rng)
    assert theirs.received == HEAD


def test_what_follows_in_the_same_packet_is_kept() -> None:
    rng = random.Random(5)
    dialler, acceptor = Dialler(HASH, Methods.RC4, HEAD, rng), Acceptor([HASH], BOTH, Methods.RC4, rng)
    acceptor.receive(dialler.outgoing())
    dialler.receive(acceptor.outgoing())
    theirs = acceptor.receive(dialler.outgoing())
    assert theirs
    assert theirs.outbound
    ours = dialler.receive(acceptor.outgoing() + theirs.outbound.apply(b"more"))
    assert ours
    assert ours.received == b"more"


def test_another_torrent_is_refused() -> None:
    rng = random.Random(6)
    with pytest.raises(ProtocolError, match="not here"):
        run(Dialler(HASH, BOTH, b"", rng), Acceptor([bytes(20)], BOTH, Methods.RC4, rng), rng)


@pytest.mark.parametrize("role", ["dialler", "acceptor"])
def test_junk_ends_within_its_bound(role: str) -> None:
    rng = random.Random(7)
    side = Dialler(HASH, BOTH, HEAD, rng) if role == "dialler" else Acceptor([HASH], BOTH, Methods.RC4, rng)
    taken = 0

    def feed() -> None:
        nonlocal taken
        for taken in range(10_000):  # noqa: B007 - how far it came is what is asked
            side.receive(rng.randbytes(1))

    with pytest.raises(ProtocolError):
        feed()
    assert taken <= KEY_BYTES + MAX_PAD_BYTES + 20


@pytest.mark.parametrize("key", [0, 1, 2**768 - 1])
def test_worthless_keys_are_refused(key: int) -> None:
    with pytest.raises(ProtocolError):
        Acceptor([HASH], BOTH, Methods.RC4, random.Random(8)).receive(key.to_bytes(96, "big"))


def test_a_plain_handshake_is_told_by_its_head() -> None:
    assert looks_plain(b"") is None
    assert looks_plain(b"\x13BitTor") is None
    assert looks_plain(HEAD) is True
    assert looks_plain(b"\x13BitTorrent protocoL" + bytes(8)) is False
    assert looks_plain(b"\x14") is False


def test_misuse() -> None:
    with pytest.raises(MisuseError):
        Dialler(HASH, Methods(0), b"", random.Random(0))
    with pytest.raises(MisuseError):
        Dialler(HASH, BOTH, bytes(65536), random.Random(0))
