"""Peer exchange (BEP 11): its messages, and how much of them is believed. No I/O, no private-torrent law.

What comes is hearsay: at most so many addresses are taken from one message, none with port 0, and none that
is named as added and dropped at once. What goes out is the difference to what went out before.
"""

from __future__ import annotations

from typing import NamedTuple

from wire.compact import Endpoint

__all__ = ["PexPeer"]


class PexPeer(NamedTuple):
    """An address from a peer exchange and its flags (`SEED`, `UTP`, ...)."""

    endpoint: Endpoint
    flags: int
