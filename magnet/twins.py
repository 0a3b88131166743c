"""Torrents of one session that want the same file: the later one waits, and then takes it from the disk (BEP 52).

By its root a file of version 2 is known to be the same before a byte of it is there. Who comes later waits as long as
the earlier one gets on; then `magnet.shelf` finds what that one brought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import trio

__all__ = ["Claim", "Twins"]

STALLED_S = 5.0
"""Who brings nothing for so long is not waited for."""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """What one torrent fetches."""

    roots: frozenset[bytes]
    done_bytes: Callable[[], int]
    """How far it is."""
    over: trio.Event = field(default_factory=trio.Event)
    """It has all of it, or ended."""


class Twins:
    """Who fetches which file, by its root."""

    def __init__(self) -> None:
        self._claims: dict[bytes, Claim] = {}

    def claim(self, roots: Iterable[bytes], done_bytes: Callable[[], int]) -> tuple[Claim, Sequence[Claim]]:
        """A torrent wants these files; those who fetch some of them already. All of it until `release`."""
        wanted = frozenset(roots)
        earlier = dict.fromkeys(self._claims[root] for root in wanted if root in self._claims)
        mine = Claim(wanted, done_bytes)
        self._claims.update((root, mine) for root in wanted if root not in self._claims)
        return mine, list(earlier)

    def release(self, claim: Claim) -> None:
        """It has them, or never will."""
        claim.over.set()
        for root in claim.roots:
            if self._claims.get(root) is claim:
                del self._claims[root]

    async def wait_for(self, earlier: Iterable[Claim], waits: Callable[[], None]) -> None:
        """Waits for each as long as it gets on; `waits` is called now and then."""
        for claim in earlier:
            seen = -1
            while not claim.over.is_set() and seen != (seen := claim.done_bytes()):
                waits()
                with trio.move_on_after(STALLED_S):
                    await claim.over.wait()
