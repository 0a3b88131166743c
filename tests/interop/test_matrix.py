"""Six clients that nobody here wrote, and what each does with us: the cells of docs/interop.md.

A cell is a client and a thing to be done with it, both ways where there are two. What a client cannot do is
said in `CANNOT`, with its reason. `python tests/interop/write_matrix.py` runs the cells and writes the page.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.interop.clients import CLIENTS, Running, Setup
from tests.interop.harness import REPOSITORY, Program, assert_same_tree, free_port, magnet, make_tree, need_client
from tests.interop.namespaces import two_machines
from tests.interop.test_web_seeds import nginx

pytestmark = pytest.mark.interop

FILES = {"a.bin": 1_400_000, "sub/b.bin": 123_456, "sub/c.txt": 77}
PIECE = 65_536

LINKS_WANT_A_TRACKER = {"aria2", "rTorrent"}
"""They take no connection for a link before they have its metadata."""
LOOPBACK = ("127.0.0.2", "127.0.0.1")
"""Ours and theirs: rTorrent keeps one peer an address, and a tracker names it to itself, too."""
_V1_ONLY = "knows version 1 alone"
_NO_UTP = "has no uTP"
CANNOT = {
    ("aria2", "uTP only"): _NO_UTP,
    ("rTorrent", "uTP only"): _NO_UTP,
    ("aria2", "v2"): _V1_ONLY,
    ("transmission", "v2"): _V1_ONLY,
    ("rTorrent", "v2"): _V1_ONLY,
    ("WebTorrent", "v2"): _V1_ONLY,
    ("rTorrent", "web seed"): "has no web seeds",
    ("rTorrent", "IPv6"): "listens on IPv4 alone",
    ("aria2", "hybrid"): "names a hybrid by a wrong info-hash, as `aria2c -S` shows",
    ("transmission", "hybrid"): "does not read a hybrid .torrent",
    ("WebTorrent", "PEX hand-over"): "takes the names of peers, and names none",
}


@dataclass
class Scene:
    """One cell being tried: where both sides live, what they share, who is running."""

    client: str
    folder: Path
    stack: ExitStack
    ours: str
    theirs: str
    prefix: Sequence[str] = ()
    """For our commands, in a network namespace."""
    their_prefix: Sequence[str] = ()
    version: str = "1"
    trackers: Sequence[str] = ()
    web_seeds: Sequence[str] = ()
    root: Path = field(init=False)
    torrent: Path = field(init=False)
    link: str = field(init=False)

    def __post_init__(self) -> None:
        self.root = make_tree(self.folder / "seeds" / "things", FILES)
        self.torrent = self.folder / "things.torrent"
        more = [word for url in self.trackers for word in ("--tracker", url)]
        more += [word for url in self.web_seeds for word in ("--web-seed", url)]
        made = ("create", self.root, "-o", self.torrent, "--piece-size", str(PIECE), "--version", self.version)
        with magnet(*made, *more, state=self.folder) as create:
            create.finish(0)
            self.link = create.out[0]

    def at(self, host: str, port: int) -> str:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _port(self, host: str) -> int:
        return free_port() if self.prefix or ":" in host else free_port(host)

    def _options(self, listen: int) -> list[str]:
        return ["--no-dht", "--no-lsd", "--listen", self.at(self.ours, listen), "--json", "--timeout", "40"]

    def _start(self, seed: bool, source: Path | str | None, ours: dict[str, bool]) -> tuple[Running, int]:
        setup = Setup(
            source=source or self.torrent,
            data=self.root.parent if seed else self.folder / "theirs",
            folder=self.folder / ("seeder" if seed else "leecher"),
            host=self.theirs,
            port=self._port(self.theirs),
            seed=seed,
            prefix=self.their_prefix,
            **ours,
        )
        return self.stack.enter_context(CLIENTS[self.client](setup)), setup.port

    def we_get(self, source: Path | str | None = None, *more: str, **how: bool) -> None:
        """The client seeds; we are told where it listens."""
        running, port = self._start(True, None, how)
        running.wait_complete()
        got = self.folder / "ours"
        options = [*self._options(self._port(self.ours)), "--peer", self.at(self.theirs, port), *more]
        with magnet(
            "get", source or self.torrent, "-o", got, *options, state=self.folder / "s1", prefix=self.prefix
        ) as get:
            get.finish(0)
            assert "Traceback" not in "\n".join(get.err), get.story()
        assert_same_tree(self.root, got / "things", but_pads=True)

    def seed(self, *more: str) -> Program:
        """We seed."""
        arguments = ("seed", self.torrent, "--data", self.root.parent, *self._options(self._port(self.ours)), *more)
        seed = self.stack.enter_context(magnet(*arguments, state=self.folder / "s2", prefix=self.prefix))
        seed.wait_event("seeding")
        return seed

    def they_get(self, source: Path | str | None = None, *more: str, dial: bool = True, **how: bool) -> None:
        """We seed, and dial the client, unless it is to find us."""
        running, port = self._start(False, source, how)
        seed = self.seed(*(("--peer", self.at(self.theirs, port)) if dial else ()), *more)
        running.wait_complete()
        assert "Traceback" not in "\n".join(seed.err), seed.story()
        assert_same_tree(self.root, self.folder / "theirs" / "things", but_empty=True, but_pads=True)


@contextmanager
def scene(client: str, folder: Path, *, ipv6: bool = False, **more: object) -> Iterator[Scene]:
    """transmission refuses loopback peers and lives in a network namespace, the others on loopback."""
    with ExitStack() as stack:
        if client == "transmission":
            here, there = stack.enter_context(two_machines(ipv6=ipv6))
            at = (here.addresses[-1], there.addresses[-1])
            yield Scene(client, folder, stack, *at, here.prefix, there.prefix, **more)  # type: ignore[arg-type]
        else:
            at = ("::1", "::1") if ipv6 else LOOPBACK
            yield Scene(client, folder, stack, *at, **more)  # type: ignore[arg-type]


def they_seed(client: str, folder: Path) -> None:
    with scene(client, folder) as made:
        made.we_get()


def they_leech(client: str, folder: Path) -> None:
    with scene(client, folder) as made:
        made.they_get()


def by_magnet(client: str, folder: Path) -> None:
    with scene(client, folder) as made:
        hash_alone = made.link.partition("&")[0]
        made.we_get(hash_alone)
        if client not in LINKS_WANT_A_TRACKER:
            made.they_get(hash_alone)
    if client in LINKS_WANT_A_TRACKER:
        _by_tracker(client, folder / "link", "http", link=True)


def encrypted(client: str, folder: Path) -> None:
    with scene(client, folder) as made:
        made.we_get(None, encrypted=True)
        made.they_get(None, "--encryption", "require", encrypted=True)


def over_utp(client: str, folder: Path) -> None:
    with scene(client, folder) as made:
        made.we_get(None, "--transport", "utp", utp=True)
        made.they_get(None, "--transport", "utp", utp=True)


def version_2(client: str, folder: Path) -> None:
    with scene(client, folder, version="2") as made:
        made.we_get()
        made.they_get()


def hybrid(client: str, folder: Path) -> None:
    """Between the files of version 1 lie pads (BEP 47). Four take them for files, and need them to seed."""
    with scene(client, folder, version="hybrid") as made:
        made.they_get()
        pads = folder / "theirs" / "things" / ".pad"
        if pads.exists():
            shutil.copytree(pads, made.root / ".pad")
        made.we_get()


def over_ipv6(client: str, folder: Path) -> None:
    with scene(client, folder, ipv6=True) as made:
        made.we_get()
        made.they_get()


@contextmanager
def tracker(scheme: str, host: str, prefix: Sequence[str]) -> Iterator[str]:
    """The tracker of WebTorrent's people."""
    program, port = need_client("bittorrent-tracker"), free_port()
    options = [f"--{scheme}", "--port", str(port), f"--{scheme}-hostname", host]
    with Program([*prefix, program, *options]) as running:
        running.wait_line(lambda line: line.lower().startswith(f"{scheme} tracker"))
        yield f"{scheme}://{host}:{port}/announce"


