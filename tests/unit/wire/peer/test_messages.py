from __future__ import annotations

import struct

import pytest

from wire.errors import ProtocolError
from wire.peer import messages as m
from wire.peer.hashes import HashAsk

ASK = HashAsk(b"\xab" * 32, 2, 512, 512, 9)
HASH = b"\xcd" * 32


def parse(frame: bytes) -> m.Message | None:
    length, kind = struct.unpack_from(">IB", frame)
    assert length == len(frame) - 4
    m.check_length(kind, length, None)
    return m.parse(kind, memoryview(frame)[5:])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ("00000001 00", m.Choked()),
        ("00000001 01", m.Unchoked()),
        ("00000001 02", m.Interested()),
        ("00000001 03", m.NotInterested()),
        ("00000005 04 00000102", m.Have(0x102)),
        ("00000003 05 80ff", m.RawBitfield(b"\x80\xff")),
        ("0000000d 06 00000001 00004000 00004000", m.Request(1, 16384, 16384)),
        ("0000000d 08 00000001 00004000 00002000", m.Cancel(1, 16384, 8192)),
        ("00000003 09 1ae1", m.Port(6881)),
        ("00000005 0d 00000007", m.Suggest(7)),
        ("00000001 0e", m.HaveAll()),
        ("00000001 0f", m.HaveNone()),
        ("0000000d 10 00000001 00004000 00004000", m.Reject(1, 16384, 16384)),
        ("00000005 11 00000007", m.AllowedFast(7)),
        ("00000004 14 00 6465", m.Extended(0, b"de")),
        ("00000031 15" + "ab" * 32 + "00000002 00000200 00000200 00000009", m.HashRequest(ASK)),
        ("00000071 16" + "ab" * 32 + "00000002 00000200 00000200 00000009" + "cd" * 64, m.Hashes(ASK, (HASH, HASH))),
        ("00000031 17" + "ab" * 32 + "00000002 00000200 00000200 00000009", m.HashReject(ASK)),
        ("00000002 63 00", None),
    ],
)
def test_the_bytes_of_each_message(frame: str, message: m.Message | None) -> None:
    parsed = parse(bytes.fromhex(frame))
    assert parsed == message
    assert type(parsed) is type(message)


def test_frames_are_written_as_they_are_read() -> None:
    assert parse(m.frame(m.UNCHOKE)) == m.Unchoked()
    assert parse(m.index_frame(m.HAVE, 5)) == m.Have(5)
    both = m.blocks_frames(m.REQUEST, [(1, 2, 3), (4, 5, 6)])
    assert [parse(both[:17]), parse(both[17:])] == [m.Request(1, 2, 3), m.Request(4, 5, 6)]
    assert parse(m.frame(m.HASH_REQUEST, ASK.encode())) == m.HashRequest(ASK)
    assert parse(m.frame(m.HASHES, m.Hashes.encode(ASK, [HASH]))) == m.Hashes(ASK, (HASH,))
    assert m.piece_header(1, 16384, 4) == bytes.fromhex("0000000d 07 00000001 00004000")


@pytest.mark.parametrize(
    ("kind", "length", "bitfield_bytes"),
    [
        (m.CHOKE, 2, None),
        (m.HAVE, 4, None),
        (m.HAVE, 6, None),
        (m.REQUEST, 12, None),
        (m.PORT, 5, None),
        (m.HAVE_ALL, 2, None),
        (m.PIECE, 9, None),
        (m.PIECE, 9 + 16385, None),
        (m.BITFIELD, 1 + 262_145, None),
        (m.BITFIELD, 2, 2),
        (m.BITFIELD, 4, 2),
        (m.EXTENDED, 1, None),
        (m.EXTENDED, 65537, None),
        (m.HASH_REQUEST, 48, None),
        (m.HASH_REJECT, 50, None),
        (m.HASHES, 48, None),
        (m.HASHES, 49 + 32 * 577, None),
        (99, 65537, None),
    ],
)
def test_a_length_that_a_kind_cannot_have(kind: int, length: int, bitfield_bytes: int | None) -> None:
    with pytest.raises(ProtocolError):
        m.check_length(kind, length, bitfield_bytes)


@pytest.mark.parametrize(
    ("kind", "length", "bitfield_bytes"),
    [(m.PIECE, 10, None), (m.PIECE, 9 + 16384, None), (m.BITFIELD, 1 + 262_144, None), (m.BITFIELD, 3, 2), (99, 1, 2)],
)
def test_the_longest_and_shortest_that_it_can(kind: int, length: int, bitfield_bytes: int | None) -> None:
    m.check_length(kind, length, bitfield_bytes)


@pytest.mark.parametrize("kind", [m.REQUEST, m.CANCEL, m.REJECT])
@pytest.mark.parametrize("length", [0, 131073, 0xFFFFFFFF])
def test_requests_of_nothing_or_too_much(kind: int, length: int) -> None:
    with pytest.raises(ProtocolError):
        parse(m.blocks_frames(kind, [(0, 0, length)]))


@pytest.mark.parametrize("extra", [0, 1, 31, 33])
def test_hashes_that_are_not_whole(extra: int) -> None:
    with pytest.raises(ProtocolError):
        parse(m.frame(m.HASHES, ASK.encode() + bytes(extra)))


@pytest.mark.parametrize(
    ("index", "length", "sane"),
    [
        (0, 512, True),
        (512, 512, True),
        (2, 2, True),
        (5, 1, True),
        (0, 0, False),
        (0, 3, False),
        (1, 2, False),
        (0, 1024, False),
        (512, 0xFFFFFFFF, False),
    ],
)
def test_what_may_be_asked_for(index: int, length: int, sane: bool) -> None:
    assert ASK._replace(index=index, length=length).is_sane is sane
