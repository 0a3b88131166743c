"""What the interop tests share: child programs heard line by line, torrents made by libtorrent, trees compared.

A test waits for a line or an exit, never for a guessed time. Each child's stdin is a pipe that closes with
the test process, and each child is ended on the way out of its `with` block. `magnet()` and `kademlia_bt()`
refuse to start a command that could look for the public routers: no packet leaves this machine.
"""

from __future__ import annotations

import filecmp
import functools
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "AWKWARD",
    "PIECE",
    "REPOSITORY",
    "Program",
    "assert_same_tree",
    "free_port",
    "kademlia_bt",
    "libtorrent",
    "magnet",
    "make_torrent",
    "make_tree",
    "need_client",
    "need_libtorrent",
    "seeder",
    "torrent_of",
    "wait_named",
]

REPOSITORY = Path(__file__).resolve().parents[2]
_ENDING_S = 10.0
"""How long a child may take to end when told to, before it is killed."""

PIECE = 65_536
AWKWARD = {
    "ends inside.bin": 100_000,
    "empty": 0,
    "deep/er/spans.bin": 900_001,
    "deep/one byte": 1,
    "deep/also empty.txt": 0,
    "edge.bin": PIECE * 3,
    "ünïcode/日本.txt": 4_321,
}
"""Files that end inside a piece or on a piece's edge, that span several, that hold nothing or one byte."""


