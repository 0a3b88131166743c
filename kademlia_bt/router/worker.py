"""One of the processes of a bootstrap router that shares its port with others: `python -m kademlia_bt.router.worker`.

Started by pool.py, which hands it its bound sockets and, in one JSON line on stdin, its settings. It says how
it does in a JSON line a second on stdout, hears what the others lend, and ends when its stdin does: so
it never outlives its parent. Signals are its parent's affair.
"""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from kademlia_bt.router.core import RouterConfig
from kademlia_bt.router.node import RouterNode
from wire.compact import IPV4, IPV6, Endpoint, Family
from wire.net import Datagrams
from wire.trio_net import TrioNetwork

__all__ = ["Orders", "json_lines", "main", "to_wire"]

_TELL_S = 1.0
_LINE_BYTES = 1 << 20
_FAMILIES: dict[str, Family] = {family.name: family for family in (IPV4, IPV6)}


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is told at its start."""

    sockets: tuple[int, ...]
    """File descriptors of its bound sockets."""
    bootstrap: tuple[tuple[str, int], ...]
    state: tuple[str, ...]
    allow_local: bool | None
    max_nodes: int
    per_ip_limit: float | None
    upload_limit: int
    network_tag: str
    """Hex."""
    secret: str
    """Hex, as are the ids."""
    ids: Mapping[str, tuple[str, ...]]

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Orders:
        """Reads what the parent sent."""
        return cls(
            **{
                **plain,
                "sockets": tuple(plain["sockets"]),
                "bootstrap": tuple((host, port) for host, port in plain["bootstrap"]),
                "state": tuple(plain["state"]),
            }
        )


def to_wire(nodes: Mapping[Family, bytes]) -> dict[str, str]:
    """Compact nodes by family, for a JSON line."""
    return {family.name: compact.hex() for family, compact in nodes.items()}


async def json_lines(stream: trio.abc.ReceiveStream) -> AsyncGenerator[dict[str, Any], None]:
    """The objects that another process of ours writes, one a line; ends with the stream. Is to be closed (`aclosing`)
    where it may be left before."""
    buffer = bytearray()
    while chunk := await stream.receive_some():
        buffer += chunk
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            yield json.loads(line)
        if len(buffer) > _LINE_BYTES:
            raise ValueError("a line without an end")


class _Inherited(TrioNetwork):
    """Gives out the sockets that the parent has bound, in their order."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets

    async def udp(self, at: Endpoint) -> Datagrams:
        await trio.lowlevel.checkpoint()
        return self.adopt_udp(self._sockets.pop(0))

    def global_ipv6(self) -> str | None:
        """The parent has chosen where they are bound."""
        return None


async def _work() -> None:
    async with aclosing(json_lines(trio.lowlevel.FdStream(0))) as lines:
        await _serve(lines, Orders.from_json(await anext(lines)))


async def _serve(lines: AsyncIterator[dict[str, Any]], orders: Orders) -> None:
    stdout = trio.lowlevel.FdStream(1)
    sockets = [socket.socket(fileno=number) for number in orders.sockets]
    listen = [Endpoint.of(*sock.getsockname()[:2]) for sock in sockets]
    async with RouterNode(
        listen=listen,
        bootstrap=orders.bootstrap,
        state=[Path(path) for path in orders.state],
        network=_Inherited(sockets),
        allow_local=orders.allow_local,
        config=RouterConfig(
            max_nodes=orders.max_nodes,
            per_ip_limit=orders.per_ip_limit,
            upload_limit=orders.upload_limit,
            network_tag=bytes.fromhex(orders.network_tag),
        ),
        secret=bytes.fromhex(orders.secret),
        ids={_FAMILIES[name]: [bytes.fromhex(each) for each in ids] for name, ids in orders.ids.items()},
    ) as node:

        async def tell() -> None:
            while True:
                told = {"stats": node.stats().to_json(), "lend": to_wire(node.router.to_lend())}
                await stdout.send_all(json.dumps(told).encode() + b"\n")
                await trio.sleep(_TELL_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            async for told in lines:
                lent = {_FAMILIES[name]: bytes.fromhex(compact) for name, compact in told["lent"].items()}
                node.router.borrow(lent)
            nursery.cancel_scope.cancel()


def main() -> None:
    """Runs until stdin ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format="kademlia-bt: %(message)s", level=logging.WARNING)
    try:
        trio.run(_work)
    except* (BrokenPipeError, trio.BrokenResourceError):
        sys.exit(1)  # the parent has died; the state is saved


if __name__ == "__main__":
    main()
