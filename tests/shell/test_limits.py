"""Rate limits on virtual time: of the session, of one torrent, of both, changed meanwhile; and what no limit holds."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.shell.kit import a_world, link_of, make_torrent
from tests.shell.test_swarm_run import PIECE, Node, internet, make, running
from wire.errors import MisuseError
from wire.limits import TokenBucket
from wire.storage.store import MemoryStore

SIZE = 32 * PIECE
WINDOW_S = 60.0
"""At 20 kB/s a block takes 0.8 s, and those at both edges may count or not: in 15 s that is more than a tenth."""


def bucket(bytes_s: float) -> TokenBucket | None:
    return TokenBucket(bytes_s, bytes_s / 4, trio.current_time()) if bytes_s else None


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize(
    ("session", "torrent", "expected"),
    [(1e5, 0, 1e5), (0, 1e5, 1e5), (2e5, 1e5, 1e5), (1e5, 2e5, 1e5), (0, 2e4, 2e4)],
)
async def test_the_lower_limit_holds(
    autojump_clock: MockClock, direction: str, session: float, torrent: int, expected: float
) -> None:
    info, data = make(SIZE)
    net = internet()
    shared = bucket(session)
    seed = Node(net.host("80.0.0.1"), info, up=shared if direction == "up" else None)
    leecher = Node(net.host("80.0.0.2"), info, down=shared if direction == "down" else None)
    limited = (seed if direction == "up" else leecher).runner
    limited.set_limits(**{f"{direction}_bytes_s": int(torrent)})
    async with running(seed, leecher):
        await seed.begin(MemoryStore(info, data))
        await leecher.begin(MemoryStore(info))
        leecher.runner.found([seed.endpoint], "dht")
        began = trio.current_time()
        await leecher.runner.finished()
        assert SIZE / (trio.current_time() - began) == pytest.approx(expected, rel=0.1)


async def test_what_one_torrent_leaves_of_the_sessions_limit_is_for_the_other(autojump_clock: MockClock) -> None:
    info, data = make(4 * SIZE)
    net = internet()
    shared = bucket(1e5)
    seeds = [Node(net.host(f"80.0.0.{n}"), info, up=shared, pex=False) for n in (1, 2)]
    leechers = [Node(net.host(f"80.0.1.{n}"), info, pex=False) for n in (1, 2)]
    seeds[0].runner.set_limits(up_bytes_s=20_000)
    async with running(*seeds, *leechers):
        for seed, leecher in zip(seeds, leechers, strict=True):
            await seed.begin(MemoryStore(info, data))
            await leecher.begin(MemoryStore(info))
            leecher.runner.found([seed.endpoint], "dht")
        await trio.sleep(5.0)
        before = [seed.runner.stats().uploaded_bytes for seed in seeds]
        await trio.sleep(WINDOW_S)
        rates = [(seed.runner.stats().uploaded_bytes - at) / WINDOW_S for seed, at in zip(seeds, before, strict=True)]
        assert rates == [pytest.approx(20e3, rel=0.1), pytest.approx(80e3, rel=0.1)]


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_a_limit_that_is_lifted_holds_nobody_any_more(autojump_clock: MockClock, direction: str) -> None:
    info, data = make(SIZE)
    net = internet()
    seed, leecher = Node(net.host("80.0.0.1"), info), Node(net.host("80.0.0.2"), info)
    limited = (seed if direction == "up" else leecher).runner
    async with running(seed, leecher):
        await seed.begin(MemoryStore(info, data))
        await leecher.begin(MemoryStore(info))
        limited.set_limits(**{f"{direction}_bytes_s": 100})
        leecher.runner.found([seed.endpoint], "dht")
        await trio.sleep(30.0)
        assert leecher.runner.stats().downloaded_bytes < 3 * 16384  # in debt for minutes by now
        limited.set_limits(**{f"{direction}_bytes_s": 0})
        with trio.fail_after(5.0):
            await leecher.runner.finished()


async def test_the_same_limit_again_and_again_is_the_same_limit(autojump_clock: MockClock) -> None:
    info, data = make(SIZE)
    net = internet()
    seed, leecher = Node(net.host("80.0.0.1"), info), Node(net.host("80.0.0.2"), info)
    async with running(seed, leecher):
        await seed.begin(MemoryStore(info, data))
        await leecher.begin(MemoryStore(info))
        leecher.runner.found([seed.endpoint], "dht")
        began = trio.current_time()
        while trio.current_time() - began < 10.0:
            seed.runner.set_limits(up_bytes_s=50_000)
            await trio.sleep(0.1)
        assert seed.runner.limits == (0, 50_000)
        assert seed.runner.stats().uploaded_bytes == pytest.approx(500e3, rel=0.1)


async def test_haves_do_not_wait_for_the_upload_limit(autojump_clock: MockClock) -> None:
    """A takes fast and gives slowly: B, who waits for its blocks, hears of each piece at once all the same."""
    info, data = make(SIZE)
    net = internet()
    seed = Node(net.host("80.0.0.1"), info, pex=False)
    between = Node(net.host("80.0.0.2"), info, pex=False)
    last = Node(net.host("80.0.0.3"), info, pex=False)
    between.runner.set_limits(down_bytes_s=200_000, up_bytes_s=500)
    async with running(seed, between, last):
        await seed.begin(MemoryStore(info, data))
        await between.begin(MemoryStore(info))
        await last.begin(MemoryStore(info))
        between.runner.found([seed.endpoint], "dht")
        last.runner.found([between.endpoint], "dht")
        await between.runner.finished()
        assert last.runner.stats().downloaded_bytes < SIZE / 4
        await trio.sleep(1.0)
        assert last.runner.stats().seeds == 1, "B is known to have all"


async def test_a_torrent_of_a_session_is_limited_besides_it(autojump_clock: MockClock) -> None:
    torrent, data = make_torrent("limited", {"limited": 1_000_000})
    async with a_world() as world:
        seeder = await world.seeder(torrent, data, dht=False)
        session = await world.session(dht=False, down_limit=400_000)
        handle = await session.add(link_of(torrent, seeder))
        handle.set_limits(down_limit=50_000)
        handle.set_limits(up_limit=10_000)
        assert handle.limits == (50_000, 10_000)
        await handle.metadata()
        began = trio.current_time()
        await handle.finished()
        assert len(data) / (trio.current_time() - began) == pytest.approx(50e3, rel=0.1)
        with pytest.raises(MisuseError, match="up_limit is -1"):
            handle.set_limits(up_limit=-1)
