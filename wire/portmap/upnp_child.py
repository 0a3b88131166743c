"""The process that `upnp.py` starts: runs one errand at a UPnP gateway and ends.

Reads the errand from stdin and says on stdout what came of it, one JSON line each (`upnp_words.py`). It bounds itself
before it hears anybody: memory, processor time, and the clock. The errand itself is `upnp_gateway.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress

from wire.portmap.upnp_words import read_errand, refusal_line

__all__ = ["main"]

ERRAND_S = 18.0
_LIMITS = {
    "RLIMIT_CORE": 0,
    "RLIMIT_CPU": 20,
    "RLIMIT_DATA": 96 << 20,  # the library takes 24 MiB of it
    "RLIMIT_AS": 512 << 20,  # for systems that count no data
}


def main() -> None:
    """One errand, one line."""
    logging.disable()
    errand = read_errand(sys.stdin.buffer.readline())
    try:
        from wire.portmap.upnp_gateway import run
    except ImportError as error:
        line = refusal_line(f"{error.name} cannot be loaded; 'pip install async-upnp-client' mends it")
    else:
        _bound()
        try:
            line = asyncio.run(asyncio.wait_for(run(errand), ERRAND_S))
        except TimeoutError:
            line = refusal_line(f"the gateway kept it for more than {ERRAND_S:.0f} s")
    sys.stdout.buffer.write(line)


def _bound() -> None:
    try:
        import resource
    except ImportError:  # Windows: what `upnp_gateway.py` takes of an answer and the parent's clock are the bounds
        return
    for name, most in _LIMITS.items():
        with suppress(AttributeError, ValueError, OSError):  # unknown to this system, or less is allowed already
            resource.setrlimit(getattr(resource, name), (most, most))
