"""Names of first nodes: resolved side by side, tried again at a bounded pace, left alone while there is company."""

from __future__ import annotations

import itertools
import random

import pytest
import trio
import trio.testing

from kademlia_bt.bootstrap import ROUTERS, keep_resolving, literals
from tests.sim.net import Internet
from wire.compact import Endpoint
from wire.errors import MisuseError, NetworkError

Clock = trio.testing.MockClock


class Resolver(Internet):
    """Counts what is asked when; a name in `silent` is never answered."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))
        self.asked: list[tuple[float, str]] = []
        self.silent: set[str] = set()
        self.machine = self.host("80.0.0.1")
        answer = self.machine.resolve

        async def resolve(host: str, port: int) -> list[Endpoint]:
            self.asked.append((trio.current_time(), host))
            if host in self.silent:
                await trio.sleep_forever()
            return await answer(host, port)

        self.machine.resolve = resolve  # type: ignore[method-assign]


def ignore(*_: object) -> None:
    """A name's fate is not of interest."""


def test_addresses_need_no_resolver() -> None:
    hosts = [("1.2.3.4", 5), ("router.example", 6), ("2a01::1", 7)]
    assert literals(hosts) == ([Endpoint("1.2.3.4", 5), Endpoint("2a01::1", 7)], [("router.example", 6)])
    assert literals(ROUTERS) == ([], list(ROUTERS))
    for port in (0, -1, 65536):
        with pytest.raises(MisuseError, match="port"):
            literals([("router.example", port)])


async def test_a_silent_name_does_not_hold_up_the_others(autojump_clock: Clock) -> None:
    net = Resolver()
    net.names = {"good.example": ["80.1.0.1", "2a01::1"]}
    net.silent = {"silent.example"}
    found: list[Endpoint] = []
    failed: list[tuple[str, int, str]] = []
    with trio.move_on_after(16):
        await keep_resolving(
            [("silent.example", 1), ("unknown.example", 2), ("good.example", 3)],
            net.machine,
            found=lambda _host, _port, endpoints: found.extend(endpoints),
            failed=lambda host, port, reason: failed.append((host, port, reason)),
            alone=lambda: True,
        )
    assert found == [Endpoint("80.1.0.1", 3), Endpoint("2a01::1", 3)]
    assert [(host, port) for host, port, _ in failed] == [("unknown.example", 2), ("silent.example", 1)]
    assert "unknown.example" in failed[0][2]
    assert "did not answer in 15 s" in failed[1][2]


async def test_it_tries_again_ever_slower_while_alone(autojump_clock: Clock) -> None:
    net = Resolver()
    with trio.move_on_after(3600):
        await keep_resolving([("unknown.example", 1)], net.machine, found=ignore, failed=ignore, alone=lambda: True)
    times = [when for when, _ in net.asked]
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert pauses[:4] == pytest.approx([2, 4, 8, 15], abs=0.1)
    assert min(pauses[5:]) >= 60
    assert len(times) > 50


async def test_company_stops_it_and_loneliness_starts_it_anew(autojump_clock: Clock) -> None:
    net = Resolver()
    alone = False
    async with trio.open_nursery() as nursery:

        async def resolve() -> None:
            await keep_resolving(
                [("unknown.example", 1)], net.machine, found=ignore, failed=ignore, alone=lambda: alone
            )

        nursery.start_soon(resolve)
        await trio.sleep(1000)
        assert len(net.asked) == 1
        alone = True
        await trio.sleep(60)
        times = [when for when, _ in net.asked]
        assert times[1] <= 1031
        assert times[2] - times[1] == pytest.approx(2, abs=0.1)  # and soon again
        nursery.cancel_scope.cancel()


async def test_no_network_at_all_is_no_error(autojump_clock: Clock) -> None:
    net = Resolver()
    net.machine.unplug()
    with trio.move_on_after(100) as scope:
        await keep_resolving(ROUTERS, net.machine, found=ignore, failed=ignore, alone=lambda: True)
    assert scope.cancelled_caught
    with pytest.raises(NetworkError):
        await net.machine.resolve("router.example", 1)