def _by_tracker(client: str, folder: Path, scheme: str, *, link: bool = False) -> None:
    with ExitStack() as stack:
        if client == "transmission":
            here, there = stack.enter_context(two_machines())
            at, prefixes = (here.address, there.address), (here.prefix, there.prefix)
        else:
            at, prefixes = LOOPBACK, ((), ())
        # On loopback where it is by default: its UDP answers come from there.
        url = stack.enter_context(tracker(scheme, at[0] if prefixes[0] else "127.0.0.1", prefixes[0]))
        made = Scene(client, folder, stack, *at, *prefixes, trackers=[url])
        seed = made.seed()
        running, _ = made._start(False, made.link if link else made.torrent, {})
        running.wait_complete()
        assert "Traceback" not in "\n".join(seed.err), seed.story()
        assert_same_tree(made.root, folder / "theirs" / "things", but_empty=True)


def from_a_web_seed(client: str, folder: Path) -> None:
    """The torrent is ours, the web server nginx; nobody seeds."""
    with scene(client, folder) as place, nginx(place.root.parent, place.their_prefix) as (url, _):
        made = replace(place, folder=folder / "web", web_seeds=[url])
        running, _ = made._start(False, None, {})
        running.wait_complete()
        assert_same_tree(made.root, made.folder / "theirs" / "things", but_empty=True)


