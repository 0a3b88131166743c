"""Nodes that come and go, for as long as a world runs."""

from __future__ import annotations

from collections.abc import Sequence

from kademlia_bt.testing.simnode import SimNode
from kademlia_bt.testing.world import World

__all__ = ["Churn"]

_FIRST_NODES = 2


class Churn:
    """Has a share of the living nodes replaced each minute: one is killed, a new one joins by two that live.

    The times between are exponentially distributed, so that some come at once.
    """

    def __init__(self, world: World, share_a_minute: float, *, keep: Sequence[SimNode] = ()) -> None:
        """Begins now. `share_a_minute` is 0..1 of those that live; those to `keep` stay."""
        self.replaced = 0
        self._world = world
        self._share = share_a_minute
        self._keep = {id(node) for node in keep}
        self._stopped = False
        self._living = [node for node in world.living if id(node) not in self._keep]
        self._next()

    def stop(self) -> None:
        """From now on all stay."""
        self._stopped = True

    def _next(self) -> None:
        pause_s = self._world.rng.expovariate(self._share * len(self._living) / 60)
        self._world.call_at(self._world.now + pause_s, self._replace)

    def _replace(self) -> None:
        if self._stopped:
            return
        world, rng = self._world, self._world.rng
        index = rng.randrange(len(self._living))
        gone = self._living[index]
        world.kill(gone)
        families = [at.family for at in gone.endpoints]
        able = [node for node in world.nodes if node.alive and not node.nat]
        first = [at for node in rng.sample(able, min(_FIRST_NODES, len(able))) for at in node.endpoints]
        self._living[index] = world.add(*families, bootstrap=first, nat=gone.nat)
        self.replaced += 1
        self._next()
