"""Many libtorrent sessions as one child process: seeders to download from, or leechers to seed to.

    libtorrent_peers.py seed TORRENT DIR COUNT --net N [--rate BYTES]
        on 127.0.N.1, 127.0.N.2, ...: `seeding` names all
    libtorrent_peers.py leech TORRENT DIR COUNT --net N --peer HOST:PORT

Leechers dial the peer alone and learn of nobody else, neither hash nor keep the pieces any longer than they must: so
that the seeder is what is measured. `dialled` comes when the first of them dials, which libtorrent puts off until
the torrent is looked at and a clock of its own strikes; `done` when all have everything. It ends when its stdin closes.
Only loopback addresses are ever used.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import libtorrent as lt

from tests.interop.harness import free_port
from tests.interop.libtorrent_child import commands, parameters, say, session

ALONE = lt.torrent_flags.disable_dht | lt.torrent_flags.disable_lsd | lt.torrent_flags.disable_pex


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["seed", "leech"])
    parser.add_argument("source")
    parser.add_argument("directory", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--net", type=int, required=True)
    parser.add_argument("--peer")
    parser.add_argument("--rate", type=int, default=0, help="upload of each, bytes a second (default: no limit)")
    options = parser.parse_args()
    lines = commands()
    seeds = options.command == "seed"
    hosts = [f"127.0.{options.net}.{number + 1}" for number in range(options.count)]
    at = [f"{host}:{free_port(host)}" for host in hosts]
    nodes, torrents = [], []
    for listen in at:
        nodes.append(session(listen, None, lie=not seeds))  # who lies does not check
    say("started")
    for number, node in enumerate(nodes):
        node.apply_settings({"outgoing_interfaces": hosts[number]})
        made = parameters(options.source, str(options.directory if seeds else options.directory / str(number)))
        made.flags |= ALONE
        if seeds:
            made.flags |= lt.torrent_flags.seed_mode
        torrents.append(node.add_torrent(made))
        if options.rate:
            torrents[-1].set_upload_limit(options.rate)
        if options.peer:
            host, _, port = options.peer.rpartition(":")
            torrents[-1].connect_peer((host, int(port)))
    if seeds:
        say("seeding", listen=at)
        while True:
            lines.get()
    while not any(torrent.status().num_connections for torrent in torrents):
        time.sleep(0.001)
    say("dialled")
    left = torrents
    while left:
        time.sleep(0.01)
        left = [torrent for torrent in left if not torrent.status().is_seeding]
    say("done")
    while True:
        lines.get()


if __name__ == "__main__":
    main()
