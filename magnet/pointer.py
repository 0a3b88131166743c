"""From a link that points at a changing torrent to the torrent that it names now, by the DHT (BEP 46)."""

from __future__ import annotations

import math

import trio

from kademlia_bt.items.values import ItemError, torrent_of
from kademlia_bt.node import Node
from magnet.link import MagnetLink, PointerLink
from magnet.verdict import Counts, ResolveError, Verdict

__all__ = ["locate"]

_FIRST_PAUSE_S = 2.0
_MAX_PAUSE_S = 60.0
"""Between two looks at a key that nobody knows yet."""


async def locate(node: Node, link: PointerLink, patience_s: float) -> MagnetLink:
    """The link of the torrent that the key's owner names now. `patience_s`: how long to look; 0: for ever.

    Raises ResolveError where no node knows of any, or the key's owner put something else there.
    """
    pause_s = _FIRST_PAUSE_S
    item = None
    with trio.move_on_after(patience_s or math.inf):
        while (item := await node.get(link.public_key, salt=link.salt)) is None:
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)
    if item is not None:
        try:
            return link.at(torrent_of(item))
        except ItemError:
            raise _failed(node, "what the key points at is no torrent (BEP 46)") from None
    raise _failed(node, "no DHT node knows what the key points at: its owner may not have put it again for hours")


def _failed(node: Node, reason: str) -> ResolveError:
    stats = node.stats()
    counts = Counts(
        routers_tried=stats.routers_tried,
        routers_answered=stats.routers_answered,
        nodes_asked=stats.nodes_asked,
        nodes_answered=stats.nodes_answered,
    )
    if not stats.nodes_answered:
        return ResolveError(Verdict.DHT_UNREACHABLE, counts)
    told = f"{reason} ({stats.nodes_answered} of {stats.nodes_asked} nodes answered)"
    return ResolveError(Verdict.NO_PEERS, counts, None, told)
