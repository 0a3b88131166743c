"""Lookups in simulated networks: how success, hops, messages and time change with size, loss, churn and sybils.

    python benchmarks/simulate.py                 # measures (some minutes), writes docs/simulation.json and the plots
    python benchmarks/simulate.py --only sybils   # one of size, loss, churn, sybils; the others as they were measured
    python benchmarks/simulate.py --plots-only    # draws docs/simulation-*.svg anew from docs/simulation.json

Drawing needs matplotlib (`pip install -e .[docs]`); measuring does not. Networks are grown at once: tables are
filled from the true space of ids (see `kademlia_bt.testing`). Then some peers announce themselves, and others
look for them.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kademlia_bt.lookups import GetPeers
from kademlia_bt.testing import Churn, Sybils, World
from wire.compact import Endpoint

DOCS = Path(__file__).parents[1] / "docs"
DATA = DOCS / "simulation.json"

SIZES = (100, 200, 500, 1_000, 2_000, 5_000, 10_000)
LOSSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
CHURNS = (0.0, 0.05, 0.1, 0.2)
SYBILS = (8, 16, 32, 64, 128, 256)

Row = dict[str, Any]


def measure(world: World, count: int, *, between_s: float = 0.0, keep: int = 0) -> Row:
    """Has `count` peers announced and looked for, 50 at a time, and gives the figures of the searches."""
    rng = random.Random(world.seed)
    fixed = rng.sample(world.living, keep) if keep else None
    searches: list[tuple[bool, int, int, float, int]] = []
    for at in range(0, count, 50):
        pairs = [tuple(rng.sample(fixed or world.living, 2)) for _ in range(min(50, count - at))]
        hashes = [rng.randbytes(20) for _ in pairs]
        searches += _searches(world, pairs, hashes, between_s)
    return _figures(searches)


def _searches(world: World, pairs: list[Any], hashes: list[bytes], between_s: float) -> list[Any]:
    announces = [world.start(a, GetPeers(key, announce_port=7000)) for (a, _), key in zip(pairs, hashes, strict=True)]
    world.run(90, lambda: all(lookup.done for lookup in announces))
    world.run(between_s)
    began = world.now
    lookups = [world.start(b, GetPeers(key)) for (_, b), key in zip(pairs, hashes, strict=True)]
    first: dict[int, float] = {}
    ended: dict[int, float] = {}
    while len(ended) < len(lookups) and world.now - began < 90:
        world.run(0.02)
        for index, lookup in enumerate(lookups):
            if lookup.found:
                first.setdefault(index, world.now - began)
            if lookup.done:
                ended.setdefault(index, world.now - began)
    results = []
    for index, ((seeder, searcher), lookup) in enumerate(zip(pairs, lookups, strict=True)):
        world.poke(searcher)
        found = searcher.peers(lookup) == [Endpoint(seeder.endpoint.host, 7000)]
        results.append((found, lookup.hops, lookup.asked, first.get(index, math.inf), ended.get(index, 90.0)))
    return results


def _figures(searches: list[Any]) -> Row:
    def at(column: int, share: float) -> float:
        values = sorted(search[column] for search in searches if search[0])
        return float(values[min(int(len(values) * share), len(values) - 1)]) if values else math.nan

    return {
        "searches": len(searches),
        "found": sum(search[0] for search in searches) / len(searches),
        "hops": sum(search[1] for search in searches) / len(searches),
        "hops_max": max(search[1] for search in searches),
        "asked": sum(search[2] for search in searches) / len(searches),
        "first_s": [round(at(3, share), 2) for share in (0.5, 0.9, 0.99)],
        "end_s": [round(at(4, share), 2) for share in (0.5, 0.9, 0.99)],
    }


def by_size(size: int, count: int) -> Row:
    world = World(size)
    world.populate(size)
    return {"nodes": size, **measure(world, count)}


def by_loss(loss: float, count: int) -> Row:
    world = World(7, loss=loss)
    world.populate(1_000)
    return {"loss": loss, **measure(world, count)}


def by_churn(share: float, count: int) -> Row:
    """Half of every table is dead to begin with; all upkeep goes on."""
    world = World(8)
    nodes = world.populate(400)
    rng = random.Random(8)
    for node in rng.sample(nodes, 200):
        world.kill(node)
    world.wake_all()
    keep = rng.sample(world.living, 40)
    if share:
        Churn(world, share, keep=keep)
    searches: list[Any] = []
    for _ in range(0, count, 20):
        rng.shuffle(keep)
        pairs = list(zip(keep[:20], keep[20:], strict=True))
        searches += _searches(world, pairs, [rng.randbytes(20) for _ in pairs], between_s=20.0)
    return {"churn": share, **_figures(searches)}


def by_sybils(sybils: int, count: int) -> Row:
    """As many in networks of their own around each target, there before the announce."""
    world = World(9)
    world.populate(500)
    rng = random.Random(9)
    hashes = [rng.randbytes(20) for _ in range(count)]
    for turn, info_hash in enumerate(hashes):
        Sybils(world, info_hash, [f"{66 + turn}.{index // 256}.{index % 256}.1" for index in range(sybils)], rng)
    world.run(3)
    pairs = [tuple(rng.sample(world.living, 2)) for _ in hashes]
    return {"sybils": sybils, **_figures(_searches(world, pairs, hashes, 0.0))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plots-only", action="store_true", help="draw from docs/simulation.json")
    parser.add_argument("--only", choices=("size", "loss", "churn", "sybils"), help="measure one, keep the others")
    parser.add_argument("--searches", type=int, default=100, help="for each point (default: 100)")
    options = parser.parse_args()
    if not options.plots_only:
        began = time.process_time()
        plans: list[tuple[str, tuple[Any, ...], Callable[[Any, int], Row]]] = [
            ("size", SIZES, by_size),
            ("loss", LOSSES, by_loss),
            ("churn", CHURNS, by_churn),
            ("sybils", SYBILS, by_sybils),
        ]
        data: dict[str, list[Row]] = json.loads(DATA.read_text()) if options.only else {}
        for name, values, run in plans:
            if options.only in (None, name):
                data[name] = []
                for value in values:
                    data[name].append(run(value, min(options.searches, 40) if name == "sybils" else options.searches))
                    print(json.dumps(data[name][-1]), flush=True)
        DATA.write_text(json.dumps(data, indent=1) + "\n")
        print(f"{time.process_time() - began:.0f} s of CPU")
    draw(json.loads(DATA.read_text()))


def fit(rows: list[Row], key: str) -> tuple[float, float]:
    """Least squares of a figure over log2 of the network's size: value = a + b log2 n."""
    points = [(math.log2(row["nodes"]), row[key]) for row in rows]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return mean_y - slope * mean_x, slope


