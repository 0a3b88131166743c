"""Lookups in simulated networks: how success, hops, messages and time change with size, loss, churn and sybils.

    python benchmarks/simulate.py                 # measures (half an hour on one core) and draws
    python benchmarks/simulate.py --resume        # only what docs/simulation.json lacks: each point is written at once
    python benchmarks/simulate.py --only sybils   # one of size, loss, churn, sybils; the others as they were measured
    python benchmarks/simulate.py --plots-only    # draws docs/simulation-*.svg anew, prints the tables of simulation.md

Drawing needs matplotlib (`pip install -e .[docs]`); measuring does not. Networks are grown at once: tables are
filled from the true space of ids (see `kademlia_bt.testing`). Then some peers announce themselves, and others
look for them. Every point has a seed of its own, so each is the same again, whatever else is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kademlia_bt.dht.lookups import GetPeers
from kademlia_bt.testing import Churn, SimNode, Sybils, World
from wire.bencode import decode
from wire.compact import Endpoint

DOCS = Path(__file__).parents[1] / "docs"
DATA = DOCS / "simulation.json"

SIZES = (100, 300, 1_000, 3_000, 10_000)
LOSSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
CHURNS = (0.0, 0.05, 0.1, 0.2)
SYBILS = (8, 16, 32, 64, 128, 256)
FAULTY_NODES = 1_000
"""In the worlds of loss, churn and sybils."""
AT_ONCE = 50
ASKERS = 40
"""Who announces and searches while others come and go."""

Row = dict[str, Any]
Pair = tuple[SimNode, SimNode]


@dataclass(slots=True)
class Outcome:
    """How one search went."""

    found: bool
    hops: int
    asked: int
    messages: int
    """Queries that it sent, repeated ones too, and answers that came to it or were lost on the way."""
    first_s: float
    end_s: float
    sybils: float
    """The share of sybils among the closest nodes that it found."""
    warned: bool


class Messages:
    """Counts the datagrams of each search by its info-hash."""

    def __init__(self, world: World, hashes: Sequence[bytes]) -> None:
        self.of = dict.fromkeys(hashes, 0)
        self._asked: dict[tuple[Endpoint, Endpoint, Any], bytes] = {}
        world.on_datagram = self._see

    def _see(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        message: Any = decode(data)
        if message[b"y"] == b"q":
            key = message[b"a"].get(b"info_hash")
            if key in self.of and message[b"q"] == b"get_peers":
                self.of[key] += 1
                self._asked[source, to, message[b"t"]] = key
        else:
            key = self._asked.get((to, source, message[b"t"]))
            if key is not None:
                self.of[key] += 1


def searches(
    world: World,
    pairs: Sequence[Pair],
    hashes: Sequence[bytes],
    *,
    between_s: float = 0.0,
    bad: Iterable[Endpoint] = (),
) -> list[Outcome]:
    """Has each seeder announce its hash and then each searcher look for it, all at once."""
    announces = [world.start(a, GetPeers(key, announce_port=7000)) for (a, _), key in zip(pairs, hashes, strict=True)]
    world.run(90, lambda: all(lookup.done for lookup in announces))
    world.run(between_s)
    began = world.now
    messages = Messages(world, hashes)
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
    world.on_datagram = None
    bad = set(bad)
    outcomes = []
    for index, ((seeder, searcher), lookup) in enumerate(zip(pairs, lookups, strict=True)):
        world.poke(searcher)
        done = searcher.done(lookup)
        closest = {contact.endpoint for contact in done.closest} if done else set()
        outcomes.append(
            Outcome(
                found=searcher.peers(lookup) == [Endpoint(seeder.endpoint.host, 7000)],
                hops=lookup.hops,
                asked=lookup.asked,
                messages=messages.of[hashes[index]],
                first_s=first.get(index, math.inf),
                end_s=ended.get(index, 90.0),
                sybils=len(closest & bad) / max(1, len(closest)),
                warned=done is not None and any(each.eclipse_likely for each in done.confidence),
            )
        )
    return outcomes


def many(world: World, count: int) -> list[Outcome]:
    """Searches by any two nodes, fifty at a time."""
    rng = random.Random(world.seed)
    outcomes: list[Outcome] = []
    for at in range(0, count, AT_ONCE):
        pairs: list[Any] = [tuple(rng.sample(world.living, 2)) for _ in range(min(AT_ONCE, count - at))]
        outcomes += searches(world, pairs, [rng.randbytes(20) for _ in pairs])
    return outcomes


def figures(outcomes: Sequence[Outcome]) -> Row:
    """The row of a point."""

    def at(values: Iterable[float]) -> list[float]:
        ordered = sorted(values)
        return [round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 2) for share in (0.5, 0.9, 0.99)]

    row: Row = {"searches": len(outcomes), "found": sum(each.found for each in outcomes) / len(outcomes)}
    for name in ("hops", "asked", "messages"):
        values = [getattr(each, name) for each in outcomes]
        row[name] = {
            "median": statistics.median(values),
            "mean": round(statistics.fmean(values), 2),
            "max": max(values),
        }
    row["first_s"] = at(each.first_s for each in outcomes if each.found)
    row["end_s"] = at(each.end_s for each in outcomes)
    return row


def by_size(size: int, count: int) -> Row:
    """A network where all is well."""
    world = World(size)
    world.populate(size)
    return {"nodes": size, **figures(many(world, count))}


def by_loss(loss: float, count: int) -> Row:
    """A share of all datagrams is lost; the delays are those of a bad network."""
    world = World(7, loss=loss, delay_s=(0.05, 0.5))
    world.populate(FAULTY_NODES)
    return {"loss": loss, **figures(many(world, count))}


def by_churn(share: float, count: int) -> Row:
    """Half of every table is dead to begin with; all upkeep goes on."""
    world = World(8)
    nodes = world.populate(2 * FAULTY_NODES)
    rng = random.Random(8)
    for node in rng.sample(nodes, FAULTY_NODES):
        world.kill(node)
    world.wake_all()
    keep = rng.sample(world.living, ASKERS)
    churn = Churn(world, share, keep=keep) if share else None
    outcomes: list[Outcome] = []
    for _ in range(0, count, ASKERS):
        rng.shuffle(keep)
        pairs = list(zip(keep, [*keep[1:], keep[0]], strict=True))
        outcomes += searches(world, pairs, [rng.randbytes(20) for _ in pairs], between_s=20.0)
    return {"churn": share, "replaced": churn.replaced if churn else 0, **figures(outcomes)}


def by_sybils(sybils: int, count: int) -> Row:
    """So many around each target, there before the announce: in networks of their own, and all in one /24."""
    row: Row = {"sybils": sybils}
    for spread in (True, False):
        rng = random.Random(9)
        outcomes: list[Outcome] = []
        for at in range(0, count, AT_ONCE):  # a world for each fifty, lest more sybils than nodes be in the tables
            world = World(9 + at)
            world.populate(FAULTY_NODES)
            hashes = [rng.randbytes(20) for _ in range(min(AT_ONCE, count - at))]
            bad: set[Endpoint] = set()
            for turn, info_hash in enumerate(hashes):
                hosts = [f"{66 + turn}.1.{n}.1" if spread else f"{66 + turn}.1.1.{n}" for n in range(sybils)]
                bad |= Sybils(world, info_hash, hosts, rng).endpoints
            world.run(3)
            pairs: list[Any] = [tuple(rng.sample(world.living, 2)) for _ in hashes]
            outcomes += searches(world, pairs, hashes, bad=bad)
        if spread:
            row |= figures(outcomes)
        name = "" if spread else "one_net_"
        row[f"{name}found"] = sum(each.found for each in outcomes) / len(outcomes)
        row[f"{name}closest"] = round(statistics.fmean(each.sybils for each in outcomes), 3)
        row[f"{name}warned"] = sum(each.warned for each in outcomes) / len(outcomes)
    return row


PLANS: dict[str, tuple[str, tuple[Any, ...], Callable[[Any, int], Row]]] = {
    "size": ("nodes", SIZES, by_size),
    "loss": ("loss", LOSSES, by_loss),
    "churn": ("churn", CHURNS, by_churn),
    "sybils": ("sybils", SYBILS, by_sybils),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plots-only", action="store_true", help="draw from docs/simulation.json")
    parser.add_argument("--resume", action="store_true", help="keep the points that docs/simulation.json has")
    parser.add_argument("--only", choices=tuple(PLANS), help="measure one, keep the others")
    parser.add_argument("--searches", type=int, default=400, help="for each point (default: 400)")
    options = parser.parse_args()
    data: dict[str, list[Row]] = json.loads(DATA.read_text()) if DATA.exists() else {}
    for name, (key, values, run) in {} if options.plots_only else PLANS.items():
        if options.only not in (None, name):
            continue
        if not options.resume:
            data[name] = []
        rows = data.setdefault(name, [])
        for value in values:
            if any(row[key] == value for row in rows):
                continue
            began = time.process_time()
            rows.append(run(value, options.searches))
            print(json.dumps(rows[-1]), f"{time.process_time() - began:.0f} s of CPU", flush=True)
            rows.sort(key=lambda row, key=key: row[key])  # type: ignore[misc]
            DATA.write_text(json.dumps(data, indent=1) + "\n")
    print(tables(data))
    draw(data)


def fit(rows: list[Row], name: str) -> tuple[float, float]:
    """Least squares of a mean over log2 of the network's size: value = a + b log2 n."""
    line = statistics.linear_regression([math.log2(row["nodes"]) for row in rows], [row[name]["mean"] for row in rows])
    return line.intercept, line.slope


