"""Runs the benchmarks, or those that are named, prints one table and writes benchmarks/RESULTS.md.

    python benchmarks/run_all.py [ROW...] [--pairs N] [--list] [--directory DIR]

ROW is a name from `--list`, or the beginning of several (`download` stands for all downloads). Each row is one
question: ours and the other program take turns, see `pairs.py`. Its result is kept as benchmarks/results/ROW.json, and
RESULTS.md is made of all that are kept: rows that are measured at different times keep what they reached. Ends with 1
where a row that was run does not reach what it must. Needs Linux, two cores and libtorrent's wheel; a row with another
program needs that too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import pairs
from benchmarks.pairs import Growth, Row

MODULES = (
    "download",
    "limits",
    "seeding",
    "recheck",
    "memory",
    "wires",
    "web_seed",
    "krpc",
    "router",
    "resolve",
    "many_links",
    "start",
    "growth",
)
"""Each has a list `ROWS`, imported when it is wanted."""


def rows() -> dict[str, Row | Growth]:
    """Every row by its name."""
    found: dict[str, Row | Growth] = {}
    for name in MODULES:
        for row in importlib.import_module(f"benchmarks.{name}").ROWS:
            assert row.name not in found, row.name
            found[row.name] = row
    return found


def chosen(known: dict[str, Row | Growth], wanted: Sequence[str]) -> list[Row | Growth]:
    """The rows that are named, in their own order; all where none is."""
    for word in wanted:
        if not any(name.startswith(word) for name in known):
            raise SystemExit(f"there is no row {word}: see --list")
    return [
        row
        for name, row in known.items()
        if not wanted or name in wanted or any(name.startswith(word) and word not in known for word in wanted)
    ]


def kept(order: Sequence[str]) -> list[dict[str, Any]]:
    """All results there are, in the order of the rows."""
    found = [pairs.RESULTS / f"{name}.json" for name in order]
    return [json.loads(path.read_text(encoding="utf-8")) for path in found if path.exists()]


def page(results: Sequence[dict[str, Any]]) -> str:
    """RESULTS.md."""
    versions = sorted({f"{name} {version}" for result in results for name, version in result["versions"].items()})
    machines = sorted({result["machine"] for result in results})
    if len(machines) > 1:  # then each row says which it was
        marks = {machine: chr(ord("A") + number) for number, machine in enumerate(machines)}
        results = [{**result, "question": f"{result['question']} [{marks[result['machine']]}]"} for result in results]
        machines = [f"[{mark}] {machine}" for machine, mark in marks.items()]
    return "\n".join(
        [
            "# What the benchmarks found",
            "",
            "Made by `python benchmarks/run_all.py`; a row alone by `python benchmarks/run_all.py ROW`. Ours and the",
            "other program take turns in one run, each on its own core, after a warm-up; each cell shows the median",
            "(lowest to highest). The ratio is ours / other within each pair. CPU seconds and peak memory are ours /",
            "other.",
            "",
            f"{'; '.join(machines)}. {', '.join(versions)}.",
            "",
            pairs.table(results, markdown=True),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--pairs", type=int, help="counted turns of each (default: what the row says, mostly 5)")
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    parser.add_argument("--directory", type=Path, help="where the files go (default: the temporary folder)")
    options = parser.parse_args()
    known = rows()
    if options.list:
        for row in known.values():
            print(f"{row.name:24} {row.question}")
        return 0
    done = []
    for row in chosen(known, options.rows):
        print(f"{row.name}: {row.question}", flush=True)
        with tempfile.TemporaryDirectory(dir=options.directory) as folder:
            if isinstance(row, Growth):
                result = pairs.grow(row, Path(folder))
            else:
                result = pairs.run(row, Path(folder), options.pairs)
        pairs.keep(result)
        done.append(result)
    print(pairs.table(done, markdown=False))
    Path(__file__).with_name("RESULTS.md").write_text(page(kept(list(known))), encoding="utf-8")
    return 0 if all(all(result["must"].values()) for result in done) else 1


if __name__ == "__main__":
    sys.exit(main())
