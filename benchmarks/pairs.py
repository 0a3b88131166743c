"""What the benchmarks share: two programs take turns in one run, each on its own core, and what came of it is kept.

A *row* is one question. Its `setting` prepares what both need and gives two callables, `ours` and `theirs`, each of
which runs one turn and returns a `Turn`. `run` lets them alternate (A B A B ...) after a warm-up of each, which is not
counted. A turn that other programs disturbed is repeated (`calm`). Absolute figures move from run to run; what counts
is the ratio within a pair, and of the pairs the median.

`Watched` reads a child's CPU seconds and peak memory from /proc (Linux). `benchmarks/run_all.py` runs rows, keeps each
result as benchmarks/results/NAME.json and makes benchmarks/RESULTS.md of all that are kept.
"""

from __future__ import annotations

import json
import operator
import os
import platform
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.calm import SHARE, Calm
from tests.interop.harness import Program

# What is installed has its bytecode: pip sees to it. A checkout gets it in the warm-up, where nothing forbids it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

__all__ = ["Growth", "Row", "Setting", "Turn", "Watched", "cell", "machine", "on_core", "run", "spread", "table"]

PAIRS = 5
SAMPLE_S = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of one program took or reached."""

    value: float
    """In the row's unit."""
    cpu_s: float | None = None
    """User and system, from the start of the work to the end of the process or of the work."""
    peak_bytes: int | None = None
    """Of resident memory, files that are mapped included."""
    private_bytes: int | None = None
    """The same without mapped files, as far as the samples saw it."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Other figures worth a line: latencies, seconds of a stage."""


Setting = Callable[[Path], AbstractContextManager[tuple[Callable[[], Turn], Callable[[], Turn] | None]]]
"""Prepares in a temporary folder; gives one turn of ours and one of the other program, None where there is no other."""


@dataclass(frozen=True, slots=True)
class Row:
    """One question. `must`: conditions as text, such as "ratio >= 1.3", "cpu <= 1.0" (the ratio of CPU seconds),
    "memory <= 1.5" (of peak memory), "ours <= 60" (the median of ours)."""

    name: str
    question: str
    unit: str
    setting: Setting
    must: tuple[str, ...] = ()
    other: str = "libtorrent"
    smaller_is_better: bool = False
    digits: int = 1
    pairs: int = PAIRS
    """Turns of each that are counted."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How cost grows with the size of the work. `measure` gives for each size what one unit of work costs."""

    name: str
    question: str
    size: str
    """What the sizes count: "peers"."""
    unit: str
    """Of the cost of one unit of work: "us a block"."""
    sizes: tuple[int, ...]
    measure: Callable[[int, Path], float]
    repeats: int = 3
    most: float = 2.0
    """From the smallest size to the largest, the cost of a unit may not grow by more than this."""


# --- children


def on_core(core: int) -> list[str]:
    """The prefix of a command that keeps it on one core from its first instruction on."""
    pin = f"import os, sys; os.sched_setaffinity(0, {{{core}}}); os.execvp(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-S", "-c", pin]


