"""Gives pytest the fixture `dht_world`: a world with a population, whose seed is told where a test fails.

It is there wherever this package is installed; `--dht-seed N` replays a failure, or looks for others.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from kademlia_bt.testing.world import World

__all__ = ["MakeWorld", "dht_world", "pytest_addoption", "pytest_runtest_makereport"]

_WORLDS = pytest.StashKey[list["World"]]()


class MakeWorld(Protocol):
    """What the fixture gives."""

    def __call__(
        self,
        nodes: int = 100,
        *,
        seed: int | None = None,
        loss: float = 0.0,
        delay_s: tuple[float, float] = (0.02, 0.15),
        jitter_s: float = 0.0,
        duplicate: float = 0.0,
    ) -> World:
        """A world with so many grown nodes; `seed` is that of `--dht-seed` where it is not given."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--dht-seed`."""
    group = parser.getgroup("kademlia_bt")
    group.addoption("--dht-seed", type=int, default=1, help="the seed of worlds made by dht_world (default: 1)")


@pytest.fixture
def dht_world(request: pytest.FixtureRequest) -> MakeWorld:
    """Makes worlds of DHT nodes: `world = dht_world(1_000, loss=0.1)` (see `kademlia_bt.testing.World`)."""
    from kademlia_bt.testing.world import World  # loaded by those who ask for it, not by every run of pytest

    worlds: list[World] = []
    request.node.stash[_WORLDS] = worlds

    def make(
        nodes: int = 100,
        *,
        seed: int | None = None,
        loss: float = 0.0,
        delay_s: tuple[float, float] = (0.02, 0.15),
        jitter_s: float = 0.0,
        duplicate: float = 0.0,
    ) -> World:
        at = request.config.getoption("--dht-seed") if seed is None else seed
        world = World(at, loss=loss, delay_s=delay_s, jitter_s=jitter_s, duplicate=duplicate)
        world.populate(nodes)
        worlds.append(world)
        return world

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the worlds' seeds to the report of a test that failed."""
    report = yield
    if call.when == "call" and report.failed:
        for world in item.stash.get(_WORLDS, []):
            said = f"seed {world.seed}; {len(world.nodes)} nodes, {world.datagrams} datagrams, {world.now:.3f} s"
            report.sections.append(("DHT world", said))
    return report
