"""What the commands of `magnet` do: input to session to reporter, and the exit code. No protocol here.

Every function runs to the end of its command and returns an exit code; input that cannot be used raises
ProtocolError or MisuseError, which the console shows as one line with exit 2. Commands that need no
session are in `magnet.files`, the queue of many links is in `magnet.batch`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from kademlia_bt.commands.console import ExitCode, run_async
from magnet.batch import Batch, exit_code
from magnet.files import input_told, show_info
from magnet.fleet import Fleet, Job
from magnet.inputs import is_url
from magnet.link import MagnetLink, PointerLink
from magnet.named import data_folder, key_of, located, read_all, read_one, usable_folder, with_usable_state
from magnet.nursery import open_plain_nursery
from magnet.render import make_reporter
from magnet.reporter import Reporter
from magnet.ticking import ticking
from magnet.verdict import MagnetError
from wire.compact import Endpoint
from wire.descriptors import raise_open_files
from wire.errors import MisuseError, WireError
from wire.metainfo import Torrent

if TYPE_CHECKING:
    from magnet.options import Settings
    from magnet.session import Session
    from magnet.torrent import TorrentHandle

_CHECKS_AT_ONCE = 2
"""Torrents whose files are hashed side by side; each uses all cores by itself."""

__all__ = ["Choice", "Course", "get", "in_session", "info", "resolve", "seed", "stream"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which files `magnet get` is to fetch, and in which order; shell patterns."""

    only: tuple[str, ...]
    first: tuple[str, ...]
    in_order: bool


def get(
    sources: Sequence[str],
    links_from: Path | None,
    out: Path,
    choice: Choice,
    seed: bool,
    jobs: int,
    settings: Settings,
) -> int:
    """`magnet get`."""
    with input_told(settings):
        found, broken = read_all(sources, links_from, settings, "nothing to get")
        usable_folder(out)
    if len(found) + len(broken) == 1 and found:
        return _get_one(*found[0], out, choice, seed, settings)

    def jobs_in(session: Session) -> list[Job]:
        unique = {key_of(item): (label, item) for label, item in found}
        add = partial(session.add, directory=out, only=choice.only, first=choice.first, in_order=choice.in_order)
        return [Job(label, partial(add, item)) for label, item in unique.values()]

    return _run_fleet(jobs_in, broken, settings, jobs=jobs, share=seed)


def _get_one(
    source: str,
    parsed: MagnetLink | PointerLink | Torrent,
    out: Path,
    choice: Choice,
    seed: bool,
    settings: Settings,
) -> int:

    async def work(session: Session, reporter: Reporter, run: Course) -> int:
        handle = run.handle = await session.add(
            parsed, directory=out, only=choice.only, first=choice.first, in_order=choice.in_order
        )
        reporter.started(handle.info_hash, handle.status().name)
        async with _shown(handle, reporter):
            torrent = await handle.metadata()
            _tell_metadata(handle, torrent, reporter, "url" if is_url(source) else None)
            await handle.finished()
        reporter.done(handle.status(), handle.path)
        run.finished = True
        if seed:
            await _seed_on(session, handle, reporter)
        return ExitCode.DONE

    return in_session(work, settings)


def seed(sources: Sequence[str], data: Path, super_seed: bool, settings: Settings) -> int:
    """`magnet seed`."""
    with input_told(settings):
        found, _ = read_all(sources, None, settings, "nothing to seed")
        data_folder(data)
    if len(found) == 1:
        return _seed_one(found[0][1], data, super_seed, settings)

    def jobs_in(session: Session) -> list[Job]:
        add = partial(session.add, directory=data, seed=True, super_seed=super_seed)
        return [Job(label, partial(add, item), seed=True) for label, item in found]

    return _run_fleet(jobs_in, [], settings, jobs=_CHECKS_AT_ONCE, share=True)


def _seed_one(parsed: MagnetLink | PointerLink | Torrent, data: Path, super_seed: bool, settings: Settings) -> int:

    async def work(session: Session, reporter: Reporter, run: Course) -> int:
        handle = run.handle = await session.add(parsed, directory=data, seed=True, super_seed=super_seed)
        reporter.started(handle.info_hash, handle.status().name)
        async with _shown(handle, reporter):
            torrent = await handle.metadata()
            if not isinstance(parsed, Torrent):
                _tell_metadata(handle, torrent, reporter, None)
            await handle.finished()
        status = handle.status()
        if status.done == 0 and status.size:
            raise MisuseError(f"nothing of {torrent.name!r} is in {data}: --data takes the folder in which it lies")
        run.finished = True
        await _seed_on(session, handle, reporter)
        return ExitCode.DONE

    return in_session(work, settings)


def stream(source: str, out: Path, globs: Sequence[str], at: Endpoint, settings: Settings) -> int:
    """`magnet stream`."""
    from magnet.streaming import choose_files
    from magnet.web import file_path, serve_files

    async def work(session: Session, reporter: Reporter, run: Course) -> int:
        handle = run.handle = await session.add(parsed, directory=out, choose=partial(choose_files, patterns=globs))
        reporter.started(handle.info_hash, handle.status().name)
        async with _shown(handle, reporter), open_plain_nursery() as nursery:
            torrent = await handle.metadata()
            _tell_metadata(handle, torrent, reporter, "url" if is_url(source) else None)
            streams = await handle.streams()
            server = await nursery.start(serve_files, streams, at)
            for file in streams.in_order:
                reporter.streaming(f"http://{server}{file_path(file)}", "/".join(file.path), file.size)
            run.finished = True  # it is there to be played; Ctrl-C ends it as one ends a server
            await handle.finished()
            reporter.note(f"all of it is there, in {handle.path}; it goes on being served and shared, Ctrl-C stops")
            await trio.sleep_forever()
        return ExitCode.DONE

    with input_told(settings):
        parsed = read_one(source, settings)
        usable_folder(out)
    return in_session(work, settings)