class Watched:
    """A child whose CPU time and memory are sampled while it runs. `begin` sets the point that CPU counts from."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._cpu = self._from = 0.0
        self.peak_bytes = 0
        self.private_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watched:
        self.program.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join()
        self.program.__exit__(*error)

    def begin(self) -> float:
        """Counts CPU from here on; returns the time."""
        self.sample()
        self._from = self._cpu
        return time.perf_counter()

    def elapsed(self, begun: float) -> float:
        """Seconds since `begin`."""
        return time.perf_counter() - begun

    @property
    def cpu_s(self) -> float:
        """Since `begin`, as of the last sample."""
        return self._cpu - self._from

    def turn(self, value: float, **extra: float) -> Turn:
        """What was seen until now, as a turn."""
        self.sample()
        return Turn(value, self.cpu_s, self.peak_bytes, self.private_bytes, extra)

    def sample(self) -> None:
        """Reads now; nothing changes where the child has ended."""
        pid = self.program.pid
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        if fields[0] == "Z":
            return
        self._cpu = max(self._cpu, (int(fields[11]) + int(fields[12])) / _TICKS)
        for name, value in re.findall(r"^(VmHWM|RssAnon):\s+(\d+) kB", status, re.MULTILINE):
            if name == "VmHWM":
                self.peak_bytes = max(self.peak_bytes, int(value) << 10)
            else:
                self.private_bytes = max(self.private_bytes, int(value) << 10)

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.sample()


# --- running


def run(row: Row, folder: Path, pairs: int | None = None) -> dict[str, Any]:
    """Alternates the two programs of a row; returns its result as it is kept."""
    turns: dict[str, list[Turn]] = {"ours": [], "theirs": []}
    calm, most_others = Calm(), 0.0
    with row.setting(folder) as both:
        for number in range((pairs or row.pairs) + 1):
            for name, one in zip(turns, both, strict=True):
                if one is None:
                    continue
                turn, others = calm.turn(one)
                counted = "" if number else "   (warm-up, not counted)"
                who = "kademlia-bt" if name == "ours" else row.other
                cpu = "" if turn.cpu_s is None else f", {turn.cpu_s:.2f} s of CPU"
                peak = "" if turn.peak_bytes is None else f", peak {turn.peak_bytes / 1e6:.0f} MB"
                extra = "".join(f", {key} {value:g}" for key, value in turn.extra.items())
                print(f"  {who:12} {turn.value:10.{row.digits}f} {row.unit}{cpu}{peak}{extra}{counted}", flush=True)
                if number:
                    turns[name].append(turn)
                    most_others = max(most_others, others)
    return _result(row, turns["ours"], turns["theirs"]) | {"others": round(most_others, 2)}


def _result(row: Row, ours: Sequence[Turn], theirs: Sequence[Turn]) -> dict[str, Any]:
    facts = {"ours": statistics.median(turn.value for turn in ours)}
    result: dict[str, Any] = {
        "kind": "pairs",
        "name": row.name,
        "question": row.question,
        "unit": row.unit,
        "digits": row.digits,
        "other": row.other,
        "smaller_is_better": row.smaller_is_better,
        "pairs": len(ours),
        "ours": _side(ours),
        "theirs": _side(theirs),
        "machine": machine(),
        "versions": versions(),
    }
    for fact, values in (
        ("ratio", _ratios([turn.value for turn in ours], [turn.value for turn in theirs])),
        ("cpu", _ratios([turn.cpu_s for turn in ours], [turn.cpu_s for turn in theirs])),
        ("memory", _ratios([turn.peak_bytes for turn in ours], [turn.peak_bytes for turn in theirs])),
    ):
        if values:
            facts[fact] = statistics.median(values)
            result[fact] = _span(values)
    for key in ours[0].extra:
        with_key = [turn.extra[key] for turn in theirs if key in turn.extra]
        if with_key:
            facts[key] = statistics.median(_ratios([turn.extra[key] for turn in ours], with_key))
    result["must"] = {condition: _holds(condition, facts) for condition in row.must}
    return result


def _side(turns: Sequence[Turn]) -> dict[str, Any] | None:
    if not turns:
        return None
    side: dict[str, Any] = {"value": _span([turn.value for turn in turns])}
    for name in ("cpu_s", "peak_bytes", "private_bytes"):
        values = [getattr(turn, name) for turn in turns]
        if None not in values:
            side[name] = _span(values)
    side["extra"] = {key: _span([turn.extra[key] for turn in turns]) for key in turns[0].extra}
    return side


def _span(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=False) if one is not None and other]


_OPERATORS = {">=": operator.ge, "<=": operator.le}


def _holds(condition: str, facts: Mapping[str, float]) -> bool:
    fact, sign, bound = condition.rsplit(None, 2)
    return fact in facts and bool(_OPERATORS[sign](round(facts[fact], 2), float(bound)))


def grow(growth: Growth, folder: Path) -> dict[str, Any]:
    """Measures the cost of a unit at each size."""
    points = []
    for size in growth.sizes:
        where = folder / str(size)
        where.mkdir()
        values = [growth.measure(size, where / str(number)) for number in range(growth.repeats)]
        points.append({"size": size, **_span(values)})
        print(f"  {size:>8} {growth.size}: {statistics.median(values):.3g} {growth.unit}", flush=True)
    grown = points[-1]["median"] / points[0]["median"]
    return {
        "kind": "growth",
        "name": growth.name,
        "question": growth.question,
        "size": growth.size,
        "unit": growth.unit,
        "points": points,
        "grown": grown,
        "must": {f"grown <= {growth.most:g}": grown <= growth.most},
        "machine": machine(),
        "versions": versions(),
    }


@contextmanager
def both(ours: Callable[[], Turn], theirs: Callable[[], Turn] | None = None) -> Iterator[Any]:
    """A setting that needs nothing prepared."""
    yield ours, theirs


# --- telling


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median and how far the values lie apart."""
    return f"{statistics.median(values):.{digits}f} (from {min(values):.{digits}f} to {max(values):.{digits}f})"


