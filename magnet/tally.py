"""The counts of a torrent, drawn together from its swarm, its sources and the DHT node, for status and verdict."""

from __future__ import annotations

from magnet.network import refused_by
from magnet.sources import Sources
from magnet.task import Shared
from magnet.verdict import Counts
from wire.http_url import shown
from wire.swarm.values import SwarmStats

__all__ = ["counts_of"]


def counts_of(stats: SwarmStats, sources: Sources, shared: Shared) -> Counts:
    """What was tried so far and what came of it."""
    dht, trackers = sources.dht_counts, sources.tracker_counts
    node = None if shared.node is None else shared.node.stats()
    # Before the first node of a search is known, joining is what there is to tell of.
    asked, answered = dht.asked, dht.answered
    if not asked and node is not None:
        asked, answered = node.nodes_asked, node.nodes_answered
    return Counts(
        dht=sources.asks_dht or dht.asked > 0,
        routers_tried=0 if node is None else node.routers_tried,
        routers_answered=0 if node is None else node.routers_answered,
        nodes_asked=asked,
        nodes_answered=answered,
        trackers_asked=trackers.asked,
        trackers_answered=trackers.answered,
        found=dict(stats.found),
        dialled=stats.dialled,
        connected=stats.connected,
        refused=stats.refused,
        timed_out=stats.timed_out,
        handshake_failed=stats.handshake_failed,
        without_metadata=stats.without_metadata,
        metadata_rejected=stats.metadata_rejected,
        metadata_hash_failures=stats.metadata_hash_failures,
        piece_hash_failures=stats.piece_hash_failures,
        banned=stats.banned,
        blocked=stats.blocked + refused_by(shared.network),
        web_seeds=len(stats.web_seeds),
        web_seeds_failed=sum(seed.reason is not None for seed in stats.web_seeds),
        web_seed_reason=next((f"{shown(seed.url)}: {seed.reason}" for seed in stats.web_seeds if seed.reason), None),
    )
