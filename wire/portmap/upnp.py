"""UPnP by async-upnp-client, in a process of its own that lives for one errand. A shell.

Whoever is on the local network may play the gateway, and the library takes all that it is sent: so it runs where it can
take little (`upnp_child.py` bounds itself), for seconds, and its answer is read as a stranger's (`upnp_words.py`). An
idle session has none of it in memory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from wire.errors import NetworkError
from wire.portmap.upnp_words import MAX_LINE_BYTES, Answer, Errand, read_answer

__all__ = ["COMMAND", "LIMIT_S", "run_errand"]

_HOME = str(Path(__file__).resolve().parents[2])
_PROGRAM = (
    f"import sys; sys.path.insert(0, {_HOME!r}); import wire; del sys.path[0]\n"
    "from wire.portmap.upnp_child import main; main()"
)
"""The very package that is asking, wherever it lies, and all else from where Python has it."""
COMMAND = (sys.executable, "-P", "-c", _PROGRAM)
"""`-P`: nothing is loaded from the folder that we happen to be in, which may hold a download."""
LIMIT_S = 20.0
"""For the whole of it: it is killed then."""


async def run_errand(errand: Errand, *, command: Sequence[str] = COMMAND, limit_s: float = LIMIT_S) -> Answer:
    """Starts the process, asks, hears, ends it. Raises NetworkError or ProtocolError, one line each, whatever happens.

    Takes 0.3 s beside what the gateway takes, and 3 s where none answers.
    """
    try:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is ours: it has a mapping to take back
        )
    except OSError as error:
        raise NetworkError(f"what speaks UPnP for us does not start: {error.strerror or error}") from error
    line = b""
    try:
        with trio.move_on_after(limit_s) as patience:
            line = await _converse(process, errand.line())
            if not line:
                await process.wait()  # else it would be our own kill that ended it
    finally:
        await _end(process)
    if patience.cancelled_caught:
        raise NetworkError(f"what speaks UPnP for us was ended after {limit_s:.0f} s")
    if not line:
        raise NetworkError(f"what speaks UPnP for us ended without an answer ({process.returncode})")
    return read_answer(line)


async def _converse(process: trio.Process, words: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    heard = bytearray()
    try:
        await process.stdin.send_all(words)
        await process.stdin.aclose()
        while b"\n" not in heard and len(heard) < MAX_LINE_BYTES:
            part = await process.stdout.receive_some(MAX_LINE_BYTES)
            if not part:
                break
            heard += part
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # it is gone: what it said until then is all
    return bytes(heard[: heard.find(b"\n") + 1] or heard)


async def _end(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        process.kill()
        await process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.aclose()
        await process.stdout.aclose()
