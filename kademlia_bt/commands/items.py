"""What `kademlia-bt get`, `put`, `scrape`, `sample` and `crawl` do. Their options stand in cli_items.py."""

from __future__ import annotations

import json as json_module
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import trio

from kademlia_bt.answers import ItemRefusedError, QueryError
from kademlia_bt.commands.console import ExitCode, complain, emit, run_async
from kademlia_bt.commands.options import Options
from kademlia_bt.commands.questions import literals_of, run_lookup, short_node
from kademlia_bt.commands.telling import NAME, failed, joining, print_line, saying, unreachable
from kademlia_bt.crawling.crawl import Crawl, Finding
from kademlia_bt.items.values import Item, MutableItem, torrent_value
from kademlia_bt.node import Node
from wire import bencode
from wire.errors import DiskError, MisuseError, ProtocolError
from wire.trio_net import TrioNetwork

if TYPE_CHECKING:
    from kademlia_bt.items.bloom import Estimate

__all__ = ["Signing", "crawl", "follow", "get", "put", "sample", "scrape", "torrent_value", "value_of"]

_MAX_STDIN_BYTES = 1 << 16
_PROGRESS_S = 10.0


@dataclass(frozen=True, slots=True)
class Signing:
    """How an item is signed."""

    key: Path
    salt: bytes
    seq: int | None
    cas: int | None
    is_torrent: bool
    """Whether it points at a torrent (BEP 46)."""


def value_of(text: str, *, bencoded: bool) -> bencode.Encodable:
    """What a user wants put; `-` is what stands on stdin. Raises MisuseError."""
    data = text.encode("utf-8", "surrogateescape")
    if text == "-":
        data = sys.stdin.buffer.read(_MAX_STDIN_BYTES)
    if not bencoded:
        return data
    try:
        return bencode.decode(data)
    except ProtocolError as error:
        raise MisuseError(f"the value is {error}") from None


def get(options: Options, target: bytes, salt: bytes, *, raw: bool) -> int:
    """Gets one item."""

    async def ask(node: Node) -> int:
        async with saying(lambda: joining(node.stats())):
            item = await node.get(target, salt=salt)
        if item is None:
            return 0
        _show(options, item, raw=raw)
        return 1

    return run_lookup(options, ask, verdict="not_found", nothing="no node has such an item")


def follow(options: Options, public_key: bytes, salt: bytes, *, every_s: float, raw: bool) -> int:
    """Prints a mutable item, and each newer one, until interrupted."""

    async def ask(node: Node) -> int:
        async for item in node.follow(public_key, salt, every_s=max(every_s, 1.0)):
            _show(options, item, raw=raw)
        return 0

    return run_lookup(replace(options, timeout_s=0.0), ask, verdict="not_found", nothing="no node has such an item")


def put(options: Options, value: bencode.Encodable, signing: Signing | None, *, keep: bool) -> int:
    """Puts a value, signed or not."""
    from kademlia_bt.items.key_file import load_or_make_keys, others_may_read

    keys = None
    if signing is not None:
        with _named_by_the_user():
            keys, made = load_or_make_keys(signing.key, random.SystemRandom())
        if made:
            complain(NAME, f"made a new key in {signing.key}: whoever has it can replace what you put")
        elif others_may_read(signing.key):
            complain(NAME, f"others on this machine can read {signing.key}: 'chmod 600' mends that")

    refused: str | None = None

    async def ask(node: Node) -> int:
        nonlocal refused
        copies = None
        async with saying(lambda: joining(node.stats())):
            with trio.move_on_after(options.timeout_s or float("inf")):
                try:
                    if keys is None or signing is None:
                        copies = await node.put(value)
                    else:
                        copies = await node.put(value, keys=keys, salt=signing.salt, seq=signing.seq, cas=signing.cas)
                except ItemRefusedError as error:
                    refused = str(error)
        if copies is None or not copies.stored:
            return 0
        _show_put(options, copies.item, copies.stored, is_torrent=signing is not None and signing.is_torrent)
        if keep:
            complain(NAME, "putting it again each hour; Ctrl-C ends that")
            await node.keep(copies.item)
        return copies.stored

    return run_lookup(
        replace(options, timeout_s=0.0) if keep else options,
        ask,
        verdict="dht_unreachable",
        nothing="no node took it",
        refusal=lambda: refused,
    )


def scrape(options: Options, info_hash: bytes) -> int:
    """Counts a swarm."""

    async def ask(node: Node) -> int:
        async with saying(lambda: joining(node.stats())):
            size = await node.scrape(info_hash)
        if not size.nodes:
            return 0
        if options.json:
            counts: dict[str, object] = {}
            for name in ("seeds", "downloaders", "total"):
                estimate: Estimate = getattr(size, name)
                counts[name], counts[f"{name}_error"] = round(estimate.size, 1), round(estimate.error, 1)
            emit({"event": "scrape", "info_hash": info_hash.hex(), **counts, "nodes": size.nodes})
        else:
            print_line(
                f"seeds {_rounded(size.seeds)}, downloaders {_rounded(size.downloaders)}, "
                f"in all {_rounded(size.total)}; counted by {size.nodes} nodes"
            )
        return size.nodes

    return run_lookup(options, ask, verdict="no_peers", nothing="no node knows a peer of this torrent")


