"""The commands that ask nobody: `check`, `create`, `lint`, and showing what a torrent holds.

They read and write files and print; what a torrent or a link is, `wire.metainfo` and `magnet.link` know.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kademlia_bt.commands.console import ExitCode, complain, emit, one_line, run_async
from magnet.inputs import is_file, read_source, read_torrent
from magnet.json_events import failed_event
from magnet.link import LinkError, MagnetLink, PointerLink, examine, read_link
from magnet.render import make_reporter
from magnet.reporter import Reporter
from magnet.status import TorrentStatus
from magnet.texts import format_size
from magnet.verdict import Counts, MagnetError, Phase, Verdict
from wire.errors import DiskError, MisuseError, NetworkError, ProtocolError

if TYPE_CHECKING:
    from magnet.census import Count
    from magnet.options import Settings
    from wire.bitfield import Bitfield
    from wire.ids import InfoHash
    from wire.metainfo import Info, Torrent
    from wire.metainfo.create import Version

__all__ = ["check", "create", "file_states", "info", "input_told", "lint", "show_info", "write_atomically"]


@contextmanager
def input_told(settings: Settings) -> Iterator[None]:
    """With `--json`, bad input is an event too, beside the line on stderr that the console writes."""
    try:
        yield
    except (ProtocolError, MisuseError, NetworkError, DiskError) as error:
        if settings.json:
            verdict = Verdict.DISK if isinstance(error, DiskError) else Verdict.BAD_INPUT
            emit(failed_event(MagnetError(verdict, Counts(dht=settings.config.dht), None, str(error)), None))
        raise


def info(source: str, settings: Settings) -> int:
    """`magnet info` of a file."""
    with input_told(settings):
        torrent = read_torrent(Path(source))
    show_info(torrent, None, json=settings.json)
    return ExitCode.DONE


_TRACKER_SCHEMES = ("http://", "https://", "udp://", "ws://", "wss://")
"""What some client can use; browsers speak the last two."""
_WEB_SEED_SCHEMES = ("http://", "https://", "ftp://")


def check(source: str, data: Path, *, json: bool, quiet: bool) -> int:
    """`magnet check`."""
    from wire.storage.disk import DiskStore

    if not is_file(source):
        raise MisuseError(f"{source!r} is no .torrent file that is there: check takes neither a link nor a URL")
    torrent = read_torrent(Path(source))
    info = torrent.info
    if not data.is_dir():
        raise MisuseError(f"{data} is no folder: --data takes the folder in which the torrent's file or folder lies")
    reporter = make_reporter(json=False, quiet=quiet or json, verbose=False)

    def show(checked: int, total: int) -> None:
        part = checked / total if total else 1.0
        reporter.progress(TorrentStatus(info.info_hash, Phase.CHECKING, name=info.name, size=total, checked=part))

    async def work() -> int:
        store = DiskStore(info, data, read_only=True)
        try:
            have = await store.load(show)
        finally:
            await store.aclose()
        reporter.close()
        states = file_states(info, have, data)
        whole = sum(state == "whole" for _, _, state in states)
        for path, size, state in states:
            if json:
                emit({"event": "file", "path": path, "size": size, "state": state})
            elif not quiet:
                reporter.result(f"{state}\t{path}")
        if json:
            emit({"event": "checked", "files": len(states), "whole": whole})
        reporter.note(f"{whole} of {len(states)} files are whole")
        return ExitCode.DONE if whole == len(states) else ExitCode.CHECK_FAILED

    with reporter:
        return run_async(work)


def file_states(info: Info, have: Bitfield, root: Path) -> list[tuple[str, int, str]]:
    """(path, size, state) of each file but pads. The states:

    `whole`; `missing`; `wrong size`; `damaged`; and `unproved` where the only pieces that are wrong are shared with
    a file that is missing or has the wrong size, so that nothing is known of this file's part in them.
    """
    sizes: dict[int, int | None] = {}
    for index, entry in enumerate(info.files):
        if entry.on_disk:
            try:
                sizes[index] = root.joinpath(*entry.path).lstat().st_size
            except OSError:
                sizes[index] = None
    doubtful = {
        piece
        for index, size in sizes.items()
        if size != info.files[index].size
        for piece in info.layout.pieces_of(index)
    }
    rows = []
    for index, size in sizes.items():
        entry = info.files[index]
        bad = [piece for piece in info.layout.pieces_of(index) if not have[piece]]
        if size is None:
            state = "missing"
        elif size != entry.size:
            state = "wrong size"
        elif not bad:
            state = "whole"
        else:
            state = "unproved" if doubtful.issuperset(bad) else "damaged"
        rows.append((entry.shown_path, entry.size, state))
    return rows


def create(
    path: Path,
    out: Path | None,
    *,
    piece_size: int | None,
    trackers: Sequence[str],
    web_seeds: Sequence[str],
    private: bool,
    version: Version,
    comment: str | None,
    similar: Sequence[str],
    collections: Sequence[str],
    json: bool,
    quiet: bool,
) -> int:
    """`magnet create`."""
    for urls, schemes, what in ((trackers, _TRACKER_SCHEMES, "tracker"), (web_seeds, _WEB_SEED_SCHEMES, "web seed")):
        for url in urls:
            if not url.lower().startswith(schemes) or not url.isprintable() or " " in url:
                raise MisuseError(f"{url!r} is no address of a {what}: it begins with {', '.join(schemes)}")
    from wire.metainfo.create import create as make
    from wire.metainfo.hints import Hints

    hints = Hints.of(map(_named_hash, similar), collections) if similar or collections else None
    reporter = make_reporter(json=False, quiet=quiet or json, verbose=False)
    try:
        torrent = make(
            path,
            version=version,
            piece_length=piece_size,
            trackers=[[url] for url in trackers],
            web_seeds=web_seeds,
            private=private,
            hints=hints,
            comment=comment,
        )
    except (DiskError, OSError) as error:
        raise MisuseError(
            str(error) if isinstance(error, DiskError) else f"cannot read {path}: {error.strerror}"
        ) from None
    target = out if out is not None else Path(f"{torrent.name}.torrent")
    if target.is_dir():
        raise MisuseError(f"{target} is a folder: -o takes the name of the .torrent to write")
    if not target.parent.is_dir():
        raise MisuseError(f"cannot write {target}: there is no folder {target.parent}")
    write_atomically(target, torrent.to_bytes())
    link = MagnetLink.of(torrent)
    if json:
        emit({"event": "created", "torrent": str(target), **info_object(torrent, link)})
    else:
        reporter.note(f"{target}: {format_size(torrent.size)}, {torrent.info.piece_count} pieces")
        if private and not trackers:
            reporter.note("it is private and names no tracker: peers can only be given by hand (--peer)")
        reporter.result(str(link))
    return ExitCode.DONE


def _named_hash(source: str) -> bytes:
    """The info-hash that a .torrent, a link or the hash itself names: 20 bytes, or 32 where it has no other."""
    named = read_source(source)
    if isinstance(named, PointerLink):
        raise MisuseError(f"{source!r} leads to a torrent that changes: name one of the torrents themselves")
    info_hash = named.info_hash if isinstance(named, MagnetLink) else named.info.info_hash
    return info_hash.v1 or info_hash.v2 or b""


def _lint_pointer(link: PointerLink, *, json: bool) -> int:
    meaning = "points at the torrent that the key's owner names at the time, in the DHT (BEP 46)"
    key, salt = link.public_key.hex(), link.salt.hex()
    if json:
        emit({"usable": True, "link": str(link), "public_key": key, "salt": salt, "remarks": []})
        return ExitCode.DONE
    _explain([("key", key), ("salt", salt or "none"), ("meaning", meaning)])
    Reporter().result(str(link))
    return ExitCode.DONE


def lint(text: str, *, json: bool) -> int:
    """`magnet lint`."""
    try:
        pointer = read_link(text)
        if isinstance(pointer, PointerLink):
            return _lint_pointer(pointer, json=json)
        link, remarks = examine(text)
    except LinkError as error:
        if json:
            emit({"usable": False, "link": None, "remarks": [{"text": str(error), "fault": True}]})
        complain("magnet", error)
        return ExitCode.CHECK_FAILED
    fault = any(remark.fault for remark in remarks)
    if json:
        emit(
            {
                "usable": True,
                "link": str(link),
                **_hashes(link.info_hash),
                "name": link.name,
                "size": link.size,
                "trackers": link.trackers,
                "web_seeds": link.web_seeds,
                "sources": link.sources,
                "peers": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in link.peers],
                "select": link.select,
                "remarks": [remark._asdict() for remark in remarks],
            }
        )
        return ExitCode.CHECK_FAILED if fault else ExitCode.DONE
    rows: list[tuple[str, str]] = []
    if link.info_hash.v1 is not None:
        rows.append(("info-hash", f"{link.info_hash.v1.hex()} (v1)"))
    if link.info_hash.v2 is not None:
        rows.append(("info-hash", f"{link.info_hash.v2.hex()} (v2)"))
    rows.append(("name", link.name or "none: it comes with the metadata"))
    if link.size is not None:
        rows.append(("size", f"{format_size(link.size)}, as the link claims"))
    rows += [("tracker", url) for url in link.trackers] or [("trackers", "none: peers come from the DHT")]
    rows += [("web seed", url) for url in link.web_seeds]
    rows += [("source", url) for url in link.sources]
    rows += [("peer", f"{host} port {port}") for host, port in link.peers]
    if link.select:
        rows.append(("files", "only number " + ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in link.select)))
    rows += [("wrong" if remark.fault else "note", remark.text) for remark in remarks]
    _explain(rows)
    Reporter().result(str(link))
    return ExitCode.CHECK_FAILED if fault else ExitCode.DONE


def _explain(rows: Iterable[tuple[str, str]]) -> None:
    for label, text in rows:
        sys.stderr.write(f"{label:>10}  {one_line(text)}\n")
    sys.stderr.flush()


def show_info(torrent: Torrent, link: MagnetLink | None, *, json: bool, counts: Sequence[Count] | None = None) -> None:
    """Prints what a torrent holds: for people, or as the contract's one object. `link`: where it came from."""
    shown = MagnetLink.of(torrent, peers=() if link is None else link.peers)
    if json:
        swarm = {} if counts is None else {"swarm": [asdict(count) for count in counts]}
        emit({**info_object(torrent, shown), **swarm})
        return
    info = torrent.info
    rows = [("name", torrent.name)]
    if torrent.info_hash_v1 is not None:
        rows.append(("info-hash", f"{torrent.info_hash_v1.hex()} (v1)"))
    if torrent.info_hash_v2 is not None:
        rows.append(("info-hash", f"{torrent.info_hash_v2.hex()} (v2)"))
    rows.append(("size", f"{format_size(torrent.size)} ({torrent.size} bytes)"))
    rows.append(("pieces", f"{info.piece_count} of {format_size(info.piece_length)}"))
    if info.private:
        rows.append(("private", "yes: peers come from its trackers only"))
    rows += [("tracker", url) for tier in torrent.trackers for url in tier]
    rows += [("web seed", url) for url in torrent.web_seeds]
    if torrent.comment:
        rows.append(("comment", torrent.comment))
    rows += [("similar", one.hex()) for one in torrent.hints.similar]
    rows += [("collection", name.decode("utf-8", "replace")) for name in torrent.hints.collections]
    if torrent.created_by:
        rows.append(("made by", torrent.created_by))
    rows.append(("magnet", str(shown)))
    rows += [("swarm", f"{_counted(count)}, by {count.source}") for count in counts or ()]
    if counts is not None and not counts:
        rows.append(("swarm", "nobody to ask: it has no tracker, and the DHT was not asked"))
    out = Reporter()
    for label, text in rows:
        out.result(f"{label:>10}  {text}")
    files = [entry for entry in info.files if not entry.pad]
    out.result(f"{'files':>10}  {len(files)}")
    for entry in files:
        out.result(f"{format_size(entry.size):>10}  {entry.shown_path}")


def _counted(count: Count) -> str:
    if count.reason is not None:
        return f"unknown ({count.reason})"
    completed = "" if count.completed is None else f", {count.completed} downloads"
    return f"{count.seeds} seeds, {count.leechers} leechers{completed}"


def info_object(torrent: Torrent, link: MagnetLink) -> Mapping[str, object]:
    """What `magnet info --json` prints (contract)."""
    info = torrent.info
    return {
        "name": torrent.name,
        **_hashes(info.info_hash),
        "piece_length": info.piece_length,
        "pieces": info.piece_count,
        "size": torrent.size,
        "private": info.private,
        "files": [{"path": entry.shown_path, "size": entry.size} for entry in info.files if not entry.pad],
        "trackers": torrent.trackers,
        "web_seeds": torrent.web_seeds,
        "magnet": str(link),
    }


def _hashes(info_hash: InfoHash) -> Mapping[str, str | None]:
    return {
        "info_hash_v1": None if info_hash.v1 is None else info_hash.v1.hex(),
        "info_hash_v2": None if info_hash.v2 is None else info_hash.v2.hex(),
    }


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all. Raises DiskError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise DiskError(f"cannot write {path}: {error.strerror}") from error