def tables(data: dict[str, list[Row]]) -> str:
    """The tables of docs/simulation.md."""

    def table(first: str, key: Callable[[Row], str], rows: list[Row]) -> list[str]:
        lines = [
            f"| {first} | found | hops, median / mean / most | asked | messages | first peer, median / 99 % | end |"
        ]
        lines.append("| ---: |" * 1 + " ---: |" * 6)
        for row in rows:
            hops, asked, messages = row["hops"], row["asked"], row["messages"]
            lines.append(
                f"| {key(row)} | {row['found']:.4g} | {hops['median']:g} / {hops['mean']:.2f} / {hops['max']} "
                f"| {asked['median']:g} / {asked['mean']:.1f} | {messages['median']:g} / {messages['mean']:.1f} "
                f"| {row['first_s'][0]:.2f} / {row['first_s'][2]:.2f} s | {row['end_s'][0]:.1f} s |"
            )
        return lines

    lines = table("nodes", lambda row: f"{row['nodes']:,}", data["size"])
    for name in ("hops", "asked", "messages"):
        start, slope = fit(data["size"], name)
        lines.append(f"{name}: {start:.2f} + {slope:.2f} log2 n; at 10 million {start + slope * math.log2(1e7):.1f}")
    lines += table("lost", lambda row: f"{row['loss']:.0%}", data.get("loss", []))
    lines += table("replaced a minute", lambda row: f"{row['churn']:.0%}", data.get("churn", []))
    lines += table("sybils", lambda row: f"{row['sybils']}", data.get("sybils", []))
    lines += [
        f"{row['sybils']}: of the closest {row['closest']:.0%}, warned {row['warned']:.1%}; one /24: found "
        f"{row['one_net_found']:.1%}, of the closest {row['one_net_closest']:.0%}, warned {row['one_net_warned']:.1%}"
        for row in data.get("sybils", [])
    ]
    return "\n".join(lines)


