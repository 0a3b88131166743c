"""Whether the machine is ours alone while a turn runs: what other programs take of its cores falsifies a measurement.

All CPU time that the system counts, less that of this process and of all that descend from it, is others'. A turn that
others disturbed is repeated, and a turn waits for them to end, both within bounds for each row. Linux alone: elsewhere
nothing is known of others, and nothing is repeated.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

__all__ = ["SHARE", "Calm"]

SHARE = 0.15
"""Of one core: so much others may take. The threads of the kernel that write files back are among them."""
LOOK_S = 0.3
WAIT_S = 60.0
"""So long in all a row waits for others to end."""
REPEATS = 10
"""So many turns of a row are run again."""
_TICKS = os.sysconf("SC_CLK_TCK")

_Value = TypeVar("_Value")


class Calm:
    """The care of one row."""

    def __init__(self) -> None:
        self._wait_s = WAIT_S
        self._repeats = REPEATS

    def turn(self, one: Callable[[], _Value]) -> tuple[_Value, float]:
        """Runs it, again where others disturbed it; returns what it gave, and their share of one core meanwhile."""
        while True:
            while self._wait_s > 0.0 and _share_of_others(lambda: time.sleep(LOOK_S))[1] > SHARE:
                self._wait_s -= LOOK_S
            value, share = _share_of_others(one)
            if share <= SHARE or not self._repeats:
                return value, share
            self._repeats -= 1
            print(f"  others took {share:.0%} of a core meanwhile: once more", flush=True)


def _share_of_others(one: Callable[[], _Value]) -> tuple[_Value, float]:
    begun, before = time.monotonic(), _others_s()
    value = one()
    return value, max(0.0, _others_s() - before) / (time.monotonic() - begun)


def _others_s() -> float:
    """CPU seconds that all others have taken so far; 0.0 where the system does not tell."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq = map(int, fields[:7])  # what lies between is idle, and waiting for disks
    return (user + nice + system + irq + softirq - _ours()) / _TICKS


def _ours() -> int:
    """Ticks of this process and its descendants, those included that have ended."""
    children = defaultdict(list)
    ticks = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):  # it ended
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                children[int(fields[1])].append(int(entry))
                ticks[int(entry)] = sum(map(int, fields[11:15]))
    total, left = 0, [os.getpid()]
    while left:
        pid = left.pop()
        total += ticks.get(pid, 0)
        left += children[pid]
    return total
