"""How a DHT behaves: what its owner decides before it starts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DhtConfig"]


@dataclass(frozen=True, slots=True)
class DhtConfig:
    """How a DHT behaves. Nothing here changes while it runs."""

    read_only: bool = False
    """Asks but never answers, and says so (BEP 43)."""
    per_ip_limit: float | None = None
    """Queries a second that one address may send, averaged over 10 s; who sends more is ignored for 5 min. 0: no limit.
    None: 5, or 1,000 on a face with `allow_local`, where a whole network may share one address."""
    upload_limit: int | None = None
    """Bytes a second of answers, for each face. 0: no limit. None: 16,000, or no limit on a face with `allow_local`."""
    version: bytes = b"KB\x01\x00"
    """Client and version: the `v` of each message."""
    network: bytes = b""
    """The tag of a private network (`private.network_tag`); empty for the mainline DHT."""