def hands_over_peers(client: str, folder: Path) -> None:
    """We seed, slowly, to the client; another of ours, told of the client alone, is named the seed (BEP 11).

    The client finds the seed by a tracker: some name only those whom they dialled. The other one lives at an
    address of its own: some name nobody who shares it.
    """
    with ExitStack() as stack:
        if client == "transmission":
            here, there = stack.enter_context(two_machines(2))
            at, prefixes, other_at = (here.address, there.address), (here.prefix, there.prefix), here.addresses[1]
        else:
            at, prefixes, other_at = LOOPBACK, ((), ()), "127.0.0.3"
        url = stack.enter_context(tracker("http", at[0], prefixes[0]))
        made = Scene(client, folder, stack, *at, *prefixes, trackers=[url])
        made.seed("--up-limit", "8K")
        _, port = made._start(False, None, {"pex": True})
        child = [str(Path(__file__).with_name("pex_child.py")), made.torrent, folder / "other", other_at, made.theirs]
        with Program([*made.prefix, sys.executable, *map(str, child), str(port)]) as other:
            # transmission names its first peers after 90 s
            assert other.wait_event("found", timeout_s=140).get("pex"), other.story()


def by_http_tracker(client: str, folder: Path) -> None:
    _by_tracker(client, folder, "http")


def by_udp_tracker(client: str, folder: Path) -> None:
    _by_tracker(client, folder, "udp")


CELLS = {
    "they seed": they_seed,
    "they leech": they_leech,
    "magnet": by_magnet,
    "MSE required": encrypted,
    "uTP only": over_utp,
    "PEX hand-over": hands_over_peers,
    "v2": version_2,
    "hybrid": hybrid,
    "web seed": from_a_web_seed,
    "HTTP tracker": by_http_tracker,
    "UDP tracker": by_udp_tracker,
    "IPv6": over_ipv6,
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("cell", CELLS)
def test_cell(tmp_path: Path, client: str, cell: str) -> None:
    if (client, cell) in CANNOT:
        pytest.skip(f"{client} {CANNOT[client, cell]}")
    CELLS[cell](client, tmp_path)


def test_the_page_shows_every_cell() -> None:
    """docs/interop.md is as the last run made it, and no cell that can be done is red there."""
    text = (REPOSITORY / "docs" / "interop.md").read_text()
    assert f"| | {' | '.join(CELLS)} |" in text
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith("| ")}
    for client in CLIENTS:
        marks = [mark.strip() for mark in rows[client].strip("|").split("|")[1:]]
        for cell, mark in zip(CELLS, marks, strict=True):
            assert (mark == "✓") != ((client, cell) in CANNOT), f"{client}, {cell}: {mark}"
