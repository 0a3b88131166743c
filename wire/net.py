"""The port to the outer world: datagrams, streams, listeners and names. The real one is `wire.trio_net`.

Everything above takes a `Network` as an argument; tests pass a virtual one. Only addresses that are
already literals are dialled: names are resolved by `resolve`, once, at the border.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Protocol, cast, runtime_checkable

from wire.compact import Address, Endpoint
from wire.errors import NetworkError

__all__ = [
    "MAX_UNANSWERED",
    "TURN_S",
    "AnsweredDatagrams",
    "Answerer",
    "Buffer",
    "Datagrams",
    "Listener",
    "Network",
    "PromptStream",
    "ScatterStream",
    "Stream",
    "network_error",
    "prompt",
    "scattering",
]

MAX_UNANSWERED = 5
"""Connections to one address, of all torrents, that it has not answered yet. libtorrent's listener keeps five that it
did not take yet, and the system drops more: they are sent again after a second."""
TURN_S = 1.0
"""How long at most one waits for its turn: as long as it would take then. So one that is silent holds nobody up."""

Buffer = bytes | bytearray | memoryview

Answerer = Callable[[bytes, Address, float], Buffer | None]
"""Takes a datagram, its source and the time; gives what is to be sent back at once, if anything. Never raises."""


class Datagrams(Protocol):
    """A bound UDP socket."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it is bound."""
        ...

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        """Waits for datagrams, then gives all that are there, up to a batch. Raises NetworkError when closed."""
        ...

    def send(self, data: Buffer, to: Endpoint) -> bool:
        """Sends at once or not at all; False where the system would not take it. Never raises for the network."""
        ...

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        """Sends each as `send` does, cheaper where several in a row go to one peer; returns where it failed."""
        ...

    def expect_bulk(self) -> None:
        """Streams will come over it: several datagrams of one peer may be taken from the system at once."""
        ...

    def close(self) -> None:
        """Closes it; a waiting `receive` raises NetworkError."""
        ...


@runtime_checkable
class AnsweredDatagrams(Datagrams, Protocol):
    """A UDP socket that can have its datagrams answered at once: cheaper than `receive` and `send_many`."""

    async def readable(self) -> None:
        """Waits until there may be datagrams. Raises NetworkError when closed."""
        ...

    def serve(self, answerers: Sequence[Answerer], now: float, unsent: list[Endpoint]) -> bool:
        """Has the datagrams answered that are there, up to a batch; False where no more are. Not after `expect_bulk`.

        Raises NetworkError when closed.

        Args:
            answerers: Who takes a datagram, by its first byte; the last, the 257th, takes those that are empty.
            now: Passed on to them.
            unsent: Gets the source of each answer that the system would not take.
        """
        ...


class Stream(Protocol):
    """A connected byte stream: TCP, uTP (`wire.utp.stream`), encrypted or not (`wire.secure`)."""

    @property
    def remote(self) -> Endpoint:
        """The other end."""
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """Waits for bytes and puts them into `buffer`; 0 at the end. Raises NetworkError."""
        ...

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        """Sends the buffers in order, whole. Raises NetworkError."""
        ...

    def close(self) -> None:
        """Closes at once; what was not sent is lost. Waiting calls raise NetworkError. May be called twice."""
        ...


@runtime_checkable
class ScatterStream(Stream, Protocol):
    """A stream that can put bytes to many places in one call, chosen when they are there."""

    @property
    def scatters(self) -> bool:
        """Whether it can now."""
        ...

    async def readable(self) -> None:
        """Waits until there may be bytes. Raises NetworkError."""
        ...

    def receive_scattered(self, buffers: Sequence[memoryview]) -> int | None:
        """Fills the buffers in order with what is there; 0 at the end, None where nothing is. Raises NetworkError."""
        ...


class PromptStream(Stream, Protocol):
    """A stream that can send without waiting: what is small mostly fits, and costs no task its turn."""

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """Sends in order what the system takes at once; returns what is left for `send_all`. Raises NetworkError."""
        ...


def scattering(stream: Stream) -> ScatterStream | None:
    """The stream as one that scatters, where it can. (isinstance with a protocol takes ten times as long.)"""
    return cast("ScatterStream", stream) if hasattr(stream, "receive_scattered") else None


def prompt(stream: Stream) -> PromptStream | None:
    """The stream as one that sends without waiting, where it can."""
    return cast("PromptStream", stream) if hasattr(stream, "send_now") else None


class Listener(Protocol):
    """A listening TCP socket."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        ...

    async def accept(self) -> Stream:
        """Waits for the next connection. Raises NetworkError when closed."""
        ...

    def close(self) -> None:
        """Closes it; a waiting `accept` raises NetworkError."""
        ...


class Network(Protocol):
    """What the shells need of the outer world."""

    async def udp(self, at: Endpoint) -> Datagrams:
        """Binds a UDP socket; port 0 picks a free one. Raises NetworkError."""
        ...

    async def multicast(self, group: Endpoint, at: str) -> Datagrams:
        """A socket in a multicast group, on the interface that has the address `at`, or on all for the wildcard.

        What is sent to the group goes out on each of them, no further than the local network. Raises NetworkError.
        """
        ...

    async def connect(self, to: Endpoint) -> Stream:
        """Opens a stream; the caller bounds the time. Raises NetworkError."""
        ...

    async def listen(self, at: Endpoint) -> Listener:
        """Listens for streams; port 0 picks a free one. Raises NetworkError."""
        ...

    def global_ipv6(self) -> str | None:
        """The global IPv6 address that this machine is to be known by (BEP 32), the lasting one where others are for
        privacy and last a day; None where it has none. Sends nothing."""
        ...

    async def resolve(self, host: str, port: int) -> list[Endpoint]:
        """Every A and AAAA address of a name, or the literal itself. Raises NetworkError where there is none."""
        ...


def network_error(action: str, where: object, error: OSError) -> NetworkError:
    """What the system refused, why, and what to do: `cannot open UDP 127.0.0.1:1: ...`."""
    reason = error.strerror or str(error) or type(error).__name__
    hint = {
        errno.EADDRINUSE: "; another program uses this port: choose another, or port 0 for a free one",
        errno.EADDRNOTAVAIL: "; no interface of this machine has that address",
        errno.EACCES: "; ports below 1024 need more rights",
        errno.EMFILE: "; too many open files: raise the limit (ulimit -n)",
    }.get(error.errno or 0, "")
    return NetworkError(f"cannot {action} {where}: {reason}{hint}")