class Program:
    """A child process, heard line by line.

    `prefix` goes before the command (for example `ip netns exec NAME`). `kill()` is SIGKILL, `terminate()`
    is SIGTERM. Every failure shows the last lines that the child wrote.
    """

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ):
        self.command = list(command)
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self._process.stdout, self.out), (self._process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            with self._changed:
                lines.append(line.rstrip("\r\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_ENDING_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._close()

    def _close(self) -> None:
        for reader in self._readers:
            reader.join(_ENDING_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the child has not ended yet."""
        return self._process.poll() is None

    def story(self) -> str:
        """The command and the end of what it said, for the message of a failed assertion."""
        head = [" ".join(self.command), f"exit code: {self._process.poll()}"]
        return "\n".join([*head, "-- stdout:", *self.out[-15:], "-- stderr:", *self.err[-15:]])

    def wait_line(self, wanted: Callable[[str], bool], *, timeout_s: float = 60.0, stderr: bool = False) -> str:
        """The first line (from the first ever written on) that `wanted` accepts."""
        lines = self.err if stderr else self.out
        until = time.monotonic() + timeout_s
        seen = 0
        with self._changed:
            while True:
                while seen < len(lines):
                    seen += 1
                    if wanted(lines[seen - 1]):
                        return lines[seen - 1]
                left = until - time.monotonic()
                ended = not any(reader.is_alive() for reader in self._readers)
                if left <= 0 or (ended and self._process.poll() is not None):
                    raise AssertionError(
                        f"{'it ended' if ended else f'{timeout_s} s passed'} before the line came\n{self.story()}"
                    )
                self._changed.wait(min(left, 0.2))

    def wait_event(self, name: str, /, *, timeout_s: float = 60.0, **fields: Any) -> dict[str, Any]:
        """The first JSON line on stdout whose `event` is `name` and that has these fields."""

        def wanted(line: str) -> bool:
            event = _json(line)
            return event.get("event") == name and all(event.get(key) == value for key, value in fields.items())

        return _json(self.wait_line(wanted, timeout_s=timeout_s))

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """All JSON lines so far, or those of one kind."""
        found = [_json(line) for line in list(self.out)]
        return [event for event in found if event and (name is None or event.get("event") == name)]

    def tell(self, line: str) -> None:
        """Writes a line to stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, line: str, answer: str, *, timeout_s: float = 60.0) -> dict[str, Any]:
        """Writes a line to stdin and waits for the next event called `answer`."""
        before = len(self.events(answer))
        self.tell(line)
        until = time.monotonic() + timeout_s
        with self._changed:
            while len(self.events(answer)) <= before:
                if not self._changed.wait(until - time.monotonic()):
                    raise AssertionError(f"no answer to {line!r}\n{self.story()}")
        return self.events(answer)[before]

    def wait(self, *, timeout_s: float = 60.0) -> int:
        """The exit code, once all output is read."""
        if self._process.returncode is None and hasattr(os, "pidfd_open"):  # `Popen.wait` looks every 50 ms alone
            ending = os.pidfd_open(self._process.pid)
            select.select([ending], [], [], timeout_s)
            os.close(ending)
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s\n{self.story()}") from None
        for reader in self._readers:
            reader.join(_ENDING_S)
        return code

    def finish(self, code: int = 0, *, timeout_s: float = 60.0) -> Program:
        """Waits for the end and insists on the exit code."""
        got = self.wait(timeout_s=timeout_s)
        assert got == code, f"wanted exit code {code}, got {got}\n{self.story()}"
        return self

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)


def _json(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


_TALKATIVE = {"get", "resolve", "seed", "run", "get-peers", "announce", "find-node"}


def _stays_here(arguments: Sequence[str]) -> None:
    if arguments and arguments[0] in _TALKATIVE and not {"--bootstrap", "--no-dht"} & set(arguments):
        raise AssertionError(f"{arguments[0]} without --bootstrap or --no-dht would ask the public routers")


def magnet(*arguments: str | Path, state: Path, prefix: Sequence[str] = (), cwd: Path | None = None) -> Program:
    """`magnet ...` as a child process; `state` becomes `--state` where the command has it."""
    words = [str(argument) for argument in arguments]
    _stays_here(words)
    if words and words[0] in {"get", "resolve", "seed"}:
        words += ["--state", str(state)]
        if "--listen" not in words:
            words += ["--no-lsd", "--no-port-mapping"]  # they would call into the network of the machine
    return Program([*prefix, sys.executable, "-m", "magnet", *words], cwd=cwd)


def kademlia_bt(*arguments: str | Path, prefix: Sequence[str] = ()) -> Program:
    """`kademlia-bt ...` as a child process."""
    words = [str(argument) for argument in arguments]
    _stays_here(words)
    return Program([*prefix, sys.executable, "-m", "kademlia_bt", *words])


def libtorrent(*arguments: str | Path, prefix: Sequence[str] = ()) -> Program:
    """libtorrent as a child process: see libtorrent_child.py."""
    child = Path(__file__).with_name("libtorrent_child.py")
    return Program([*prefix, sys.executable, str(child), *map(str, arguments)])


def wait_named(peer: str, info_hash: str, bootstrap: str, *, prefix: Sequence[str] = ()) -> None:
    """Waits until a DHT names this peer for a torrent."""
    until = time.monotonic() + 60
    while True:
        with kademlia_bt("get-peers", info_hash, "--bootstrap", bootstrap, "--json", prefix=prefix) as program:
            program.wait()
            if any(event["address"] == peer for event in program.events("peer")):
                return
            assert time.monotonic() < until, program.story()


_given_ports: set[int] = set()
_reserved = Path(tempfile.gettempdir()) / f"kademlia-bt-test-ports-{os.getuid() if hasattr(os, 'getuid') else 0}"
"""One byte a port: who holds the lock on it has been given that port, for as long as his process lives."""


@functools.cache
def _reservations() -> int | None:
    """The file of them, open until the process ends; None where a system has no such locks."""
    return None if fcntl is None else os.open(_reserved, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _reserve(port: int) -> bool:
    """Takes a port for this process. Between choosing a port and a child's binding it another process may choose."""
    file = _reservations()
    if file is not None:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
    _given_ports.add(port)
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free for TCP and UDP, outside the range that the system hands out.

    None is given twice, also not to two processes that run tests at the same time.
    """
    chance = random.SystemRandom()
    for _ in range(500):
        port = chance.randrange(20_000, 32_000)
        if port in _given_ports or not _reserve(port):
            continue
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        return port
    raise AssertionError("no free port")


def need_client(name: str) -> str:
    """The path of a program, or a skip that says what is absent."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def need_libtorrent() -> None:
    """Skips where libtorrent's wheel is absent, or the system has no 127.0.0.0/8 to itself."""
    pytest.importorskip("libtorrent", reason="libtorrent's wheel is not installed")
    if not sys.platform.startswith("linux"):
        pytest.skip("needs the whole of 127.0.0.0/8, which only Linux has without being asked")


def make_tree(root: Path, files: Mapping[str, int], *, seed: int = 1) -> Path:
    """Writes files of these sizes under `root`, their bytes drawn from `seed`. Returns `root`."""
    chance = random.Random(seed)
    for name, size in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            for at in range(0, size, 1 << 20):
                out.write(chance.randbytes(min(1 << 20, size - at)))
    return root


def make_torrent(
    path: Path,
    torrent: Path,
    *,
    piece_bytes: int = 1 << 18,
    version: str = "v1",
    trackers: Iterable[str] = (),
) -> str:
    """Has libtorrent make a .torrent of a file or folder; returns its info-hash in hex, the v1 one of a hybrid."""
    import libtorrent as lt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what 2.1 says instead, 2.0 does not know
        storage = lt.file_storage()
        lt.add_files(storage, str(path))
        flags = {"v1": 64, "v2": 32, "hybrid": 0}[version]  # as create_torrent's v1_only and v2_only
        creator = lt.create_torrent(storage, piece_bytes, int(flags))
        for tracker in trackers:
            creator.add_tracker(tracker)
        lt.set_piece_hashes(creator, str(path.parent))
        torrent.write_bytes(lt.bencode(creator.generate()))
        hashes = lt.torrent_info(str(torrent)).info_hashes()
        return str(hashes.v1 if hashes.has_v1() else hashes.v2)


def torrent_of(
    tmp_path: Path, files: Mapping[str, int], *, seed: int = 1, piece_bytes: int = PIECE, version: str = "v1"
) -> tuple[Path, Path, str]:
    """A folder to seed from (its parent is the seeder's directory), its .torrent and its info-hash."""
    root = make_tree(tmp_path / "seeds" / "things", files, seed=seed)
    torrent = tmp_path / "things.torrent"
    return root, torrent, make_torrent(root, torrent, piece_bytes=piece_bytes, version=version)


def seeder(torrent: Path, root: Path, *options: str, host: str = "127.0.0.1") -> tuple[Program, str]:
    """A libtorrent seeder of `root`, and where it listens."""
    listen = f"{host}:{free_port(host)}"
    return libtorrent("seed", torrent, root.parent, "--listen", listen, *options), listen


def assert_same_tree(one: Path, other: Path, *, but_empty: bool = False, but_pads: bool = False) -> None:
    """Insists that both are the same file, or hold the same files with the same bytes and no others.

    `but_empty`: files that hold nothing need not be there. `but_pads`: nor need pad files (BEP 47), and they may.
    """
    if one.is_file():
        assert filecmp.cmp(one, other, shallow=False), f"{one} and {other} differ"
        return
    names, others = (
        sorted(
            str(path.relative_to(root))
            for path in root.rglob("*")
            if path.is_file()
            and not (but_empty and path.stat().st_size == 0)
            and not (but_pads and path.relative_to(root).parts[0] == ".pad")
        )
        for root in (one, other)
    )
    assert names == others, f"{names} are not {others}"
    same, different, unreadable = filecmp.cmpfiles(one, other, names, shallow=False)
    assert (different, unreadable) == ([], [])
    assert len(same) == len(names)
