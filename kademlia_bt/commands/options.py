"""What every command of `kademlia-bt` is told, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wire.compact import Endpoint

if TYPE_CHECKING:
    from wire.net import Network

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """What every command is told."""

    listen: tuple[Endpoint, ...] | None
    bootstrap: tuple[tuple[str, int], ...] | None
    allow_local: bool | None
    state_dir: Path | None
    json: bool
    verbose: bool
    timeout_s: float
    """0: waits for ever."""
    network: str | None = None
    """The name of a private network."""
    outer: Network | None = None
    """The outer world by way of a proxy; None: the machine's own network."""
