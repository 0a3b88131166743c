"""What the two commands share: errors as one line, exit codes, interrupts, and readers of option values.

A command is an application of `front.py` whose functions return an exit code (or None for 0). `run_app` runs
it so that a user never sees a traceback: bad usage or input is one line on stderr and exit 2.
Nothing here prints results; `emit` writes the JSON events of `--json`.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from kademlia_bt.dht.private import network_tag
from wire.compact import Endpoint, parse_host_port
from wire.errors import DiskError, MisuseError, WireError
from wire.socks import Proxy

if TYPE_CHECKING:
    from kademlia_bt.commands.front import App

__all__ = [
    "ExitCode",
    "complain",
    "emit",
    "endpoint",
    "hide_tracebacks",
    "host_port",
    "network_name",
    "one_line",
    "parse_endpoint",
    "parse_size",
    "proxy_url",
    "run_app",
    "run_async",
    "size",
    "status_address",
    "version_of",
]

YOUNG_OBJECTS = 20_000
"""Made and not freed, before the garbage collector looks at them: it looks at 700 else, thirty times a second."""

T = TypeVar("T")

TRACEBACK_VARIABLE = "KADEMLIA_BT_TRACEBACK"
"""Set in the environment, it shows the traceback of an internal error: for those who mend it."""

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([kmgt]?)(?:i?b)?(?:/s)?", re.ASCII)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class ExitCode(IntEnum):
    """What a command tells the shell."""

    DONE = 0
    CHECK_FAILED = 1
    BAD_INPUT = 2
    NOT_FOUND = 3
    DISK = 4
    INTERRUPTED = 130


def parse_size(text: str) -> int:
    """Reads a number of bytes with an optional suffix (K, M, G, T: powers of 1,024). Raises MisuseError."""
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise MisuseError(f"{text!r} is no size: a number with an optional K, M or G, such as 500K")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_endpoint(text: str) -> Endpoint:
    """Reads `ADDRESS:PORT` or `[IPV6]:PORT` where the host is an IP literal. Raises MisuseError."""
    return Endpoint.of(*parse_host_port(text))


def size(text: str) -> int:
    """`parse_size` as the parser of an option: its error names the option."""
    return _option_value(parse_size, text)


def host_port(text: str) -> tuple[str, int]:
    """Where to reach somebody, as the parser of an option: `parse_host_port` without port 0; a name will do."""

    def parse(text: str) -> tuple[str, int]:
        host, port = parse_host_port(text)
        if not port:
            raise MisuseError(f"{text!r}: nobody can be reached at port 0")
        return host, port

    return _option_value(parse, text)


def endpoint(text: str) -> Endpoint:
    """`parse_endpoint` as the parser of an option: an address to bind or to reach, no name."""
    return _option_value(parse_endpoint, text)


def network_name(text: str) -> str:
    """The name of a private network, as the parser of an option."""

    def parse(text: str) -> str:
        network_tag(text)
        return text

    return _option_value(parse, text)


def proxy_url(text: str | Proxy) -> Proxy:
    """A SOCKS5 proxy, as the parser of an option."""
    return text if isinstance(text, Proxy) else _option_value(Proxy.parse, text)


def status_address(text: str) -> Endpoint:
    """Where to serve a page, as the parser of an option: `HOST:PORT`; `PORT` or `localhost:PORT` is loopback."""

    def parse(text: str) -> Endpoint:
        bare = text.removeprefix(":")
        try:
            host, port = parse_host_port(text if ":" in bare else f"localhost:{bare}")
        except MisuseError:
            raise MisuseError(f"{text[:80]!r} is no PORT and no HOST:PORT, such as 7180 or 127.0.0.1:7180") from None
        return Endpoint.of("127.0.0.1" if host == "localhost" else host, port)

    return _option_value(parse, text)


def _option_value(parse: Callable[[str], T], text: str) -> T:
    import click

    try:
        return parse(text)
    except MisuseError as error:
        raise click.BadParameter(str(error)) from None


def one_line(text: object) -> str:
    """The text on one line, without control characters: safe to print, whoever wrote it."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def complain(name: str, text: object) -> None:
    """Writes `NAME: TEXT` on stderr, on one line."""
    sys.stderr.write(f"{name}: {one_line(text)}\n")
    sys.stderr.flush()


