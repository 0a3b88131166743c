from __future__ import annotations

import pytest

from wire import bencode
from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.peer.pex import INTERVAL_S, MAX_SENT, MAX_TAKEN, SEED, UTP, PexMessage, PexPeer, PexSender


def peers(count: int, start: int = 0) -> dict[Endpoint, int]:
    return {Endpoint(f"192.0.2.{at % 200}", 1000 + at): SEED for at in range(start, start + count)}


def test_both_families_flags_and_drops_there_and_back() -> None:
    message = PexMessage(
        (PexPeer(Endpoint("192.0.2.1", 6881), SEED), PexPeer(Endpoint("2001:db8::1", 6882), SEED | UTP)),
        (Endpoint("192.0.2.9", 1), Endpoint("2001:db8::9", 2)),
    )
    assert PexMessage.parse(message.encode()) == message
    assert bencode.decode(message.encode()) == {
        b"added": bytes.fromhex("c0000201 1ae1"),
        b"added.f": b"\x02",
        b"dropped": bytes.fromhex("c0000209 0001"),
        b"added6": bytes.fromhex("20010db8000000000000000000000001 1ae2"),
        b"added6.f": b"\x06",
        b"dropped6": bytes.fromhex("20010db8000000000000000000000009 0002"),
    }


def test_odd_ones_are_read_as_far_as_they_make_sense() -> None:
    one = bytes.fromhex("c0000201 1ae1")
    assert PexMessage.parse(b"de") == PexMessage((), ())
    assert PexMessage.parse(bencode.encode({b"added": 5, b"dropped": [b"x"]})) == PexMessage((), ())
    # no flags, a rest, port 0, one address twice
    odd = bencode.encode({b"added": one + one + bytes.fromhex("c0000202 0000") + b"abc"})
    assert PexMessage.parse(odd) == PexMessage((PexPeer(Endpoint("192.0.2.1", 6881), 0),), ())
    # added and dropped at once: neither is believed
    assert PexMessage.parse(bencode.encode({b"added": one, b"dropped": one})) == PexMessage((), ())


@pytest.mark.parametrize("payload", [b"", b"le", b"i5e", b"d", b"dededede", b"d5:added", b"dd"])
def test_broken_ones(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        PexMessage.parse(payload)


def test_a_flood_is_cut() -> None:
    flood = b"".join(endpoint.compact() for endpoint in peers(5000))
    six = b"".join(Endpoint(f"2001:db8::{at + 1:x}", 1).compact() for at in range(5000))
    parsed = PexMessage.parse(bencode.encode({b"added": flood, b"added6": six}))
    assert len(parsed.added) == MAX_TAKEN
    parsed = PexMessage.parse(bencode.encode({b"dropped": flood, b"dropped6": six}))
    assert len(parsed.dropped) == MAX_TAKEN


def test_a_sender_tells_differences_once_a_minute_and_never_too_many() -> None:
    sender = PexSender(now=5.0)
    assert sender.message({}, 5.0) is None
    first = sender.message(peers(120), 5.0)
    assert first is not None
    assert len(PexMessage.parse(first).added) == MAX_SENT
    assert sender.message(peers(120), 5.0 + INTERVAL_S - 1) is None
    assert sender.next_at == 5.0 + INTERVAL_S
    told = {peer.endpoint for peer in PexMessage.parse(first).added}
    now = 5.0
    for _ in range(2):
        now += INTERVAL_S
        message = sender.message(peers(120), now)
        assert message is not None
        told |= {peer.endpoint for peer in PexMessage.parse(message).added}
    assert told == set(peers(120))
    now += INTERVAL_S
    assert sender.message(peers(120), now) is None
    gone = sender.message(peers(60), now)
    assert gone is not None
    parsed = PexMessage.parse(gone)
    assert (len(parsed.added), len(parsed.dropped)) == (0, MAX_SENT)
    rest = sender.message(peers(60), now + INTERVAL_S)
    assert rest is not None
    assert set(PexMessage.parse(rest).dropped) | set(parsed.dropped) == set(peers(60, 60))
