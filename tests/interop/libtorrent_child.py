"""libtorrent as a program of its own: a DHT, a seeder (honest or lying), a downloader.

Run as a child by the interop tests and by benchmarks/download.py; it prints one JSON object a line and
ends when its stdin closes, so that it never outlives its parent. A line `stats` on stdin is answered with
what was uploaded and downloaded, `rate BYTES` puts another rate in place of that of `--rate`. Only loopback and
namespace addresses are ever given to it.

    libtorrent_child.py dht COUNT PORT [--net N]     nodes on 127.N.0.1, 127.N.1.1, ...; the first is the bootstrap
    libtorrent_child.py seed TORRENT DIR --listen HOST:PORT [--dht HOST:PORT] [--rate BYTES] [--down-rate BYTES] [--lie]
    libtorrent_child.py get TORRENT|MAGNET DIR --listen HOST:PORT [--dht HOST:PORT] [--peer HOST:PORT]...

Both take `--utp`, which leaves out TCP, and `--encrypt plain|rc4|both`: no connection without the encrypted
handshake, and that is what it may choose for what follows. With `--wires` the answer to `stats` tells how
its peers were connected. With `--hashes` it tells of each message about hashes of blocks (BEP 52), and of each ban.
A seed with `--check` hashes its files first, and so knows the hashes of their blocks; one that `--waits` dials nobody.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import sys
import threading
import time
from typing import Any

import libtorrent as lt

SETTLED_NODES = 12
"""A DHT node of a 60-node network that knows so many others answers well enough."""

INTRODUCTIONS = 16
"""How many others each node of the DHT is told of at its start."""


def say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def commands() -> queue.SimpleQueue[str]:
    """The lines of stdin; its end ends the process."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line.strip())
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


UTP_SOCKET = 1 << 17
"""libtorrent's peer flag, which its Python binding does not name everywhere."""
PLAIN, RC4, BOTH = 1, 2, 3
"""libtorrent's `allowed_enc_level`."""


def session(
    listen: str,
    dht: str | None,
    *,
    is_dht_node: bool = False,
    lie: bool = False,
    utp: bool = False,
    encrypt: str | None = None,
    lsd: bool = False,
    hashes: bool = False,
    queue: int = 5,
) -> lt.session:
    categories = lt.alert.category_t
    more = categories.peer_log_notification | categories.peer_notification if hashes else 0
    return lt.session(
        {
            "listen_interfaces": listen,
            "enable_dht": bool(dht) or is_dht_node,
            "dht_bootstrap_nodes": dht or "",
            "enable_lsd": lsd,
            "enable_upnp": False,
            "enable_natpmp": False,
            # it prefers uTP where it has it, and its uTP is far slower than TCP on loopback
            "enable_outgoing_utp": utp,
            "enable_incoming_utp": utp,
            "enable_outgoing_tcp": not utp,
            "enable_incoming_tcp": not utp,
            "out_enc_policy": 0 if encrypt else 2,
            "in_enc_policy": 0 if encrypt else 1,
            "allowed_enc_level": {"plain": PLAIN, "rc4": RC4}.get(encrypt or "", BOTH),
            "prefer_rc4": encrypt == "rc4",
            "allow_multiple_connections_per_ip": True,
            # all its DHT neighbours live in 127.0.0.0/8
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_ignore_dark_internet": False,
            "dht_prefer_verified_node_ids": False,
            "dht_enforce_node_id": False,
            "dht_upload_rate_limit": 1 << 30,
            "dht_block_ratelimit": 10_000_000,
            "alert_mask": categories.error_notification
            | categories.status_notification
            | categories.dht_notification
            | categories.storage_notification
            | more,
            "max_out_request_queue": 2000,
            "max_allowed_in_request_queue": 4000,
            "unchoke_slots_limit": 500,
            "connections_limit": 2000,
            "disable_hash_checks": lie,
            "listen_queue_size": queue,
        }
    )


