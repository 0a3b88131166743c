"""Does our uTP yield? One uTP and one TCP-like flow through a simulated bottleneck; draws docs/utp.svg.

    python benchmarks/bottleneck.py [--out FILE]

The link carries 1 MB/s with 25 ms each way and a queue of 400 ms. uTP runs from the start; TCP from 20 s to 60 s.
The simulation has a clock and a seed of its own: the picture is the same on every machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.sim.path import A, B, TcpFlow
from tests.sim.path import Path as Link
from wire.utp.connection import UtpConnection

RATE = 1_000_000
TCP_FROM_S, TCP_UNTIL_S, END_S = 20, 60, 80
STEP_S = 0.5


def simulate() -> list[tuple[float, float, float, float]]:
    """(second, uTP's share of the link, TCP's, queue in ms) for each half second."""
    link = Link(2, rate=RATE, delay_s=0.025, queue_s=0.4)
    dialled = link.muxes[A].dial(B, link.now)
    tcp = TcpFlow(link)
    accepted: list[UtpConnection] = []
    data, room = memoryview(bytes(1 << 20)), memoryview(bytearray(1 << 16))
    begun = link.now
    got = before = before_tcp = 0
    at_most = 0.0
    rows: list[tuple[float, float, float, float]] = []

    def step() -> bool:
        nonlocal got, before, before_tcp, at_most
        accepted.extend(link.muxes[B].accepted())
        for connection in accepted:
            while count := connection.read_into(room):
                got += count
            link.muxes[B].touch(connection)
        dialled.write(data)
        link.muxes[A].touch(dialled)
        second = link.now - begun
        at_most = max(at_most, link.queue_of(A))
        if second >= TCP_FROM_S and not tcp.running and second < TCP_UNTIL_S:
            tcp.start()
        if second >= TCP_UNTIL_S:
            tcp.stop()
        if second >= (len(rows) + 1) * STEP_S:
            share, of_tcp = (got - before) / STEP_S / RATE, (tcp.delivered_bytes - before_tcp) / STEP_S / RATE
            rows.append((second, share, of_tcp, at_most * 1e3))
            before, before_tcp, at_most = got, tcp.delivered_bytes, 0.0
        return second >= END_S

    link.run(step)
    return rows


def draw(rows: list[tuple[float, float, float, float]]) -> str:
    """The picture: shares of the link above, the queue below."""
    width, left, top, high, low = 720, 60, 40, 180, 90

    def x(second: float) -> float:
        return left + second / END_S * (width - left - 20)

    def line(values: list[tuple[float, float]], color: str) -> str:
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in values)
        return f'<polyline fill="none" stroke="{color}" stroke-width="1.6" points="{points}"/>'

    def share(value: float) -> float:
        return top + high * (1 - min(value, 1.1) / 1.1)

    base = top + high + 50

    def queue(value: float) -> float:
        return base + low * (1 - min(value, 450) / 450)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {base + low + 40}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{base + low + 40}" fill="white"/>',
        f'<text x="{left}" y="20">Share of a link of 1 MB/s: uTP from the start, TCP from 20 s to 60 s</text>',
        f'<text x="{left}" y="{base - 12}">Queue before the link (ms, its highest in each half second)</text>',
    ]
    for value in (0, 0.5, 1):
        y = share(value)
        parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.0%}</text>')
    for value in (0, 100, 400):
        y = queue(value)
        parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    for second in range(0, END_S + 1, 10):
        parts.append(f'<text x="{x(second):.1f}" y="{base + low + 20}" text-anchor="middle">{second} s</text>')
    parts.append(line([(x(s), share(u)) for s, u, _, _ in rows], "#1f77b4"))
    parts.append(line([(x(s), share(t)) for s, _, t, _ in rows if s >= TCP_FROM_S], "#d62728"))
    parts.append(line([(x(s), queue(q)) for s, _, _, q in rows], "#555"))
    parts.append(f'<text x="{x(5):.1f}" y="{share(0.85):.1f}" fill="#1f77b4">uTP</text>')
    parts.append(f'<text x="{x(38):.1f}" y="{share(0.75):.1f}" fill="#d62728">TCP</text>')
    parts.append("</svg>\n")
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "utp.svg")
    out = parser.parse_args().out
    rows = simulate()

    def mean(column: int, begin: float, end: float) -> float:
        values = [row[column] for row in rows if begin < row[0] <= end]
        return sum(values) / len(values)

    print(f"uTP alone: {mean(1, 5, TCP_FROM_S):.0%} of the link")
    print(f"beside TCP: {mean(1, TCP_FROM_S, 40):.0%} in its first 20 s, then {mean(1, 40, TCP_UNTIL_S):.0%}")
    print(f"TCP then: {mean(2, 40, TCP_UNTIL_S):.0%}")
    print(f"uTP afterwards: {mean(1, TCP_UNTIL_S + 5, END_S):.0%}")
    out.write_text(draw(rows), encoding="utf-8")
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
