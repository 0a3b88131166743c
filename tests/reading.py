"""Reads from a store as tests like it, and lays out what is sent as a store would."""

from __future__ import annotations

from collections.abc import Sequence

from wire.peer.shipment import Shipment
from wire.storage.store import Store

__all__ = ["read_blocks", "shipped"]


async def read_blocks(store: Store, requests: Sequence[tuple[int, int, int]]) -> list[bytes]:
    """The bytes of each (piece, offset in it, length), read to where something else lay before."""
    views = [memoryview(bytearray(b"?" * length)) for _, _, length in requests]
    await store.read_into(requests, views)
    return [bytes(view) for view in views]


def shipped(blocks: Sequence[tuple[int, int, int]], data: Sequence[bytes]) -> memoryview:
    """The messages that answer these requests."""
    shipment = Shipment()
    for place, block in zip(shipment.lay(blocks), data, strict=True):
        place[:] = block
    return shipment.frames