def draw(data: dict[str, list[Row]]) -> None:
    """Writes docs/simulation-size.svg and docs/simulation-faults.svg."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "kademlia-bt", "svg.fonttype": "none", "font.size": 9, "axes.grid": True})
    from matplotlib import pyplot as plt

    rows = data["size"]
    sizes = [row["nodes"] for row in rows]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for axis, key, title in ((axes[0], "hops", "hops of a lookup, mean"), (axes[1], "asked", "nodes asked, mean")):
        start, slope = fit(rows, key)
        axis.plot(sizes, [row[key] for row in rows], "o", label="measured")
        line = [100, 10_000, 10_000_000]
        axis.plot(line[:2], [start + slope * math.log2(n) for n in line[:2]], "-", color="C0")
        axis.plot(line[1:], [start + slope * math.log2(n) for n in line[1:]], "--", color="C3", label="extrapolated")
        axis.set(xscale="log", title=title, xlabel="nodes", ylim=(0, None))
        axis.legend()
        print(
            f"{key}: {start:.2f} + {slope:.3f} log2 n; "
            f"at 10 million (extrapolated) {start + slope * math.log2(1e7):.1f}"
        )
    for index, share in enumerate(("median", "90 %", "99 %")):
        axes[2].plot(sizes, [row["first_s"][index] for row in rows], "o-", label=share)
    axes[2].set(xscale="log", title="seconds to the first peer", xlabel="nodes", ylim=(0, None))
    axes[2].legend()
    figure.savefig(DOCS / "simulation-size.svg", metadata={"Date": None})

    faults = [("loss", "datagrams lost, %", 100), ("churn", "nodes replaced a minute, %", 100), ("sybils", "sybils", 1)]
    measured = [fault for fault in faults if data.get(fault[0])]
    figure, axes = plt.subplots(2, len(measured), figsize=(3.4 * len(measured), 5), layout="constrained", squeeze=False)
    for column, (name, label, scale) in enumerate(measured):
        rows = data[name]
        values = [row[name] * scale for row in rows]
        top, bottom = axes[0][column], axes[1][column]
        top.plot(values, [row["found"] * 100 for row in rows], "o-")
        top.set(title="searches that find the peer, %", xlabel=label, ylim=(0, 104))
        for index, share in enumerate(("median", "90 %", "99 %")):
            bottom.plot(values, [row["first_s"][index] for row in rows], "o-", label=share)
        bottom.set(title="seconds to the first peer", xlabel=label, ylim=(0, None))
        bottom.legend()
        if name == "sybils":
            for axis in (top, bottom):
                axis.set_xscale("log", base=2)
                axis.set_xticks(values, [str(value) for value in values])
    figure.savefig(DOCS / "simulation-faults.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