def quiet_style(mpl: Any) -> None:
    """How the plots of docs/ look; the same figures give the same file."""
    mpl.use("svg")
    mpl.rcParams.update(
        {
            "svg.hashsalt": "kademlia-bt",
            "svg.fonttype": "path",  # looks alike wherever it is shown
            "font.size": 9,
            "axes.grid": True,
            "grid.alpha": 0.4,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "savefig.facecolor": "white",
        }
    )


def draw(data: dict[str, list[Row]]) -> None:
    """Writes docs/simulation-size.svg and docs/simulation-faults.svg."""
    import matplotlib as mpl

    quiet_style(mpl)
    from matplotlib import pyplot as plt

    rows = data["size"]
    sizes = [row["nodes"] for row in rows]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    for axis, name, title in ((axes[0], "hops", "hops of a lookup"), (axes[1], "messages", "messages of a lookup")):
        start, slope = fit(rows, name)
        known, beyond = [sizes[0], sizes[-1]], [sizes[-1], 10_000_000]
        axis.plot(known, [start + slope * math.log2(n) for n in known], "-", color="C0", linewidth=1)
        axis.plot(beyond, [start + slope * math.log2(n) for n in beyond], "--", color="C3", label="extrapolated")
        at_last = start + slope * math.log2(beyond[1])
        axis.plot(beyond[1], at_last, "o", mfc="white", color="C3")
        axis.annotate(f"{at_last:.0f}" if at_last > 10 else f"{at_last:.1f}", (beyond[1], at_last), (-4, 6),
                      textcoords="offset points", ha="right", color="C3")  # fmt: skip
        axis.plot(sizes, [row[name]["mean"] for row in rows], "o", color="C0", label="measured, mean")
        axis.plot(sizes, [row[name]["median"] for row in rows], "_", color="C0", label="measured, median")
        axis.set(xscale="log", title=title, xlabel="nodes", ylim=(0, at_last * 1.2))
        axis.legend(loc="lower right")
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
        top.plot(values, [row["found"] * 100 for row in rows], "o-", label="found")
        top.set(title="searches that find the peer, %", xlabel=label, ylim=(0, 104))
        for index, share in enumerate(("median", "90 %", "99 %")):
            bottom.plot(values, [row["first_s"][index] for row in rows], "o-", label=share)
        slowest = max(max(row["first_s"]) for row in rows)
        bottom.set(title="seconds to the first peer", xlabel=label, ylim=(0, slowest * 1.5))
        bottom.legend(loc="upper left", ncols=3, columnspacing=1)
        if name == "sybils":
            top.set_title("searches, %")
            top.plot(values, [row["warned"] * 100 for row in rows], "s--", color="C1", label="warned of an eclipse")
            top.legend(loc="lower left")
            for axis in (top, bottom):
                axis.set_xscale("log", base=2)
                axis.set_xticks(values, [str(value) for value in values])
    figure.savefig(DOCS / "simulation-faults.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
