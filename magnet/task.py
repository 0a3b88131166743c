"""What a session hands to each of its torrents: what is to be done, and what all of them share. Values alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from kademlia_bt.node import Node
from magnet.config import Config
from magnet.link import MagnetLink
from magnet.shelf import Shelf
from magnet.twins import Twins
from magnet.vault import Vault
from wire.dialler import Dialler
from wire.limits import TokenBucket
from wire.lsd_service import LocalDiscovery
from wire.metainfo import Info, Torrent
from wire.net import Network
from wire.storage.store import Store
from wire.swarm.crowd import Crowd
from wire.swarm.values import PeerDropped
from wire.tracker.client import TrackerClient

__all__ = ["CACHE", "FILE", "Shared", "StoreFactory", "Task"]

CACHE = "cache"
FILE = "file"

StoreFactory = Callable[[Info, Path, Path | None, Sequence[bool] | None, bool], Store]
"""Makes the store of a torrent: info, folder, resume file (None: keep none), wanted files (None: all), read only."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with a torrent."""

    link: MagnetLink
    torrent: Torrent | None = None
    """Where the metadata is known at the start."""
    via: str = ""
    """And where it came from."""
    directory: Path = field(default_factory=Path)
    only: tuple[str, ...] = ()
    choose: Callable[[Info], Sequence[bool]] | None = None
    """Says which files are wanted once they are known; goes before `only`."""
    first: tuple[str, ...] = ()
    """Patterns of the files that are fetched before the others."""
    in_order: bool = False
    """Whether pieces are fetched from the first to the last."""
    metadata_only: bool = False
    seed: bool = False
    super_seed: bool = False
    """With `seed`: show each peer one piece at a time (BEP 16)."""
    begun: float | None = None
    """Since when it is waited for; None: from now on."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all torrents of a session share."""

    config: Config
    network: Network
    dialler: Dialler
    rng: random.Random
    node: Node | None
    trackers: TrackerClient | None
    """None: no tracker is asked."""
    neighbours: LocalDiscovery | None
    """None: nobody is looked for in the local network."""
    peer_id: bytes
    port: int
    """Where the session listens; 0 where it does not."""
    local: bool
    """Whether addresses of this machine and its private network are believed when strangers name them."""
    down: TokenBucket | None
    up: TokenBucket | None
    store_factory: StoreFactory
    vault: Vault
    departures: trio.MemorySendChannel[PeerDropped]
    """Hears whose connection ended, and why; full or closed, it hears nothing."""
    shelf: Shelf
    twins: Twins
    crowd: Crowd
    """All connections to peers, of which there may be so many."""
