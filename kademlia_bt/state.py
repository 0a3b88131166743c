"""What a node keeps between runs: its ids and the nodes it knew, in one small file.

The file is a header line, a checksum and a bencoded dictionary. It is read like bytes from a
stranger: whatever it holds, a start succeeds, and the worst that a forged one does is to name nodes
that do not answer. Several processes may share it: one holds the lock and with it the saved ids,
the others borrow the nodes and write nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from kademlia_bt import kept
from kademlia_bt.dht.contact import Contact, unpack_contacts
from kademlia_bt.dht.face import Face
from wire import bencode
from wire.compact import IPV4, IPV6, Family
from wire.errors import DiskError, ProtocolError
from wire.ids import ID_BYTES

__all__ = ["Keeper", "SavedNode", "StateFile"]

_log = logging.getLogger(__name__)

_WHAT = "the DHT state"
_HEADER = b"kademlia-bt dht state 1\n"
_MAX_FILE_BYTES = 256 << 10
"""Ten times what 500 nodes of IPv6 take: nothing larger is ours."""
_MAX_NODES = 2000
_MAX_IDS = 64
"""Sockets of one family: more is no node that anybody runs."""
_FAMILIES = (IPV4, IPV6)


@dataclass(frozen=True, slots=True)
class SavedNode:
    """What is kept: by family name the node ids in the order of the sockets, and the nodes, best first."""

    ids: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    nodes: tuple[Contact, ...] = ()

    def to_bytes(self) -> bytes:
        """The file's content."""
        body: dict[bytes, bencode.Value] = {}
        for family in _FAMILIES:
            ids = self.ids.get(family.name, ())
            of_family = [node for node in self.nodes if node.endpoint.family is family]
            if ids:
                body[b"ids-" + family.name.encode()] = b"".join(ids)
            if of_family:
                body[family.nodes_key] = b"".join(node.compact() for node in of_family)
        packed = bencode.encode(body)
        return _HEADER + hashlib.sha256(packed).digest() + packed

    @classmethod
    def from_bytes(cls, data: bytes) -> SavedNode:
        """Reads a file's content. Raises ProtocolError for anything that `to_bytes` would not have written."""
        start = len(_HEADER) + hashlib.sha256().digest_size
        if not data.startswith(_HEADER) or len(data) > _MAX_FILE_BYTES:
            raise ProtocolError("not a DHT state file of this version")
        packed = data[start:]
        if hashlib.sha256(packed).digest() != data[len(_HEADER) : start]:
            raise ProtocolError("its checksum is wrong: it was cut short or changed")
        body = bencode.decode(packed)
        if not isinstance(body, dict):
            raise ProtocolError("it holds no dictionary")
        ids: dict[str, tuple[bytes, ...]] = {}
        nodes: list[Contact] = []
        for family in _FAMILIES:
            raw = body.get(b"ids-" + family.name.encode(), b"")
            if not isinstance(raw, bytes) or len(raw) % ID_BYTES or len(raw) > _MAX_IDS * ID_BYTES:
                raise ProtocolError("its node ids are broken")
            ids[family.name] = tuple(raw[at : at + ID_BYTES] for at in range(0, len(raw), ID_BYTES))
            compact = body.get(family.nodes_key, b"")
            if not isinstance(compact, bytes) or len(compact) % family.node_bytes:
                raise ProtocolError("its nodes are broken")
            nodes += unpack_contacts(compact, family, _MAX_NODES)
        return cls({name: own for name, own in ids.items() if own}, tuple(nodes))


class StateFile:
    """The file and its lock. A context manager: the lock is held inside it, where no other process has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owned = False
        """Whether this process holds the lock: the saved ids are its own, and it may save."""
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> StateFile:
        # Where the folder cannot be written there is no lock and nothing will be saved: a node runs without.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self.path.with_name(self.path.name + ".lock").open("ab")
            _lock_file(self._lock)
            self.owned = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.owned = False
        if self._lock is not None:
            self._lock.close()  # and thereby unlocked

    def load(self) -> SavedNode:
        """What was saved; empty where nothing was.

        Raises ProtocolError for a damaged file, which is set aside as `NAME.damaged`, and DiskError.
        """
        data = kept.read(self.path, _WHAT, _MAX_FILE_BYTES)
        if data is None:
            return SavedNode()
        try:
            return SavedNode.from_bytes(data)
        except ProtocolError as error:
            raise kept.damaged(self.path, _WHAT, error, "starting afresh") from None

    def save(self, saved: SavedNode) -> bool:
        """Writes the file in one step; False where another process owns it. Raises DiskError."""
        if not self.owned:
            return False
        kept.write(self.path, _WHAT, [saved.to_bytes()])
        return True


class Keeper:
    """A node's state file, or none: a fault of it costs what it would have kept, and a line in the log."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else StateFile(path)
        self._warned = False
        self.kept = SavedNode()
        """What was there when it was opened."""
        self.saved = False
        """Whether the last save succeeded."""

    @property
    def saves(self) -> bool:
        """Whether there is a file, and no other process has it."""
        return self._file is not None and self._file.owned

    def __enter__(self) -> Keeper:
        if self._file is not None:
            self._file.__enter__()
            try:
                self.kept = self._file.load()
            except (ProtocolError, DiskError) as error:
                _log.warning("%s", error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.__exit__(kind, error, trace)

    def id_of(self, family: Family, nth: int) -> bytes | None:
        """The id that the nth socket of a family had; None where it had none, or another process has it now."""
        ids = self.kept.ids.get(family.name, ())
        return ids[nth] if self.saves and nth < len(ids) else None

    def save(self, faces: Iterable[Face], nodes: Iterable[Contact]) -> None:
        """Saves the ids of the sockets and the nodes, best first. Warns of the first time that it cannot."""
        if self._file is None or not self._file.owned:
            return
        ids: dict[str, tuple[bytes, ...]] = {}
        for face in faces:
            ids[face.family.name] = (*ids.get(face.family.name, ()), face.node_id)
        try:
            self.saved = self._file.save(SavedNode(ids, tuple(nodes)))
        except DiskError as error:
            self.saved = False
            if not self._warned:
                _log.warning("%s", error)
            self._warned = True


if sys.platform == "win32":
    import msvcrt

    def _lock_file(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock_file(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