def emit(event: Mapping[str, object]) -> None:
    """Writes one JSON event on stdout, on one line, at once. Raises BrokenPipeError when the reader left."""
    sys.stdout.write(json.dumps(event, ensure_ascii=True, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def run_app(app: App, name: str, args: Sequence[str] | None = None) -> int:
    """Runs an application and returns its exit code; errors become one line on stderr.

    `args` are the words after the command's name (None: those of this process). What is not an
    error that these packages know goes to `sys.excepthook`, which `main` of a command sets by
    `hide_tracebacks`.
    """
    import click

    words = list(sys.argv[1:] if args is None else args)
    try:
        result = app.run(words, name, version=lambda: version_of(name))
        sys.stdout.flush()
    except click.ClickException as error:
        # Where an option lacks its value, the error does not tell of which command.
        known = words[:1] if words and words[0] in app.commands else []
        return _bad_usage(name, " ".join([name, *known]), error)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except (WireError, OSError, BaseExceptionGroup) as error:
        leaves = list(_leaves(error))
        if any(isinstance(leaf, BrokenPipeError) for leaf in leaves):
            # The reader of our output left (`| head`). Nothing may be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.INTERRUPTED
        if not all(isinstance(leaf, (WireError, OSError)) for leaf in leaves):
            raise
        complain(name, leaves[0])
        return ExitCode.DISK if isinstance(leaves[0], (DiskError, OSError)) else ExitCode.BAD_INPUT
    return result if isinstance(result, int) else ExitCode.DONE


def _bad_usage(name: str, where: str, error: BaseException) -> int:
    context = getattr(error, "ctx", None)
    where = getattr(context, "command_path", where)
    message = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
    complain(name, f"{message} (see '{where} --help')")
    return ExitCode.BAD_INPUT


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def hide_tracebacks(name: str) -> None:
    """From here on, an error that nobody foresaw ends the process with one line instead of a traceback."""
    if os.environ.get(TRACEBACK_VARIABLE):
        return

    def hook(kind: type[BaseException], error: BaseException, _: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            return  # so early that nothing had begun: the interpreter ends as by the signal
        leaf = next(_leaves(error))
        complain(
            name,
            f"internal error: {type(leaf).__name__}: {leaf} "
            f"(a fault in this program; {TRACEBACK_VARIABLE}=1 shows where)",
        )

    sys.excepthook = hook


def run_async(main: Callable[[], Awaitable[int]], *, on_interrupt: int = ExitCode.INTERRUPTED) -> int:
    """Runs `main` under trio and returns its exit code; Ctrl-C and SIGTERM cancel it and give `on_interrupt`.

    A cancelled `main` may clean up for as long as it needs; a second signal ends the process at once.
    """
    import trio

    # What is imported by now lives as long as the process: it need not be searched for garbage again and again. And
    # young objects are mostly blocks, datagrams and messages, which go without the collector's help.
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    interrupted = False

    async def watch(signals: object, scope: trio.CancelScope) -> None:
        nonlocal interrupted
        async for _ in signals:  # type: ignore[attr-defined]
            if interrupted:
                os._exit(ExitCode.INTERRUPTED)
            interrupted = True
            scope.cancel()

    async def guarded() -> int:
        failure: WireError | None = None
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                code = on_interrupt
                with trio.CancelScope() as scope:
                    nursery.start_soon(watch, signals, scope)
                    try:
                        code = await main()
                    except WireError as error:
                        failure = error  # raised outside of the nursery, which would wrap it in a group
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return code

    code = trio.run(guarded)
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C finds us leaving already
    return code


def version_of(program: str) -> str:
    """What `--version` shows: the program and the version of the distribution that it came with."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{program} {version('kademlia-bt')}"
    except PackageNotFoundError:
        return f"{program} (not installed, run from its source)"
