"""`magnet demo`: the whole road of one link on this machine, stage by stage, without internet.

A real DHT of our nodes on loopback, a seeder that announces there and a downloader that gets nothing but
the info-hash. Nothing is mocked, nothing is kept: files lie in a temporary folder, sessions keep no state.
"""

from __future__ import annotations

import filecmp
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from kademlia_bt.commands.console import ExitCode, complain, emit, run_async
from kademlia_bt.node import Node
from magnet.batch import exit_code
from magnet.config import Config
from magnet.link import MagnetLink
from magnet.nursery import open_plain_nursery
from magnet.render import make_reporter
from magnet.reporter import Reporter
from magnet.session import Session
from magnet.status import TorrentStatus
from magnet.texts import format_size
from magnet.ticking import ticking
from magnet.verdict import MagnetError
from wire.compact import Endpoint
from wire.metainfo import Torrent
from wire.metainfo.create import create

if TYPE_CHECKING:
    from magnet.torrent import TorrentHandle

__all__ = ["run"]

_LOOPBACK = Endpoint("127.0.0.1", 0)
_LIMIT_S = 120.0
"""Far more than it takes anywhere; a demo must not hang."""
_PATIENCE_S = 30.0
_SILENT_S = 2.0
"""A search that is over by then needs no line that it goes on."""
_WRITE_BYTES = 1 << 20
_SEED = 20080305
"""Of the generated files: every run shares the same bytes, so the info-hash is the same too."""


def run(nodes: int, size: int, *, json: bool) -> int:
    """Runs the demo and gives the exit code. `size`: bytes to share."""
    reporter = make_reporter(json=False, quiet=json, verbose=False)

    async def main() -> int:
        stages = _Stages(reporter, json=json)
        with tempfile.TemporaryDirectory(prefix="magnet-demo-", ignore_cleanup_errors=True) as folder:
            try:
                with trio.fail_after(_LIMIT_S):
                    return await _play(stages, Path(folder), nodes, size)
            except trio.TooSlowError:
                reporter.close()
                complain("magnet", f"the demo did not end within {_LIMIT_S:.0f} s: {stages.last}")
                return ExitCode.NOT_FOUND
            except MagnetError as error:
                reporter.failed(error)
                return exit_code(error)

    with reporter:
        return run_async(main)


class _Stages:
    """Prints each stage with the seconds since the start."""

    def __init__(self, reporter: Reporter, *, json: bool) -> None:
        self.reporter = reporter
        self.last = "nothing happened"
        self._json = json
        self._began = trio.current_time()

    def tell(self, stage: str, text: str, **facts: object) -> None:
        """One stage is over: a line for people, or an event."""
        self.last = text
        spent_s = trio.current_time() - self._began
        if self._json:
            emit({"event": "stage", "stage": stage, "seconds": round(spent_s, 3), **facts})
        else:
            self.reporter.result(f"{spent_s:7.2f} s  {text}")


async def _play(stages: _Stages, folder: Path, count: int, size: int) -> int:
    source, target = folder / "seeder", folder / "downloader"
    async with _dht(count) as nodes:
        contacts = [node.stats().nodes for node in nodes]
        stages.tell(
            "joined",
            f"{count} DHT nodes joined on {_LOOPBACK.host}; each knows {min(contacts)} to {max(contacts)} others",
            nodes=count,
        )
        torrent = await trio.to_thread.run_sync(_generate, source, size)
        files = [entry for entry in torrent.info.files if not entry.pad]
        stages.tell(
            "created",
            f"{len(files)} files made, {format_size(torrent.size)} in {torrent.info.piece_count} pieces",
            files=len(files),
            size=torrent.size,
        )
        async with Session(_config(nodes[1])) as seeding, Session(_config(nodes[-1])) as leeching:
            shared = await seeding.add(torrent, directory=source, seed=True)
            await shared.finished()
            stages.tell("seeding", f"the seeder has checked its files and listens on {seeding.endpoints[0]}")
            link = MagnetLink(info_hash=torrent.info.info_hash)
            stages.tell("link", f"the downloader is told only {link}", magnet=str(link))
            handle = await leeching.add(link, directory=target)
            await _download(stages, handle)
        wrong = await trio.to_thread.run_sync(_first_difference, source, target, torrent)
        if wrong is not None:
            complain("magnet", f"{wrong} differs from what was shared")
            return ExitCode.CHECK_FAILED
        stages.tell("compared", f"every byte of {len(files)} files is equal", bytes=torrent.size)
    stages.tell("done", "all sessions are closed, the files are removed")
    return ExitCode.DONE


