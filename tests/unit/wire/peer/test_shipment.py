"""Blocks laid out to be sent."""

from __future__ import annotations

from tests.unit.wire.peer.joined import feed, joined
from wire.peer import messages as m
from wire.peer.messages import BLOCK_BYTES as B
from wire.peer.shipment import Shipment


def test_what_is_laid_out_and_filled_is_what_messages_say() -> None:
    shipment = Shipment()
    whole = [(3, n * B, B) for n in range(5)]
    odd = [(1, 0, B), (1, B, B), (9, 5, 7)]
    for blocks in (odd, [(2, 0, B), (2, B, 3), (9, 0, 7)], [(2, 0, 3)], whole, whole[:2], odd, whole[2:], [(0, 0, 1)]):
        for number, place in enumerate(shipment.lay(blocks)):
            place[:] = bytes([number]) * len(place)
        said = [
            m.piece_header(index, begin, length) + bytes([number]) * length
            for number, (index, begin, length) in enumerate(blocks)
        ]
        assert shipment.frames == b"".join(said)


def test_the_same_memory_serves_for_what_fits() -> None:
    shipment = Shipment()
    memory = shipment.lay([(0, 0, B), (0, B, B)])[0].obj
    assert shipment.lay([(7, 0, B)])[0].obj is memory
    assert shipment.lay([(7, 0, B)] * 3)[0].obj is not memory


def test_a_shipment_goes_out_behind_what_was_said_before() -> None:
    here, there = joined()
    here.unchoke()
    shipment = Shipment()
    for place in shipment.lay([(1, 0, 5), (1, 5, 4)]):
        place[:] = b"data of it"[: len(place)]
    here.pieces(shipment.frames)
    here.have(3)
    assert here.outgoing_bytes == 5 + len(shipment.frames) + 9
    out = b"".join(bytes(part) for part in here.outgoing())
    assert feed(there, out) == [
        m.Unchoked(),
        m.Block(1, 0, memoryview(b"data ")),
        m.Block(1, 5, memoryview(b"data")),
        m.Have(3),
    ]