def run_dht(count: int, port: int, net: int) -> None:
    lines = commands()
    bootstrap = f"127.{net}.0.1:{port}"
    nodes = [
        session(f"127.{net}.{index}.1:{port}", bootstrap if index else None, is_dht_node=True) for index in range(count)
    ]
    for index, node in enumerate(nodes):  # a bootstrap node alone gets to know one neighbour in several seconds
        for step in range(1, INTRODUCTIONS + 1):
            node.add_dht_node((f"127.{net}.{(index + step * 7) % count}.1", port))
    known = [0] * count
    settled = False
    while True:
        with contextlib.suppress(queue.Empty):
            lines.get(timeout=0.1)
        for index, node in enumerate(nodes):
            if not settled:
                node.post_dht_stats()
            for alert in node.pop_alerts():
                if isinstance(alert, lt.dht_announce_alert):
                    say("announced", info_hash=str(alert.info_hash), host=str(alert.ip), port=alert.port)
                elif isinstance(alert, lt.dht_stats_alert):
                    known[index] = nodes_known(alert)
        if not settled and sorted(known)[count // 20] >= min(SETTLED_NODES, count - 1):
            settled = True
            say("ready", bootstrap=bootstrap, nodes=count)


def parameters(source: str, directory: str) -> lt.add_torrent_params:
    if source.startswith("magnet:"):
        made = lt.parse_magnet_uri(source)
    else:
        made = lt.add_torrent_params()
        made.ti = lt.torrent_info(source)
    made.save_path = directory
    made.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    return made


def joined(node: lt.session, limit_s: float = 30.0) -> None:
    """Waits until the session's DHT knows its way: what is added earlier is announced a minute later."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        node.post_dht_stats()
        node.wait_for_alert(50)
        for alert in node.pop_alerts():
            if isinstance(alert, lt.dht_bootstrap_alert):
                return
            # the bootstrap lookup is only over when the last silent node has timed out: 15 s
            if isinstance(alert, lt.dht_stats_alert) and nodes_known(alert) >= 8:
                return


def flushed(node: lt.session, torrent: lt.torrent_handle) -> None:
    """Waits until all that it holds in memory is handed to the file system."""
    torrent.flush_cache()
    while not any(isinstance(alert, lt.cache_flushed_alert) for alert in node.pop_alerts()):
        node.wait_for_alert(100)


def nodes_known(alert: Any) -> int:
    return sum(bucket["num_nodes"] for bucket in alert.routing_table)


def wires_of(torrent: lt.torrent_handle) -> set[str]:
    """What it says of its connections now, once the handshake is done."""
    wires = set()
    for peer in torrent.get_peer_info():
        flags = int(peer.flags)
        if not flags & (int(lt.peer_info.handshake) | int(lt.peer_info.connecting)):
            encrypted = flags & int(lt.peer_info.rc4_encrypted)
            shaken = flags & int(lt.peer_info.plaintext_encrypted)
            cipher = "rc4" if encrypted else "plain after an encrypted handshake" if shaken else "plain"
            wires.add(f"{'utp' if flags & UTP_SOCKET else 'tcp'}, {cipher}")
    return wires


def tell_of_hashes(alert: Any) -> None:
    """Says what was said about hashes of blocks, either way, and who was banned."""
    if isinstance(alert, lt.peer_ban_alert):
        say("ban", port=alert.endpoint[1])
    elif isinstance(alert, lt.peer_log_alert):
        name = str(alert.event_type) if hasattr(alert, "event_type") else ""
        text = alert.message()
        if "HASH" in (name + text) and "base: 0" in text:
            say("hashes", text=text)


def run_torrent(options: argparse.Namespace) -> None:
    lines = commands()
    node = session(
        options.listen,
        options.dht,
        lie=getattr(options, "lie", False),
        utp=options.utp,
        encrypt=options.encrypt,
        lsd=options.lsd,
        hashes=options.hashes,
    )
    if options.command == "seed" and options.waits:
        node.apply_settings({"seeding_outgoing_connections": False})
    if options.dht:
        joined(node)
    wanted = parameters(options.source, options.directory)
    if options.command == "seed" and not options.check:
        wanted.flags |= lt.torrent_flags.seed_mode
    begun = time.monotonic()
    say("started")
    torrent = node.add_torrent(wanted)
    if options.rate:
        torrent.set_upload_limit(options.rate)
    if options.down_rate:
        torrent.set_download_limit(options.down_rate)
    for peer in options.peer:
        host, _, port = peer.rpartition(":")
        torrent.connect_peer((host.strip("[]"), int(port)))
    if options.command == "seed":
        say("seeding", listen=options.listen)
    wires: set[str] = set()
    has_metadata = done = options.command == "seed"
    asked_again = begun
    while True:
        try:
            asked, _, amount = lines.get(timeout=0.2 if done and not options.wires else 0.005).partition(" ")
            if asked == "rate":
                torrent.set_upload_limit(int(amount))
            elif asked == "stats":
                now = torrent.status()
                say(
                    "stats",
                    uploaded=now.total_payload_upload,
                    downloaded=now.total_payload_download,
                    peers=now.num_peers,
                    wires=sorted(wires),
                )
        except queue.Empty:
            pass
        if options.wires:
            wires |= wires_of(torrent)
        for alert in node.pop_alerts():
            if options.hashes:
                tell_of_hashes(alert)
        # its first announce may miss, and its next is a minute later
        if options.dht and asked_again - begun < 60 and time.monotonic() - asked_again > 2:
            asked_again = time.monotonic()
            torrent.force_dht_announce()
        if done:
            continue
        state = torrent.status()
        if state.has_metadata and not has_metadata:
            has_metadata = True
            say("metadata", seconds=round(time.monotonic() - begun, 4), name=state.name)
        if state.is_seeding:
            done = True
            say("verified", seconds=round(time.monotonic() - begun, 4))
            flushed(node, torrent)  # it still writes when it calls itself a seeder
            say("done", seconds=round(time.monotonic() - begun, 4), bytes=state.total_wanted_done)


def main() -> None:
    parser = argparse.ArgumentParser()
    commands_of = parser.add_subparsers(dest="command", required=True)
    dht = commands_of.add_parser("dht")
    dht.add_argument("count", type=int)
    dht.add_argument("port", type=int)
    dht.add_argument("--net", type=int, default=1)
    for name in ("seed", "get"):
        torrent = commands_of.add_parser(name)
        torrent.add_argument("source")
        torrent.add_argument("directory")
        torrent.add_argument("--listen", required=True)
        torrent.add_argument("--dht")
        torrent.add_argument("--peer", action="append", default=[])
        torrent.add_argument("--rate", type=int, default=0)
        torrent.add_argument("--down-rate", type=int, default=0)
        torrent.add_argument("--lsd", action="store_true")
        torrent.add_argument("--utp", action="store_true")
        torrent.add_argument("--encrypt", choices=["plain", "rc4", "both"])
        torrent.add_argument("--hashes", action="store_true")
        torrent.add_argument("--wires", action="store_true", help="remember how peers were connected, for `stats`")
        if name == "seed":
            torrent.add_argument("--lie", action="store_true")
            torrent.add_argument("--check", action="store_true")
            torrent.add_argument("--waits", action="store_true", help="dial nobody that others name")
    options = parser.parse_args()
    if options.command == "dht":
        run_dht(options.count, options.port, options.net)
    else:
        run_torrent(options)


if __name__ == "__main__":
    main()
