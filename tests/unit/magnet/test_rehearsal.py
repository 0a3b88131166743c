"""Two peers meet in memory, before anybody waits for a link."""

from __future__ import annotations

import random

import pytest
import trio

import magnet.rehearsal
from magnet.rehearsal import rehearse, rehearse_meeting
from tests.shell.kit import a_world, link_of, make_torrent
from wire.peer.power import _openssl

ONE, ONE_DATA = make_torrent("one.bin", {"one.bin": 30_001})


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each round was."""
    at: list[float] = []
    monkeypatch.setattr(magnet.rehearsal, "rehearse_meeting", lambda *_: at.append(trio.current_time()))
    return at


@pytest.mark.parametrize("encryption", ["prefer", "require", "off"])
def test_a_meeting_goes_all_the_way_to_the_metadata(encryption):
    info = rehearse_meeting(encryption, random.Random(1))
    assert info is not None
    assert info.name == "rehearsal"


@pytest.mark.parametrize(("encryption", "handshakes"), [("prefer", 1), ("off", 0)])
def test_it_shakes_hands_as_the_session_would(encryption, handshakes, monkeypatch):
    shaken = []
    real = magnet.rehearsal._encrypted
    monkeypatch.setattr(magnet.rehearsal, "_encrypted", lambda *all_of: shaken.append(all_of) or real(*all_of))
    rehearse_meeting(encryption, random.Random(1))
    assert len(shaken) == handshakes


@pytest.mark.parametrize(("encryption", "is_loaded"), [("prefer", True), ("require", True), ("off", False)])
def test_it_loads_what_takes_powers_where_the_session_encrypts(encryption, is_loaded):
    _openssl.cache_clear()
    rehearse_meeting(encryption, random.Random(1))
    assert bool(_openssl.cache_info().currsize) is is_loaded


async def test_it_waits_a_moment_then_takes_its_rounds_and_ends(autojump_clock, rounds):
    await rehearse("off", lambda: True)
    assert len(rounds) == 12
    assert set(rounds) == {0.25}


async def test_it_ends_with_the_round_in_which_something_is_asked(autojump_clock, rounds):
    await rehearse("off", lambda: len(rounds) < 3)
    assert len(rounds) == 3


async def test_an_idle_session_rehearses_once_it_has_joined(autojump_clock, rounds):
    async with a_world() as world:
        session = await world.session()
        assert session.node is not None
        await session.node.wait_joined()
        joined_at = trio.current_time()
        await trio.sleep(60)
        assert len(rounds) == 12
        assert rounds[0] == pytest.approx(joined_at + 0.25)


async def test_who_has_a_link_from_the_start_rehearses_nothing(autojump_clock, rounds):
    async with a_world() as world:
        await world.seeder(ONE, ONE_DATA)
        session = await world.session()
        handle = await session.add(link_of(ONE), metadata_only=True)
        await handle.metadata()
        await trio.sleep(60)
        assert not rounds