def cell(span: Mapping[str, float] | None, digits: int = 2, scale: float = 1.0) -> str:
    """The same of a result that was kept."""
    if span is None:
        return ""
    low, mid, high = (span[key] / scale for key in ("min", "median", "max"))
    return f"{mid:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


HEAD = ("question", "ours", "other", "ratio", "CPU s", "peak MB", "must reach", "reached")


def line(result: Mapping[str, Any]) -> tuple[str, ...]:
    """A result as the cells of a table."""
    conditions = ", ".join(result["must"])
    others = result.get("others", 0.0)
    disturbed = f" (disturbed: others took up to {others:.0%} of a core)" if others > SHARE else ""
    reached = "" if not result["must"] else "yes" if all(result["must"].values()) else "no"
    if result["kind"] == "growth":
        first, last = result["points"][0], result["points"][-1]
        return (
            f"`{result['name']}` {result['question']}",
            f"{first['median']:.3g} {result['unit']} at {first['size']:,}; {last['median']:.3g} at {last['size']:,}",
            "", f"grown {result['grown']:.2f}", "", "", conditions, reached,
        )  # fmt: skip
    ours, theirs = result["ours"], result["theirs"]
    digits, unit = result["digits"], result["unit"]

    def pair(key: str, scale: float, digits: int) -> str:
        sides = [side[key]["median"] / scale for side in (ours, theirs) if side is not None and key in side]
        return " / ".join(f"{value:.{digits}f}" for value in sides)

    extra = "".join(f"; {key} {cell(span, 1)}" for key, span in ours["extra"].items())
    extra_of_theirs = "" if not theirs else "".join(f"; {key} {cell(s, 1)}" for key, s in theirs["extra"].items())
    return (
        f"`{result['name']}` {result['question']}{disturbed}",
        f"{cell(ours['value'], digits)} {unit}{extra}",
        f"{result['other']}: {cell(theirs['value'], digits)} {unit}{extra_of_theirs}" if theirs else "",
        cell(result.get("ratio")),
        pair("cpu_s", 1, 2),
        pair("peak_bytes", 1e6, 0),
        conditions,
        reached,
    )


def table(results: Sequence[Mapping[str, Any]], *, markdown: bool) -> str:
    """All results as one table."""
    rows = [HEAD, *(line(result) for result in results)]
    if markdown:
        lines = ["| " + " | ".join(cells) + " |" for cells in rows]
        return "\n".join([lines[0], "|" + " --- |" * len(HEAD), *lines[1:]])
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def versions() -> dict[str, str]:
    """Of what is measured and what it runs on."""
    found = {"python": platform.python_version()}
    for name in ("trio", "libtorrent", "cryptography"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The machine in a line, without its name or the day."""
    info = Path("/proc/cpuinfo")
    said = dict(re.findall(r"^([\w ]+\w)\s*: (.+)$", info.read_text(), re.MULTILINE)) if info.exists() else {}
    # A virtual machine names its processor by the brand alone, whatever its generation.
    parts = [f"{part.removeprefix('cpu ')} {said[part]}" for part in ("cpu family", "model") if part in said]
    generation = f" ({', '.join(parts)})" if parts else ""
    model = said.get("model name", "").strip() + generation
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    kernel = platform.release().split("-")[0]
    return f"{platform.system()} {kernel} on {platform.machine()}, {cores} cores of {model}, {memory:.0f} GiB of memory"


def keep(result: Mapping[str, Any]) -> Path:
    """Writes a result to where RESULTS.md is made from."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result['name']}.json"
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path