def resolve(sources: Sequence[str], links_from: Path | None, out: Path, jobs: int, settings: Settings) -> int:
    """`magnet resolve`."""
    with input_told(settings):
        named, broken = read_all(sources, links_from, settings, "nothing to resolve")
        found = [item for _, item in named]
        usable_folder(out)

    async def work(session: Session, reporter: Reporter, _: Course) -> int:
        items = await located(session, found, broken)
        unique = {key_of(item): item for item in items}
        return await Batch(session, reporter, out, jobs).run(unique.values(), broken)

    return in_session(work, settings)


def info(source: str, swarm: bool, settings: Settings) -> int:
    """`magnet info`; `swarm`: also how many share it."""

    async def work(session: Session, reporter: Reporter, run: Course) -> int:
        link = await session.locate(parsed) if isinstance(parsed, PointerLink) else parsed
        torrent = link if isinstance(link, Torrent) else None
        if isinstance(link, MagnetLink):
            handle = run.handle = await session.add(link, metadata_only=True)
            async with _shown(handle, reporter):
                torrent = await handle.metadata()
        assert torrent is not None
        counts = await session.census(torrent) if swarm else None
        reporter.close()
        show_info(torrent, link if isinstance(link, MagnetLink) else None, json=settings.json, counts=counts)
        return ExitCode.DONE

    with input_told(settings):
        parsed = read_one(source, settings)
    if swarm or not isinstance(parsed, Torrent):
        return in_session(work, settings)
    show_info(parsed, None, json=settings.json)
    return ExitCode.DONE


class Course:
    """What the end of a command needs to know of its middle."""

    handle: TorrentHandle | None = None
    fleet: Fleet | None = None
    finished: bool = False
    """What was asked for is done; Ctrl-C from here on merely ends the seeding."""


def in_session(work: Callable[[Session, Reporter, Course], Awaitable[int]], settings: Settings) -> int:
    """Runs `work` in a session with the reporter that the settings ask for."""
    from magnet.session import Session

    raise_open_files()
    reporter = make_reporter(json=settings.json, quiet=settings.quiet, verbose=settings.verbose)
    run = Course()
    with input_told(settings):
        config = with_usable_state(settings.config, reporter)

    async def main() -> int:
        async with Session(config) as session, open_plain_nursery() as nursery:
            reporter.detail(f"listening on {', '.join(map(str, session.endpoints))}")
            reporter.detail(f"state in {config.state_dir}")
            if settings.verbose:
                nursery.start_soon(_tell_mapping, session, reporter)
                nursery.start_soon(_tell_departures, session, reporter)
            if config.block_list is not None:
                reporter.detail(f"the block list names {len(config.block_list)} ranges of addresses")
                if config.block_list.warning is not None:
                    reporter.note(config.block_list.warning)
            try:
                code = await work(session, reporter, run)
                nursery.cancel_scope.cancel()
                return code
            except MagnetError as error:
                reporter.failed(error)
                nursery.cancel_scope.cancel()
                return exit_code(error)
            except trio.Cancelled:
                reporter.close()
                if run.fleet is not None and run.fleet.is_over:
                    run.finished = True
                if run.fleet is None:
                    reporter.interrupted(run.handle.status() if run.handle is not None else None)
                elif not run.finished:
                    reporter.interrupted_many(run.fleet.summary, [handle.status() for handle in run.fleet.handles])
                raise

    with reporter, input_told(settings):
        code = run_async(main)
    return ExitCode.DONE if run.finished and code == ExitCode.INTERRUPTED else code


async def _tell_departures(session: Session, reporter: Reporter) -> None:
    """With `-v`: which peers were dropped, and for what."""
    async for gone in session.departures:
        reporter.detail(f"peer {gone.endpoint} {'banned' if gone.banned else 'dropped'}: {gone.reason}")


async def _tell_mapping(session: Session, reporter: Reporter) -> None:
    if (line := await session.port_mapping()) is not None:
        reporter.detail(line)


def _run_fleet(
    jobs_in: Callable[[Session], Sequence[Job]],
    broken: Sequence[tuple[str, WireError]],
    settings: Settings,
    *,
    jobs: int,
    share: bool,
) -> int:
    async def work(session: Session, reporter: Reporter, run: Course) -> int:
        return await _fleet(session, reporter, run, jobs_in(session), broken, jobs_at_once=jobs, share=share)

    return in_session(work, settings)


async def _fleet(
    session: Session,
    reporter: Reporter,
    run: Course,
    jobs: Sequence[Job],
    broken: Sequence[tuple[str, WireError]],
    *,
    jobs_at_once: int,
    share: bool,
    retry: bool = False,
) -> int:
    run.fleet = fleet = Fleet(session, reporter, jobs=jobs_at_once, share=share, retry=retry)
    return await fleet.run(jobs, broken)


async def _seed_on(session: Session, handle: TorrentHandle, reporter: Reporter) -> None:
    reporter.seeding([str(endpoint) for endpoint in session.dialable], handle.link, handle.status())
    async with _shown(handle, reporter):
        await handle.gone()  # it goes by itself only where what is shared cannot be read any more, and says so


def _shown(handle: TorrentHandle, reporter: Reporter) -> AbstractAsyncContextManager[None]:
    return ticking(lambda: reporter.progress(handle.status()))


def _tell_metadata(handle: TorrentHandle, torrent: Torrent, reporter: Reporter, source: str | None) -> None:
    reporter.metadata(
        torrent, handle.status().metadata_s or 0.0, source or handle.metadata_via or "peer", handle.status().size
    )
