"""What a bootstrap router keeps between runs: its ids and its ring, in one file a process. Shell.

A header line, a checksum and a bencoded dictionary, written in one step. It is read like bytes from a stranger:
whatever it holds, a start succeeds, and the nodes in it are pinged before they count for more than a start. A ring of
a million nodes is written without a second copy in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kademlia_bt import kept
from kademlia_bt.router.ring import MAX_NODES
from wire import bencode
from wire.compact import IPV4, IPV6, Family
from wire.errors import ProtocolError
from wire.ids import ID_BYTES

__all__ = ["RouterState", "files_for", "load", "save"]

_WHAT = "the router's state"
_HEADER = b"kademlia-bt router state 1\n"
_FAMILIES = (IPV4, IPV6)
_MAX_FILE_BYTES = MAX_NODES * sum(family.node_bytes for family in _FAMILIES) + (64 << 10)
_MAX_IDS = 64
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class RouterState:
    """What is kept: by family the node ids in the order of the sockets, and the compact nodes."""

    ids: Mapping[Family, tuple[bytes, ...]] = field(default_factory=dict)
    nodes: Mapping[Family, bytes] = field(default_factory=dict)

    def parts(self) -> list[bytes]:
        """The bencoded dictionary, in pieces: the nodes are in it as they are."""
        pieces = [b"d"]
        for family in _FAMILIES:  # the keys stand in their sorted order
            if ids := self.ids.get(family):
                joined = b"".join(ids)
                pieces.append(b"%d:ids-%b%d:" % (len(family.name) + 4, family.name.encode(), len(joined)) + joined)
        for family in _FAMILIES:
            if nodes := self.nodes.get(family):
                pieces += [b"%d:%b%d:" % (len(family.nodes_key), family.nodes_key, len(nodes)), nodes]
        return [*pieces, b"e"]

    @classmethod
    def from_bytes(cls, data: bytes) -> RouterState:
        """Reads a file's content. Raises ProtocolError for anything that `save` would not have written."""
        start = len(_HEADER) + _DIGEST_BYTES
        if not data.startswith(_HEADER) or len(data) > _MAX_FILE_BYTES:
            raise ProtocolError("not a router's state of this version")
        packed = memoryview(data)[start:]
        if hashlib.sha256(packed).digest() != data[len(_HEADER) : start]:
            raise ProtocolError("its checksum is wrong: it was cut short or changed")
        body = bencode.decode(packed)
        if not isinstance(body, dict):
            raise ProtocolError("it holds no dictionary")
        ids: dict[Family, tuple[bytes, ...]] = {}
        nodes: dict[Family, bytes] = {}
        for family in _FAMILIES:
            raw = body.get(b"ids-" + family.name.encode(), b"")
            if not isinstance(raw, bytes) or len(raw) % ID_BYTES or len(raw) > _MAX_IDS * ID_BYTES:
                raise ProtocolError("its node ids are broken")
            compact = body.get(family.nodes_key, b"")
            if not isinstance(compact, bytes) or len(compact) % family.node_bytes:
                raise ProtocolError("its nodes are broken")
            ids[family] = tuple(raw[at : at + ID_BYTES] for at in range(0, len(raw), ID_BYTES))
            nodes[family] = compact
        return cls(ids, nodes)


def load(path: Path) -> RouterState:
    """What was saved; empty where nothing was.

    Raises ProtocolError for a damaged file, which is set aside as `NAME.damaged`, and DiskError.
    """
    data = kept.read(path, _WHAT, _MAX_FILE_BYTES)
    if data is None:
        return RouterState()
    try:
        return RouterState.from_bytes(data)
    except ProtocolError as error:
        raise kept.damaged(path, _WHAT, error, "starting without it") from None


def save(path: Path, state: RouterState) -> None:
    """Writes the file in one step. Raises DiskError."""
    parts = state.parts()
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    kept.write(path, _WHAT, [_HEADER, digest.digest(), *parts])


def files_for(folder: Path, worker: int, workers: int) -> Sequence[Path]:
    """The files of one of `workers` processes: its own first, then those of processes that there are no more."""
    own = folder / f"router-{worker}.state"
    others = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob("router-*.state")):
            match = re.fullmatch(r"router-(\d{1,6})\.state", path.name)
            if match and int(match[1]) >= workers and int(match[1]) % workers == worker:
                others.append(path)
    return [own, *others]
