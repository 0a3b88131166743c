"""Memory that is there: a virtual machine may have given back to its host what nobody used for some seconds.

The first touch of such a page costs more than all else that a download does, and who meets how many of them is a matter
of what others did before, and of how much each of its calls writes. So before a turn as much memory is touched and
given back as the turn can use, and what a row tells is about the programs.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress

__all__ = ["warm_memory"]

WARM_BYTES = 4 << 30
"""What a download of 1 GiB takes for its file, and as much again for what else stands first in the kernel's lists."""


def warm_memory() -> None:
    """Touches `WARM_BYTES`, or half of what is free where that is less."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    with mmap.mmap(-1, min(WARM_BYTES, free // 2)) as some:
        with suppress(AttributeError, OSError):  # what is not everywhere, and only makes it faster
            some.madvise(mmap.MADV_HUGEPAGE)
        some[:: mmap.PAGESIZE] = bytes(-(-len(some) // mmap.PAGESIZE))
