"""The clients of the matrix (test_matrix.py) as child programs with one face: take this torrent, listen here, be done.

None of them is told of a peer: the other side dials, or a tracker names it. Each client's own way of saying the
same is written down here once: options, a settings file, or calls to its remote control.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.interop.harness import Program, free_port, libtorrent, need_client, need_libtorrent

__all__ = ["CLIENTS", "Running", "Setup", "version_of", "wait_until"]

POLL_S = 0.1
"""A daemon that never calls is asked so often."""


@dataclass(frozen=True)
class Setup:
    """What a client is to do: `source` is a .torrent or a magnet link, `data` the folder of its files, now or later."""

    source: Path | str
    data: Path
    folder: Path
    """Its own place for settings."""
    host: str
    port: int
    seed: bool = False
    encrypted: bool = False
    """Only with MSE/PE."""
    utp: bool = False
    """With uTP, where it is off by default."""
    pex: bool = False
    prefix: Sequence[str] = ()
    """What goes before its command, for a network namespace."""


class Running:
    """A client at work. `complete` says whether it has all files, verified."""

    def __init__(self, program: Program, complete: Callable[[], bool]) -> None:
        self.program = program
        self._complete = complete

    def wait_complete(self, timeout_s: float = 90.0) -> None:
        """Waits until it says that it has everything."""
        wait_until(self._complete, self.program, timeout_s)


def wait_until(true: Callable[[], bool], program: Program, timeout_s: float) -> None:
    """Asks again and again, for as long as the program runs."""
    until = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > until or not program.running:
            raise AssertionError(f"not within {timeout_s} s\n{program.story()}")
        time.sleep(POLL_S)


def _answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except (OSError, http.client.HTTPException):
        return False
    return True


# libtorrent


@contextmanager
def run_libtorrent(setup: Setup) -> Iterator[Running]:
    need_libtorrent()
    host = f"[{setup.host}]" if ":" in setup.host else setup.host
    options = ["--listen", f"{host}:{setup.port}"]
    if setup.encrypted:
        options += ["--encrypt", "rc4"]
    if setup.utp:
        options += ["--utp"]
    setup.data.mkdir(parents=True, exist_ok=True)
    with libtorrent("seed" if setup.seed else "get", setup.source, setup.data, *options, prefix=setup.prefix) as child:
        child.wait_event("seeding" if setup.seed else "started")
        yield Running(child, lambda: setup.seed or bool(child.events("done")))


# aria2


@contextmanager
def run_aria2(setup: Setup) -> Iterator[Running]:
    command = [need_client("aria2c"), "--no-conf", f"--dir={setup.data}", f"--listen-port={setup.port}"]
    # Its UDP trackers share the socket of its DHT, which nobody is told of here.
    command += ["--enable-dht=true", f"--dht-listen-port={setup.port}", f"--dht-file-path={setup.folder}.dht"]
    command += ["--enable-dht6=false", "--bt-enable-lpd=false", "--file-allocation=none"]
    command += [f"--enable-peer-exchange={str(setup.pex).lower()}", "--console-log-level=info", "--quiet=false"]
    command += ["--enable-color=false", "--summary-interval=0"]
    if ":" not in setup.host:
        command += [f"--interface={setup.host}"]
    command += ["--check-integrity=true", "--seed-ratio=0.0"] if setup.seed else ["--seed-time=0"]
    if setup.encrypted:
        command += ["--bt-require-crypto=true", "--bt-min-crypto-level=arc4", "--bt-force-encryption=true"]
    with Program([*setup.prefix, *command, str(setup.source)]) as program:
        program.wait_line(lambda line: "listening on TCP port" in line)
        yield Running(program, lambda: setup.seed or (not program.running and program.wait() == 0))


# transmission


@contextmanager
def run_transmission(setup: Setup) -> Iterator[Running]:
    daemon, remote = need_client("transmission-daemon"), need_client("transmission-remote")
    setup.folder.mkdir(parents=True)
    family = "ipv6" if ":" in setup.host else "ipv4"
    settings = {
        "dht-enabled": False,
        "lpd-enabled": False,
        "pex-enabled": setup.pex,
        "utp-enabled": setup.utp,
        "port-forwarding-enabled": False,
        f"bind-address-{family}": setup.host,
        "peer-port": setup.port,
        "rpc-port": setup.port + 1,
        "rpc-bind-address": "127.0.0.1",
        "rpc-whitelist-enabled": False,
        "download-dir": str(setup.data),
        "incomplete-dir-enabled": False,
        "encryption": 2 if setup.encrypted else 0,
        "cache-size-mb": 1,
    }
    (setup.folder / "settings.json").write_text(json.dumps(settings))

    def ask(*arguments: str) -> str:
        command = [*setup.prefix, remote, f"127.0.0.1:{setup.port + 1}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout

    command = [*setup.prefix, daemon, "--foreground", "--config-dir", str(setup.folder), "--log-info"]
    with Program(command) as program:
        wait_until(lambda: "VERSION" in ask("-si"), program, 60)
        ask("--add", str(setup.source))
        yield Running(program, lambda: "Percent Done: 100%" in ask("-t", "1", "-i"))
        program.kill()  # told to end, it takes ten seconds to say goodbye to nobody


# qBittorrent


@contextmanager
def run_qbittorrent(setup: Setup) -> Iterator[Running]:
    program_path = need_client("qbittorrent-nox")
    settings = setup.folder / "qBittorrent" / "config"
    settings.mkdir(parents=True)
    web = free_port()
    (settings / "qBittorrent.conf").write_text(
        "[LegalNotice]\nAccepted=true\n"
        "[BitTorrent]\n"
        f"Session\\Port={setup.port}\n"
        f"Session\\InterfaceAddress={setup.host}\n"
        "Session\\DHTEnabled=false\nSession\\LSDEnabled=false\n"
        f"Session\\PeXEnabled={str(setup.pex).lower()}\n"
        f"Session\\Encryption={1 if setup.encrypted else 0}\n"
        f"Session\\BTProtocol={'UTP' if setup.utp else 'TCP'}\n"
        "Session\\MultiConnectionsPerIp=true\n"
        "[Network]\nPortForwardingEnabled=false\n"
        "[Preferences]\n"
        f"WebUI\\Enabled=true\nWebUI\\Address=127.0.0.1\nWebUI\\Port={web}\n"
        "WebUI\\LocalHostAuth=false\nWebUI\\UseUPnP=false\n"
    )

    def ask(path: str, body: bytes | None = None, kind: str = "") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", web, timeout=60)
        headers = {"Content-Type": kind} if kind else {}
        connection.request("GET" if body is None else "POST", f"/api/v2/{path}", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        assert answer.status == 200, (path, answer.status, said)
        return json.loads(said) if said[:1] in b"[{" and said else said

    def add() -> None:
        fields = {"savepath": str(setup.data), "skip_checking": str(setup.seed).lower(), "paused": "false"}
        if isinstance(setup.source, str):
            ask(
                "torrents/add",
                urlencode({**fields, "urls": setup.source}).encode(),
                "application/x-www-form-urlencoded",
            )
            return
        mark = "b7a1d4e5"
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        head = f'--{mark}\r\nContent-Disposition: form-data; name="torrents"; filename="a.torrent"\r\n'
        parts.append(head.encode() + b"Content-Type: application/x-bittorrent\r\n\r\n" + setup.source.read_bytes())
        parts.append(f"\r\n--{mark}--\r\n".encode())
        ask("torrents/add", b"".join(parts), f"multipart/form-data; boundary={mark}")

    def complete() -> bool:
        rows = ask("torrents/info")
        return bool(rows) and rows[0]["progress"] == 1 and rows[0]["state"] in ("uploading", "stalledUP", "forcedUP")

    with Program([*setup.prefix, program_path, f"--profile={setup.folder}"]) as program:
        wait_until(lambda: _answers(lambda: ask("app/version")), program, 60)
        add()
        yield Running(program, complete)


# rTorrent


@contextmanager
def run_rtorrent(setup: Setup) -> Iterator[Running]:
    program_path = need_client("rtorrent")
    session = setup.folder / "session"
    session.mkdir(parents=True)
    control = setup.folder / "s"
    encryption = "require,require_RC4,allow_incoming,try_outgoing" if setup.encrypted else "allow_incoming"
    settings = setup.folder / "rc"
    settings.write_text(
        "system.daemon.set = true\n"
        f"network.scgi.open_local = {control}\n"
        f"session.path.set = {session}\n"
        f"network.port_range.set = {setup.port}-{setup.port}\n"
        "network.port_random.set = no\n"
        f"network.bind_address.set = {setup.host}\n"
        f"dht.mode.set = on\ndht.port.set = {setup.port}\n"  # it takes no torrent that has neither a tracker nor a DHT
        f"protocol.pex.set = {'yes' if setup.pex else 'no'}\n"
        f"protocol.encryption.set = {encryption}\n"
        "trackers.use_udp.set = yes\n"
    )

    def ask(method: str, *arguments: Any) -> Any:
        body = xmlrpc.client.dumps(arguments, method).encode()
        head = b"CONTENT_LENGTH\0%d\0SCGI\x001\0" % len(body)
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(str(control))
            line.sendall(b"%d:%s,%s" % (len(head), head, body))
            said = b""
            while got := line.recv(65536):
                said += got
        return xmlrpc.client.loads(said.partition(b"\r\n\r\n")[2])[0][0]

    def complete() -> bool:
        try:
            return any(ask("d.complete", name) == 1 for name in ask("download_list") if ask("d.is_open", name) == 1)
        except xmlrpc.client.Fault:  # a link's place is taken by its torrent between two questions
            return False

    with Program([*setup.prefix, program_path, "-n", "-o", f"import={settings}"]) as program:
        wait_until(lambda: control.exists() and _answers(lambda: ask("system.client_version")), program, 60)
        setup.data.mkdir(parents=True, exist_ok=True)
        ask("load.start_verbose", "", str(setup.source), f'd.directory.set="{setup.data}"')
        yield Running(program, complete)


# WebTorrent

_WEBTORRENT = Path(__file__).with_name("webtorrent_child.cjs")


def _node_modules() -> str:
    """Where npm keeps what it installed for everybody, or a skip where WebTorrent is not there."""
    need_client("node")
    npm = need_client("npm")
    root = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=False, timeout=60).stdout.strip()
    if not (Path(root) / "webtorrent").is_dir():
        pytest.skip("webtorrent is not installed (npm install -g --ignore-scripts webtorrent@1)")
    return root


@contextmanager
def run_webtorrent(setup: Setup) -> Iterator[Running]:
    modules = _node_modules()
    setup.data.mkdir(parents=True, exist_ok=True)
    told = {
        "source": str(setup.source),
        "path": str(setup.data),
        "port": setup.port,
        "secure": setup.encrypted,
        "utp": setup.utp,
        "pex": setup.pex,
    }
    command = [*setup.prefix, "env", f"NODE_PATH={modules}", need_client("node"), str(_WEBTORRENT), json.dumps(told)]
    with Program(command) as program:
        program.wait_event("listening")
        yield Running(program, lambda: bool(program.events("done")))


CLIENTS = {
    "libtorrent": run_libtorrent,
    "aria2": run_aria2,
    "transmission": run_transmission,
    "qBittorrent": run_qbittorrent,
    "rTorrent": run_rtorrent,
    "WebTorrent": run_webtorrent,
}


def version_of(client: str) -> str:
    """The version that is installed here, for docs/interop.md; "" where it is absent."""
    if client == "libtorrent":
        import libtorrent as lt

        return str(lt.__version__)
    if client == "WebTorrent":
        found = Path(_node_modules()) / "webtorrent" / "package.json"
        return str(json.loads(found.read_text())["version"])
    words = {
        "aria2": ("aria2c", "--version", 2),
        "transmission": ("transmission-daemon", "--version", 1),
        "qBittorrent": ("qbittorrent-nox", "--version", 1),
        "rTorrent": ("rtorrent", "-h", -1),
    }
    program, option, word = words[client]
    if shutil.which(program) is None:
        return ""
    done = subprocess.run(
        [program, option], capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "TERM": "dumb"}
    )
    line = (done.stdout or done.stderr).splitlines()[0]
    return line.split()[word].strip(".").removeprefix("v")
