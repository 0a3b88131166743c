"""Both sides dial each other at once (BEP 3): with libtorrent, no two peers end without a connection."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest
import trio

from magnet import Config, Session
from tests.interop.harness import free_port, need_libtorrent
from wire.compact import Endpoint
from wire.metainfo import Torrent, create
from wire.swarm import candidates

pytestmark = pytest.mark.interop

CROSSINGS = 50
ITS_DIALS_S = 1.0
"""libtorrent dials within so long."""
PATIENCE_S = 60.0
"""All have their bytes by then, on a slow machine too."""
LATER_S = 600.0
"""Who is left without a connection waits so long for the next dial, which comes too late."""


@pytest.mark.parametrize("rule", ["ports, ours the lower", "ports, ours the higher", "ids"])
async def test_fifty_dials_that_cross(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """libtorrent closes one of two connections: by the ports, or, where it allows several to one host, by the ids."""
    need_libtorrent()
    import libtorrent as lt

    for pause in ("RECONNECT_S", "RECONNECT_NAMED_S", "RECONNECT_USEFUL_S"):
        monkeypatch.setattr(candidates, pause, LATER_S)
    low, high = sorted((free_port(), free_port()))
    here, there = (high, low) if "higher" in rule else (low, high)
    torrents: list[Torrent] = []
    for number in range(CROSSINGS):
        path = tmp_path / "ours" / f"{number}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([number]) * 20_000)
        torrents.append(create(path, piece_length=16384))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = lt.session(
            {
                "listen_interfaces": f"127.0.0.1:{there}",
                "enable_dht": False,
                "allow_multiple_connections_per_ip": rule == "ids",
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "enable_outgoing_utp": False,
                "enable_incoming_utp": False,
                "connection_speed": 1000,
                "min_reconnect_time": int(LATER_S),
                "torrent_connect_boost": 50,
            }
        )
        handles = []
        for torrent in torrents:
            added = lt.add_torrent_params()
            added.ti = lt.torrent_info(lt.bdecode(torrent.to_bytes()))
            added.save_path = str(tmp_path / "theirs")
            added.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
            handles.append(theirs.add_torrent(added))
    config = Config(
        listen=(Endpoint("127.0.0.1", here),),
        dht=False,
        lsd=False,
        use_trackers=False,
        transport="tcp",
        state_dir=None,
    )
    gone: dict[str, int] = {}
    async with Session(config) as session, trio.open_nursery() as nursery:
        nursery.start_soon(count, session, gone)
        ours = [await session.add(torrent, directory=tmp_path / "ours", seed=True) for torrent in torrents]
        for handle in ours:
            await handle.finished()
        for handle in handles:
            handle.connect_peer(("127.0.0.1", here))
        time.sleep(ITS_DIALS_S)
        for mine in ours:
            mine._work.runner.found([Endpoint("127.0.0.1", there)], "peer")
        with trio.move_on_after(PATIENCE_S):
            while not all(handle.status().is_seeding for handle in handles):
                await trio.sleep(0.05)
        done = sum(handle.status().is_seeding for handle in handles)
        nursery.cancel_scope.cancel()
    assert done == CROSSINGS, gone


async def count(session: Session, gone: dict[str, int]) -> None:
    async for departure in session.departures:
        gone[departure.reason] = gone.get(departure.reason, 0) + 1
