"""Items that change, followed as async iterators (BEP 44, BEP 46). Made by `Node.follow` and `Node.follow_torrent`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from kademlia_bt.answers import ItemRefusedError
from kademlia_bt.items.values import PUBLIC_KEY_BYTES, ItemError, MutableItem, torrent_of
from wire.errors import MisuseError

if TYPE_CHECKING:
    from kademlia_bt.asking import Asking

__all__ = ["FOLLOW_S", "RE_PUT_S", "Following", "TorrentFollowing"]

RE_PUT_S = 3600.0
"""Items live two hours and are put again each hour (BEP 44)."""
FOLLOW_S = 300.0
"""Between two looks at an item that may change. Each look asks some 20 nodes."""


class Following:
    """A mutable item: the one that is there, and each newer one once it is found. Never ends by itself.

    Looks only while somebody iterates, and may be left at any time. One task at a time.
    """

    def __init__(self, node: Asking, public_key: bytes, salt: bytes, every_s: float) -> None:
        if len(public_key) != PUBLIC_KEY_BYTES:
            raise MisuseError(f"a public key is {PUBLIC_KEY_BYTES} bytes long, not {len(public_key)}")
        self._node = node
        self._public_key = public_key
        self._salt = salt
        self._every_s = every_s
        self._look_at: float | None = None
        self._put_at = 0.0
        self.latest: MutableItem | None = None
        """The newest so far."""

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> MutableItem:
        while True:
            if self._look_at is None:
                self._put_at = trio.current_time() + RE_PUT_S
            else:
                await trio.sleep_until(self._look_at)
            self._look_at = trio.current_time() + self._every_s
            latest = self.latest
            if latest is not None and trio.current_time() >= self._put_at:
                self._put_at = trio.current_time() + RE_PUT_S
                with suppress(ItemRefusedError):  # somebody else's item: it costs us nothing if they will not have it
                    await self._node.re_put(latest)
            seq = None if latest is None else latest.seq
            item = await self._node.get(self._public_key, salt=self._salt, seq=seq)
            if isinstance(item, MutableItem):
                self.latest = item
                return item


class TorrentFollowing:
    """The torrent that a key points at, and each other one from then on: 20-byte info-hashes (BEP 46)."""

    def __init__(self, items: Following) -> None:
        self._items = items
        self.latest: bytes | None = None
        """The last one that was given."""

    def __aiter__(self) -> TorrentFollowing:
        return self

    async def __anext__(self) -> bytes:
        async for item in self._items:
            try:
                info_hash = torrent_of(item)
            except ItemError:
                continue  # its owner used it for something else for a while
            if info_hash != self.latest:
                self.latest = info_hash
                return info_hash
        raise StopAsyncIteration
