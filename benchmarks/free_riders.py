"""Who gives and who only takes: when each is done, and how many copies a seed gives, in simulated swarms.

    python benchmarks/free_riders.py               # measures (some minutes on one core) and draws docs/giving.svg
    python benchmarks/free_riders.py --plot-only   # draws it anew from docs/giving.json

Drawing needs matplotlib (`pip install -e .[docs]`). The swarms are those of the tests (`tests/sim/brains.py`): the
deciding half of each peer, joined by pipes with a delay of 20 ms, each peer's line up shared by all that it sends.
Each swarm has a seed of its own, so the numbers are the same again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DATA = DOCS / "giving.json"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.sim.brains import World  # noqa: E402 - found by the line above
from tests.sim.test_giving import copies, swarm  # noqa: E402
from tests.sim.test_swarm import KB, make  # noqa: E402

RIDERS_SIZE = 4096 * KB
RIDERS_LINE_BYTES_S = 200e3
OF_EACH = 10
SWARMS = 10
CROWDS = ((30, 6, 2048 * KB), (200, 6, 512 * KB))
"""Peers, how many others each is told of, bytes."""
CROWD_LINE_BYTES_S = 1e6
TIMES_AS_FAST = (1, 5, 30)
"""The seed's line beside that of each other."""


def free_riders(chance: int) -> dict[str, list[float]]:
    """Seconds until each is done, where half of the leechers give nothing."""
    info, data = make(RIDERS_SIZE, 32 * KB)
    world = World(chance)
    seed = world.brain(info, data, up_bytes_s=RIDERS_LINE_BYTES_S)
    givers = [world.brain(info, up_bytes_s=RIDERS_LINE_BYTES_S) for _ in range(OF_EACH)]
    takers = [world.brain(info, up_bytes_s=RIDERS_LINE_BYTES_S, upload_slots=0) for _ in range(OF_EACH)]
    began = world.now
    world.introduce(seed, *givers, *takers)
    world.run(lambda: all(other.done for other in givers + takers))
    return {
        name: [round(other.finished_at - began, 2) for other in others if other.finished_at is not None]
        for name, others in (("give", givers), ("take", takers))
    }


def measure() -> dict[str, Any]:
    """All of it; a line for each swarm."""
    done: dict[str, list[float]] = {"give": [], "take": []}
    for chance in range(1, SWARMS + 1):
        for name, times in free_riders(chance).items():
            done[name] += times
            print(f"swarm {chance}: who {name}s is done after {statistics.median(times):.1f} s (median)", flush=True)
    rows = []
    for leechers, neighbours, size in CROWDS:
        for times_as_fast in TIMES_AS_FAST:
            for super_seed in (False, True):
                seed = swarm(
                    leechers,
                    neighbours=neighbours,
                    size=size,
                    seed_bytes_s=times_as_fast * CROWD_LINE_BYTES_S,
                    others_bytes_s=CROWD_LINE_BYTES_S,
                    super_seed=super_seed,
                )
                row = {
                    "leechers": leechers,
                    "times_as_fast": times_as_fast,
                    "super_seed": super_seed,
                    "copies": round(copies(seed), 3),
                    "seconds": round(seed.world.now - 100.0, 1),
                }
                rows.append(row)
                print(row, flush=True)
    return {"done_s": {name: sorted(times) for name, times in done.items()}, "copies": rows}


def draw(measured: dict[str, Any]) -> None:
    """docs/giving.svg."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "giving", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    )
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(1, 1.15), layout="constrained")
    for name, label, colour in (("give", "who give", "#1b7f5c"), ("take", "free riders", "#c0392b")):
        times = measured["done_s"][name]
        share = [100.0 * (rank + 1) / len(times) for rank in range(len(times))]
        left.step([0.0, *times], [0.0, *share], where="post", color=colour, label=label, linewidth=2)
        left.axvline(statistics.median(times), color=colour, linestyle=":", linewidth=1)
    left.set(xlabel="seconds since all came at once", ylabel="done (%)", ylim=(0, 102), xlim=(0, None))
    left.set_title("Half of 20 leechers give nothing", loc="left")
    left.legend(loc="upper left", frameon=False)
    rows = measured["copies"]
    groups = list(dict.fromkeys((row["leechers"], row["times_as_fast"]) for row in rows))
    for offset, super_seed, label, colour in (
        (-0.19, False, "plain", "#34699a"),
        (0.19, True, "super-seeding", "#e0a030"),
    ):
        of = {(row["leechers"], row["times_as_fast"]): row["copies"] for row in rows if row["super_seed"] == super_seed}
        heights = [of[group] for group in groups]
        bars = right.bar([at + offset for at in range(len(groups))], heights, 0.36, color=colour, label=label)
        right.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    right.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    names = [f"{leechers} peers,\nseed × {times}" for leechers, times in groups]
    right.set_xticks(range(len(groups)), names)
    right.set(ylabel="copies that the seed gave", ylim=(0, max(row["copies"] for row in rows) * 1.3))
    right.set_title("What the first seed gives; its line × that of a peer", loc="left")
    right.legend(loc="upper right", frameon=False, ncols=2)
    figure.savefig(DOCS / "giving.svg", metadata={"Date": None})


def main() -> None:
    """Measures, unless told to draw alone."""
    parser = argparse.ArgumentParser(description="Free riders, and what a seed gives.")
    parser.add_argument("--plot-only", action="store_true", help="draw what docs/giving.json has")
    if not parser.parse_args().plot_only:
        DATA.write_text(json.dumps(measure(), indent=1) + "\n")
    measured = json.loads(DATA.read_text())
    for name, times in measured["done_s"].items():
        print(f"who {name}s: median {statistics.median(times):.1f} s, first {times[0]:.1f}, last {times[-1]:.1f}")
    draw(measured)


if __name__ == "__main__":
    main()
