"""How long a step of ours works, however busy the machine is and whatever other tests left to be collected."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["works_at_most"]


@contextmanager
def works_at_most(limit_s: float) -> Iterator[None]:
    """Insists that the block takes no more seconds of processor time. Garbage is left alone meanwhile: to look through
    what three thousand other tests have loaded and left takes longer than most of what is measured."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        began = time.process_time()
        yield
        worked_s = time.process_time() - began
    finally:
        if was_collecting:
            gc.enable()
    assert worked_s < limit_s, f"{worked_s:.3f} s"
