"""What a session may do, as one frozen value: the same for the commands and the library.

No BEP; no I/O but the default of the state folder, which only asks the platform for its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kademlia_bt.dht.private import network_tag
from wire.blocklist import BlockList
from wire.compact import Endpoint
from wire.errors import MisuseError
from wire.socks import Proxy
from wire.swarm.crowd import MAX_CONNECTIONS
from wire.tracker.urls import check_tracker_url

__all__ = ["DEFAULT_PATIENCE_S", "Config", "Encryption", "Transport", "default_state_dir"]

Encryption = Literal["prefer", "require", "off"]
Transport = Literal["both", "tcp", "utp"]

DEFAULT_PATIENCE_S = 300.0
"""Quiet seconds before giving up: long enough for a second search of the DHT and slow swarms, short enough to tell."""


def default_state_dir() -> Path:
    """The platform's folder for state of this user (`$XDG_STATE_HOME/kademlia-bt` and its like). Not created here."""
    import platformdirs  # asked once; not needed by those who name a folder

    return Path(platformdirs.user_state_dir("kademlia-bt", appauthor=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of a session. Raises MisuseError where a value cannot be."""

    listen: tuple[Endpoint, ...] = ()
    """Addresses for TCP and UDP alike; none: IPv4 and IPv6 wildcards on one free port."""
    bootstrap: tuple[tuple[str, int], ...] | None = None
    """DHT nodes to join through, as (host or name, port); None: the built-in routers."""
    network: str | None = None
    """The name of a private DHT (`kademlia_bt.dht.private`); None: the mainline DHT."""
    peers: tuple[tuple[str, int], ...] = ()
    """Peers to dial for every torrent, as (host or name, port)."""
    trackers: tuple[str, ...] = ()
    """Announce URLs beside those of the torrent (BEP 3, BEP 12, BEP 15): http, https or udp."""
    dht: bool = True
    pex: bool = True
    lsd: bool = True
    use_trackers: bool = True
    web_seeds: bool = True
    encryption: Encryption = "prefer"
    transport: Transport = "both"
    port_mapping: bool = True
    """Ask the gateway to let our port in (PCP, NAT-PMP, UPnP); never where only this machine is listened to, a proxy is
    used, or the DHT is joined by an address nearby."""
    block_list: BlockList | None = None
    """Addresses that are not talked to, whoever names them."""
    proxy: Proxy | None = None
    """All goes through it, or not at all: peers, trackers, web seeds, the DHT and names; nobody can dial us, and local
    discovery is off."""
    down_limit: int = 0
    """Bytes a second for the whole session; 0: no limit."""
    up_limit: int = 0
    max_connections: int = MAX_CONNECTIONS
    """To peers, of all torrents together, dials under way among them; less where a process may open few files."""
    patience_s: float = DEFAULT_PATIENCE_S
    """Gives a torrent up when nothing new came for so many seconds; 0: never."""
    deadline_s: float | None = None
    """Gives a torrent up so many seconds after it was added, whatever came; None: never."""
    preallocate: bool = False
    """Sets the disk space of all wanted files aside before the first piece; else files grow, with holes."""
    state_dir: Path | None = field(default_factory=default_state_dir)
    """Where the DHT's nodes, the metadata cache and the resume files live; None: nothing is kept."""
    allow_local: bool | None = None
    """Whether the DHT may talk to loopback and private addresses; None: where it listens on or joins by such a one."""

    def __post_init__(self) -> None:
        if self.network is not None:
            network_tag(self.network)  # checked now, not when the session opens
        for name, value in (("down_limit", self.down_limit), ("up_limit", self.up_limit)):
            if value < 0:
                raise MisuseError(f"{name} is {value}; it is 0 (no limit) or more bytes a second")
        if self.max_connections < 1:
            raise MisuseError(f"max_connections is {self.max_connections}; it is 1 or more")
        for url in self.trackers:
            check_tracker_url(url)
        if not self.patience_s >= 0:
            raise MisuseError(f"patience_s is {self.patience_s}; it is 0 (for ever) or more seconds")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise MisuseError(f"deadline_s is {self.deadline_s}; it is more than 0 seconds, or None")
