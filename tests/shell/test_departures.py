"""A peer that breaks the protocol is dropped with the reason in the log, and the torrent goes on."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
import trio

from tests.interop.harness import magnet
from tests.shell.kit import a_world, garbage, link_of, make_torrent, metadata_peer
from wire.net import Stream
from wire.peer import messages as m
from wire.peer.handshake import HANDSHAKE_BYTES, Handshake

TORRENT, DATA = make_torrent("things.bin", {"things.bin": 300_000})
HASH = TORRENT.info.info_hash.swarm_ids[0]
HELLO = Handshake(HASH, b"-XX0000-\x1b[31mbad\n...", extended=True, fast=True, dht=False).encode()

BREACHES: dict[str, tuple[bytes, str]] = {
    "a frame without end": (b"\x7f\xff\xff\xff\x05", "a peer message of 2147483647 bytes"),
    "a have of the wrong length": (m.frame(m.HAVE, b"\0"), "with id 4 of 2 bytes"),
    "a bitfield of another torrent": (m.frame(m.BITFIELD, bytes(300)), "with id 5 of 301 bytes"),
    "a piece that is not there": (m.index_frame(m.HAVE, 9999), "piece 9999"),
    "a block that was not asked for": (m.piece_header(9999, 0, 5) + b"block", "piece 9999"),
    "an extended handshake that is none": (m.frame(m.EXTENDED, b"\0le"), "an extended handshake is a dictionary"),
    "a holepunch to no address": (
        m.frame(m.EXTENDED, b"\0d1:md12:ut_holepunchi9eee") + m.frame(m.EXTENDED, b"\4\0\7"),
        "a ut_holepunch message without an address",
    ),
}


@pytest.mark.parametrize("what", BREACHES)
async def test_a_breach_at_any_step_has_its_reason(what: str, autojump_clock: trio.testing.MockClock) -> None:
    said, reason = BREACHES[what]

    async def behave(stream: Stream) -> None:
        room = memoryview(bytearray(4096))
        got = b""
        while len(got) < HANDSHAKE_BYTES:
            count = await stream.receive_into(room)
            got += room[:count]
        await stream.send_all([HELLO + said])
        while await stream.receive_into(room):
            pass

    async with a_world(dht_nodes=0) as world:
        bad = await world.peer(behave)
        session = await world.session(dht=False, lsd=False, encryption="off")
        handle = await session.add(TORRENT)
        handle.runner.found([bad], "peer")
        with trio.fail_after(30):
            gone = await session.departures.receive()
        assert gone.endpoint == bad
        assert reason in gone.reason
        good = await world.seeder(TORRENT, DATA)
        handle.runner.found([good], "peer")
        with trio.fail_after(60):
            await handle.finished()


async def test_no_handshake_has_its_reason_too_dialled_or_accepted(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world(dht_nodes=0) as world:
        bad = await world.peer(garbage)
        session = await world.session(dht=False, lsd=False, encryption="off")
        handle = await session.add(link_of(TORRENT, bad))
        with trio.fail_after(60):
            gone = await session.departures.receive()
        assert gone.endpoint == bad
        assert "not a BitTorrent handshake" in gone.reason
        caller = world.host()
        to = session.endpoints[0]._replace(host=world.hosts[session].addresses[0])
        stream = await caller.connect(to)
        await stream.send_all([b"GET / HTTP/1.1\r\n\r\n" * 10])
        with trio.fail_after(60):
            while (gone := await session.departures.receive()).endpoint.host != caller.addresses[0]:
                pass
        assert "not a BitTorrent handshake" in gone.reason
        assert handle.status().verdict is None


async def test_nobody_needs_to_read_them(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world(dht_nodes=0) as world:
        session = await world.session(dht=False, lsd=False, patience_s=5000.0)
        peers = [await world.peer(metadata_peer(TORRENT, size=-5)) for _ in range(3)]
        await session.add(link_of(TORRENT, *peers))
        await trio.sleep(4000)
        assert session.departures.statistics().current_buffer_used <= 256


def test_the_command_shows_them_with_v(tmp_path: Path) -> None:
    """And nothing of what the stranger wrote reaches the terminal."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                with one:
                    one.recv(HANDSHAKE_BYTES)
                    one.sendall(HELLO + BREACHES["a frame without end"][0])
                    while one.recv(4096):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        torrent = tmp_path / "things.torrent"
        torrent.write_bytes(TORRENT.to_bytes())
        options = ("--no-dht", "--listen", "127.0.0.1:0", "--encryption", "off", "--transport", "tcp", "--timeout", "2")
        with magnet(
            "get", torrent, "-v", "-o", tmp_path / "got", "--peer", f"127.0.0.1:{port}", *options, state=tmp_path / "s"
        ) as get:
            get.finish(3)
            (line,) = [line for line in get.err if line.startswith("peer ")][:1]
            assert line == f"peer 127.0.0.1:{port} dropped: a peer message of 2147483647 bytes"
            assert "\x1b" not in "".join(get.err)
