"""The commands of `kademlia-bt` for what the DHT keeps: items, swarm sizes, samples. What they do: items.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import click

from kademlia_bt.commands.cli_options import (
    InfoHashArgument,
    State,
    of_a_lookup,
    of_a_node,
    of_a_question,
    seconds,
    swarm_id,
    whole,
)
from kademlia_bt.commands.console import host_port
from kademlia_bt.commands.front import App, Argument, Option
from kademlia_bt.commands.options import Options
from wire.ids import ID_BYTES

__all__ = ["app"]

app = App()

_KEY_BYTES = 32
_MAX_SALT_BYTES = 64


def _target(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) not in (ID_BYTES, _KEY_BYTES):
        raise click.BadParameter(
            f"{text[:80]!r} is no target: an item's hash has {2 * ID_BYTES} hex digits, a public key {2 * _KEY_BYTES}"
        )
    return raw


def _salt(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if text.startswith("hex:"):
        try:
            raw = bytes.fromhex(text[4:])
        except ValueError:
            raise click.BadParameter(f"{text[:80]!r} is no salt: what follows 'hex:' is not hex") from None
    if len(raw) > _MAX_SALT_BYTES:
        raise click.BadParameter(f"a salt has at most {_MAX_SALT_BYTES} bytes, this one {len(raw)}")
    return raw


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1000:
        raise click.BadParameter(f"{text!r} is no rate: a number above 0, at most 1000")
    return value


Salt = Annotated[
    bytes,
    Option(parser=_salt, metavar="S", help="Tells apart several items of one key: text, or 'hex:' and hex digits."),
]


@app.command(shares=of_a_lookup)
def get(
    settings: Options,
    target: Annotated[
        bytes,
        Argument(parser=_target, metavar="TARGET", help="An item's hash, or the public key of a mutable one, in hex."),
    ],
    salt: Salt = "",  # type: ignore[assignment]  # which the parser reads
    follow: Annotated[bool, Option("--follow", help="Stay, and print each newer one of a public key.")] = False,
    every: Annotated[float, Option(parser=seconds, metavar="SECONDS", help="Between two looks of --follow.")] = "300",  # type: ignore[assignment]
    raw: Annotated[bool, Option("--raw", help="Write the value's bencoded bytes to stdout, and nothing else.")] = False,
) -> int:
    """Gets an item that somebody put into the DHT (BEP 44), verified, and prints its value.

    An item is found by its hash; one that its owner can change, by his public key and salt: then it is the newest.
    Text is printed as it is, all else as JSON, bytes that are no text as 'hex:' and hex digits.
    """
    from kademlia_bt.commands import items as item_commands

    if follow and len(target) != _KEY_BYTES:
        raise click.BadParameter(f"--follow needs a public key ({2 * _KEY_BYTES} hex digits)")
    if raw and settings.json:
        raise click.BadParameter("--raw and --json are two ways to print: choose one")
    if follow:
        return item_commands.follow(settings, target, salt, every_s=every, raw=raw)
    return item_commands.get(settings, target, salt, raw=raw)


@app.command(shares=of_a_lookup)
def put(
    settings: Options,
    value: Annotated[str | None, Argument(metavar="[VALUE]", help="The text to put; '-' reads it from stdin.")] = None,
    torrent: Annotated[
        Any,
        Option(
            "--torrent",
            parser=swarm_id,
            metavar="INFOHASH",
            help="In place of a value: the torrent to point at (BEP 46).",
        ),
    ] = None,
    bencode: Annotated[bool, Option("--bencode", help="VALUE is bencoded, and is put as what it means.")] = False,
    key: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Sign with the private key in FILE; it is made, readable by you alone, if it is not there.",
        ),
    ] = None,
    salt: Salt = "",  # type: ignore[assignment]
    seq: Annotated[
        int | None,
        Option(parser=whole(0), metavar="N", help="Sequence number. Default: the one after what is stored."),
    ] = None,
    cas: Annotated[
        int | None,
        Option(parser=whole(0), metavar="N", help="Put only where what is stored has this number."),
    ] = None,
    keep: Annotated[bool, Option("--keep", help="Stay, and put it again each hour: items live for two.")] = False,
) -> int:
    """Puts a value of up to 999 bytes into the DHT (BEP 44), and prints where it is found.

    Without --key, whoever has its hash gets just this value. With --key it can be replaced by running the command
    again, and is found by the public key and the salt.
    """
    from kademlia_bt.commands import items as item_commands

    if (value is None) == (torrent is None):
        raise click.BadParameter("give either a VALUE or --torrent INFOHASH")
    if key is None and (salt or seq is not None or cas is not None or torrent is not None):
        raise click.BadParameter("--salt, --seq, --cas and --torrent are for what is signed: add --key FILE")
    if torrent is not None and bencode:
        raise click.BadParameter("--bencode says how VALUE is to be read; there is none with --torrent")
    return item_commands.put(
        settings,
        item_commands.value_of(value, bencoded=bencode) if value is not None else item_commands.torrent_value(torrent),
        item_commands.Signing(key, salt, seq, cas, is_torrent=torrent is not None) if key is not None else None,
        keep=keep,
    )


@app.command(shares=of_a_lookup)
def scrape(
    settings: Options,
    info_hash: InfoHashArgument,
) -> int:
    """Counts the seeds and downloaders of a torrent without naming them (BEP 33), and says how sure that is."""
    from kademlia_bt.commands import items as item_commands

    return item_commands.scrape(settings, info_hash)


@app.command(shares=of_a_question)
def sample(
    settings: Options,
    node: Annotated[Any, Argument(parser=host_port, metavar="HOST:PORT", help="Host may be a name.")],
) -> int:
    """Asks one node for some of the info-hashes that it has peers of (BEP 51), and prints them."""
    from kademlia_bt.commands import items as item_commands

    return item_commands.sample(settings, *node)


@app.command(shares=of_a_node)
def crawl(
    settings: Options,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the lines go, and from where a crawl goes on. Default: stdout.",
        ),
    ] = None,
    rate: Annotated[
        float, Option(parser=_rate, metavar="N", help="Nodes asked a second, at most 1000. Default: 10.")
    ] = "10",  # type: ignore[assignment]
    limit: Annotated[
        int | None,
        Option(parser=whole(1), metavar="N", help="End after so many info-hashes that are new."),
    ] = None,
    duration: Annotated[
        float, Option(parser=seconds, metavar="SECONDS", help="End after so long; 0: when everybody was asked.")
    ] = "0",  # type: ignore[assignment]
    state: State = None,
) -> int:
    """Collects info-hashes from all nodes that show them (BEP 51): a JSON line a node, each info-hash once.

    Asks each node once, and not again before it shows others. Ctrl-C ends it; the same command with the same file goes
    on where it was, also after a crash.
    """
    from kademlia_bt.commands import items as item_commands

    return item_commands.crawl(
        replace(settings, state_dir=state, timeout_s=duration),
        output,
        rate=rate,
        limit=limit,
    )
