"""What `magnet run` does: keeps the list of a session and works on all of it, or asks the process that keeps it.

What stands on the list is `magnet.roster`'s business, what becomes of each torrent that of `magnet.fleet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from kademlia_bt.commands.console import ExitCode, emit, one_line, run_async
from magnet.commands import Course, in_session
from magnet.config import DEFAULT_PATIENCE_S
from magnet.files import input_told
from magnet.fleet import Fleet, Job
from magnet.inbox import Inbox, Kind, Request
from magnet.link import MagnetLink, PointerLink
from magnet.named import read_all, usable_folder
from magnet.options import Settings
from magnet.render import make_reporter
from magnet.reporter import Reporter
from magnet.roster import Listed, Roster, is_kept, listed_as, read_roster
from magnet.session import Session
from magnet.vault import Vault
from wire.errors import MisuseError, WireError
from wire.metainfo import Torrent

__all__ = ["run", "show_list"]

_NO_FOLDER = "a session that restores itself needs a state folder: --state DIR names one"

Found = Sequence[tuple[str, MagnetLink | PointerLink | Torrent]]


def run(sources: Sequence[str], out: Path, only: Sequence[str], remove: Sequence[str], settings: Settings) -> int:
    """`magnet run`."""
    # Who waits for ever for a torrent need not be told after five minutes that nobody has it.
    patience_s = 0.0 if settings.config.patience_s == DEFAULT_PATIENCE_S else settings.config.patience_s
    settings = replace(settings, config=replace(settings.config, patience_s=patience_s))
    with input_told(settings):
        found = read_all(sources, None, settings, "")[0] if sources else []
        usable_folder(out)
    folder = settings.config.state_dir
    if folder is not None and (found or remove) and is_kept(folder):
        with input_told(settings):
            return run_async(partial(_hand_over, folder, found, out, only, remove, settings))

    async def work(session: Session, reporter: Reporter, course: Course) -> int:
        if folder is None or session.state_dir is None:
            raise MisuseError(_NO_FOLDER)
        async with Roster(session, folder) as roster:
            for text in remove:
                await roster.forget(_meant(roster.listed, text))
            for label, item in found:
                link = await session.locate(item) if isinstance(item, PointerLink) else item
                if await roster.enlist(link, directory=out, only=only) is None:
                    reporter.note(f"{label} is on the list already")
            if not roster.listed:
                raise MisuseError("the list is empty: give a SOURCE, which is then kept on it")
            course.finished = True  # it stays until it is stopped, and goes on from there
            course.fleet = fleet = Fleet(session, reporter, jobs=None, share=True, retry=True)
            jobs = [_job(roster, entry) for entry in roster.listed]
            return await fleet.run(jobs, meanwhile=partial(_follow_requests, Inbox(folder), roster, reporter, fleet))

    return in_session(work, settings)


def show_list(settings: Settings) -> int:
    """`magnet run --list`."""
    with input_told(settings):
        folder = settings.config.state_dir
        if folder is not None and folder.exists() and not folder.is_dir():
            raise MisuseError(f"{folder} is a file: --state takes a folder")
        for entry in read_roster(folder) if folder is not None else []:
            if settings.json:
                emit(_listed_event(entry))
            else:
                Reporter().result(f"{one_line(entry.link)}\t{one_line(entry.directory)}")
    return ExitCode.DONE


def _listed_event(entry: Listed) -> dict[str, object]:
    return {"event": "listed", "magnet": entry.link, "path": entry.directory, "only": list(entry.only)}


def _job(roster: Roster, entry: Listed) -> Job:
    return Job(entry.label, partial(roster.start, entry), entry.seed)


def _meant(listed: Sequence[Listed], text: str) -> Listed:
    """The entry of a list that a person means by a link or the beginning of an info-hash."""
    wanted = text.strip().lower()
    hits = [entry for entry in listed if entry.link == text or (len(wanted) >= 4 and entry.is_of(wanted))]
    if len(hits) != 1:
        several = "several torrents on the list match" if hits else "no torrent on the list matches"
        raise MisuseError(f"{several} {text!r}: give the whole info-hash; --list shows them")
    return hits[0]


# between processes


async def _follow_requests(inbox: Inbox, roster: Roster, reporter: Reporter, fleet: Fleet) -> None:
    """Does what other processes ask, as long as it is let."""
    while True:
        for request in await inbox.next():
            for entry in request.entries:
                try:
                    await _follow(request, entry, roster, fleet)
                except WireError as error:
                    reporter.error(f"{entry.label}: {error}")
            request.followed()


async def _follow(request: Request, entry: Listed, roster: Roster, fleet: Fleet) -> None:
    if request.kind == "add":
        taken = await roster.enlist(MagnetLink.parse(entry.link), directory=entry.directory, only=entry.only)
        if taken is not None:
            fleet.begin(_job(roster, taken))
    elif entry in roster.listed:
        await roster.forget(entry)


async def _hand_over(
    folder: Path, found: Found, out: Path, only: Sequence[str], remove: Sequence[str], settings: Settings
) -> int:
    """Asks the process that keeps the list of that folder to take torrents off it, and others on."""
    reporter = make_reporter(json=settings.json, quiet=settings.quiet, verbose=settings.verbose)
    listed = read_roster(folder)
    leaving = [_meant(listed, text) for text in remove]
    staying = [entry for entry in listed if entry not in leaving]
    coming: list[Listed] = []
    for label, item in found:
        if isinstance(item, PointerLink):
            raise MisuseError(
                f"{label} leads to a torrent that changes (BEP 46): the process that keeps the list takes none"
            )
        link = item if isinstance(item, MagnetLink) else MagnetLink.of(item)
        link = replace(
            link,
            peers=tuple(dict.fromkeys((*link.peers, *settings.config.peers))),
            trackers=tuple(dict.fromkeys((*link.trackers, *settings.config.trackers))),
        )
        if any(entry.is_of(str(link.info_hash)) for entry in (*staying, *coming)):
            reporter.note(f"{label} is on the list already")
            continue
        if isinstance(item, Torrent):
            await Vault(folder).save(item)
        coming.append(listed_as(link, await trio.Path(out).absolute(), only))
    await _ask(folder, "remove", leaving)
    for entry in leaving:
        if settings.json:
            emit({"event": "removed", "magnet": entry.link})
        reporter.note(f"{entry.label} is off the list of the process that keeps it")
    await _ask(folder, "add", coming)
    for entry in coming:
        if settings.json:
            emit(_listed_event(entry))
        reporter.note(f"{entry.label} is on the list of the process that keeps it")
    return ExitCode.DONE


async def _ask(folder: Path, kind: Kind, entries: Sequence[Listed]) -> None:
    if entries and not await Inbox(folder).ask(kind, entries):
        raise MisuseError(f"the process that keeps the list in {folder} does not answer: try later, or end it")
