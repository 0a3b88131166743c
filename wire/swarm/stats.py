"""What a swarm counts: the numbers behind progress lines and verdicts. No logic, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SwarmStats"]


@dataclass(frozen=True, slots=True)
class SwarmStats:
    """A snapshot of one torrent's swarm. Counts are since the start unless the name says otherwise."""

    found: Mapping[str, int]
    """Distinct addresses by the source that named them first ("dht", "pex", "peer", ...)."""
    dialled: int
    """Connections tried."""
    connected: int
    """Connections, either way, whose handshake was completed."""
    refused: int
    """Dials that were refused or had no route."""
    timed_out: int
    """Dials that nobody answered in time."""
    handshake_failed: int
    """Streams that opened and then closed, fell silent or spoke something else before their handshake was done."""
    without_metadata: int
    """Peers that do not offer the metadata (BEP 9), seen while it was wanted."""
    metadata_rejected: int
    """Peers that offered the metadata and refused to send it."""
    metadata_hash_failures: int
    """Whole info dictionaries that did not match the info-hash."""
    piece_hash_failures: int
    """Whole pieces that did not match their hash."""
    banned: int
    """Peers that lied and are not talked to any more."""
    peers: int
    """Connections now, their handshake done."""
    seeds: int
    """Those among them that have every piece."""
    downloaded_bytes: int
    """Piece data received and asked for, wrong pieces included."""
    uploaded_bytes: int
    """Piece data handed out."""
    wasted_bytes: int
    """Piece data received twice, unasked or wrong."""
    down_rate: float
    """Bytes of piece data a second over the last seconds."""
    up_rate: float
    """Bytes of piece data a second over the last seconds."""
    pieces_done: int
    """Pieces verified and stored, those found at the start included."""
    pieces_total: int
    """Pieces of the torrent; 0 until the metadata is known."""
    wanted_left_bytes: int
    """Bytes of wanted pieces that are not stored yet; 0 until the metadata is known."""