def sample(options: Options, host: str, port: int) -> int:
    """Asks one node for info-hashes."""

    async def main() -> int:
        endpoint = (await (options.outer or TrioNetwork()).resolve(host, port))[0]
        async with short_node(options, [endpoint], alone=True) as node:
            try:
                with trio.fail_after(options.timeout_s or float("inf")):
                    answer = await node.sample(endpoint)
            except QueryError as error:
                return failed(options, "dht_unreachable", str(error))
            except trio.TooSlowError:
                return failed(options, "dht_unreachable", f"{endpoint} did not answer in {options.timeout_s:g} s")
        hashes = [info_hash.hex() for info_hash in answer.info_hashes]
        if options.json:
            emit(
                {
                    "event": "sample",
                    "address": str(endpoint),
                    "node_id": answer.node.id.hex(),
                    "info_hashes": hashes,
                    "total": answer.total,
                    "interval": answer.interval_s,
                    "nodes": [str(contact.endpoint) for contact in answer.nodes],
                }
            )
            return ExitCode.DONE
        for info_hash in hashes:
            print_line(info_hash)
        rest = f"; it shows others in {answer.interval_s} s" if answer.interval_s else ""
        complain(NAME, f"{len(hashes)} of the {answer.total} info-hashes that {endpoint} has{rest}")
        return ExitCode.DONE

    return run_async(main)


def crawl(options: Options, output: Path | None, *, rate: float, limit: int | None) -> int:
    """Collects info-hashes until everybody was asked, or `options.timeout_s` is over, or it is interrupted."""
    import time

    from kademlia_bt.crawling.crawl_file import CrawlFile
    from kademlia_bt.crawling.crawler import Crawler

    rng = random.SystemRandom()
    memory = Crawl(rng)

    def said(state: str) -> None:
        counts = {"asked": memory.asked, "answered": memory.answered, "found": memory.found - before}
        if options.json and output is not None:
            emit({"event": state, **counts, "total": memory.found})
        else:
            complain(NAME, "{answered} of {asked} nodes answered, {found} new info-hashes".format(**counts))

    async def main(write: Callable[[Finding], None]) -> int:
        async with short_node(options, literals_of(options.bootstrap)) as node:
            with trio.move_on_after(options.timeout_s or float("inf")) as scope:

                def found(finding: Finding) -> None:
                    write(finding)
                    if limit is not None and memory.found - before >= limit:
                        scope.cancel()

                async def progress() -> None:
                    while True:
                        await trio.sleep(_PROGRESS_S)
                        said("progress")

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(progress)
                    await Crawler(node, memory, rng, rate=rate).run(found)
                    nursery.cancel_scope.cancel()
            stats, attempts = node.stats(), node.attempts()
        if not stats.nodes_answered:
            return unreachable(options, stats, attempts)
        return ExitCode.DONE

    with ExitStack() as stack:
        write: Callable[[Finding], None] = lambda finding: print_line(finding.to_line())  # noqa: E731
        if output is not None:
            with _named_by_the_user():
                file = stack.enter_context(CrawlFile(output))
                for finding in file.read():
                    memory.recall(finding, time.time())
            write = file.write
        before = memory.found
        if before:
            complain(NAME, f"going on with {output}: {before} info-hashes are known")
        code = run_async(lambda: main(write))
        said("done")
    return code


@contextmanager
def _named_by_the_user() -> Iterator[None]:
    """A file that the user named and that cannot be opened is a wrong word of the command line, no failing disk."""
    try:
        yield
    except DiskError as error:
        raise MisuseError(str(error)) from None


def _show(options: Options, item: Item, *, raw: bool) -> None:
    if raw:
        sys.stdout.buffer.write(item.raw_value)
        sys.stdout.flush()
        return
    if not options.json:
        print_line(_readable(item.value))
        return
    row: dict[str, object] = {"event": "item", "target": item.target.hex(), "value": _plain(item.value)}
    row["bencoded"] = item.raw_value.hex()
    emit({**row, **_signed_fields(item)})


def _show_put(options: Options, item: Item, stored: int, *, is_torrent: bool) -> None:
    link = ""
    if is_torrent and isinstance(item, MutableItem):
        salt = f"&s={quote(item.salt.hex())}" if item.salt else ""
        link = f"magnet:?xs=urn:btpk:{item.public_key.hex()}{salt}"
    if options.json:
        row: dict[str, object] = {"event": "put", "target": item.target.hex(), "stored": stored}
        emit({**row, **_signed_fields(item), **({"magnet": link} if link else {})})
        return
    print_line(link or (item.public_key.hex() if isinstance(item, MutableItem) else item.target.hex()))
    number = f"; sequence number {item.seq}, target {item.target.hex()}" if isinstance(item, MutableItem) else ""
    complain(NAME, f"{stored} nodes took it{number}")


def _signed_fields(item: Item) -> dict[str, object]:
    if not isinstance(item, MutableItem):
        return {}
    return {"public_key": item.public_key.hex(), "salt": item.salt.hex(), "seq": item.seq}


def _readable(value: bencode.Value) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json_module.dumps(plain, ensure_ascii=False)


def _plain(value: bencode.Value) -> object:
    """As JSON can hold it: bytes as text, or, where they are none, as `hex:` and hex digits."""
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return f"hex:{value.hex()}"
        return text if text.isprintable() else f"hex:{value.hex()}"
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    return value


def _rounded(estimate: Estimate) -> str:
    return f"{estimate.size:.0f} ± {estimate.error:.0f}"