@asynccontextmanager
async def _dht(count: int) -> AsyncIterator[Sequence[Node]]:
    """So many nodes that have joined one another, all by the first."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Node(listen=[_LOOPBACK], bootstrap=[]))
        nodes = [first]
        host, port = first.endpoints[0]
        for _ in range(count - 1):
            node = Node(listen=[_LOOPBACK], bootstrap=[(host, port)])
            nodes.append(await stack.enter_async_context(node))
        async with open_plain_nursery() as nursery:
            joining = [trio.Event() for _ in nodes[1:]]
            for node, joined in zip(nodes[1:], joining, strict=True):
                nursery.start_soon(_join, node, joined)
            for joined in joining:
                await joined.wait()
        yield nodes


async def _join(node: Node, joined: trio.Event) -> None:
    await node.wait_joined()
    joined.set()


def _config(entry: Node) -> Config:
    host, port = entry.endpoints[0]
    return Config(listen=(_LOOPBACK,), bootstrap=((host, port),), state_dir=None, patience_s=_PATIENCE_S)


async def _download(stages: _Stages, handle: TorrentHandle) -> None:
    """Waits for the files, telling each stage as it comes."""
    told: set[str] = set()

    def look() -> None:
        status = handle.status()
        _tell_search(stages, status, told)
        if status.size is not None or status.elapsed_s > _SILENT_S:
            stages.reporter.progress(status)

    async with ticking(look):
        torrent = await handle.metadata()
        status = handle.status()
        _tell_search(stages, status, told)
        stages.tell(
            "metadata",
            f"metadata verified after {(status.metadata_s or 0) * 1000:.0f} ms: {torrent.name!r}",
            metadata_seconds=status.metadata_s,
        )
        await handle.finished()
    status = handle.status()
    spent_s = max(status.elapsed_s - (status.metadata_s or 0), 1e-3)
    stages.tell(
        "downloaded",
        f"{status.pieces_done} of {status.pieces_total} pieces verified and on disk, "
        f"{format_size((status.size or 0) / spent_s)}/s",
        pieces=status.pieces_done,
        bytes=status.done,
    )


def _tell_search(stages: _Stages, status: TorrentStatus, told: set[str]) -> None:
    counts = status.counts
    if counts.found_total and "peers" not in told:
        told.add("peers")
        stages.tell(
            "peers",
            f"the DHT named {counts.found_total} peer{'s' * (counts.found_total > 1)}: "
            f"{counts.nodes_answered} of {counts.nodes_asked} nodes asked have answered",
            nodes_asked=counts.nodes_asked,
            nodes_answered=counts.nodes_answered,
            found=counts.found_total,
        )


def _generate(folder: Path, size: int) -> Torrent:
    """Files of all sorts: in folders, an empty one, ends within pieces."""
    rng = random.Random(_SEED)
    root = folder / "demo"
    parts = {"film.bin": 0.6, "music/one.bin": 0.25, "music/two.bin": 0.1, "notes/text.bin": 0.05}
    left = size
    for number, (name, part) in enumerate(parts.items(), 1):
        length = left if number == len(parts) else int(size * part)
        left -= length
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for at in range(0, length, _WRITE_BYTES):
                file.write(rng.randbytes(min(_WRITE_BYTES, length - at)))
    (root / "empty").touch()
    return create(root)


def _first_difference(source: Path, target: Path, torrent: Torrent) -> str | None:
    for entry in torrent.info.files:
        one, other = source.joinpath(*entry.path), target.joinpath(*entry.path)
        if not entry.pad and not (other.is_file() and filecmp.cmp(one, other, shallow=False)):
            return entry.shown_path
    return None
