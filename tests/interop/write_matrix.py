"""Runs the cells of test_matrix.py and writes docs/interop.md from what came of them.

python tests/interop/write_matrix.py            all cells; about three minutes
python tests/interop/write_matrix.py REPORT     from the JUnit report of a run that was made before
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.interop.clients import CLIENTS, version_of  # noqa: E402
from tests.interop.test_matrix import CANNOT, CELLS  # noqa: E402

PAGE = REPOSITORY / "docs" / "interop.md"

HEAD = """# Other clients

What six clients that nobody here wrote do with `magnet`, both ways where there are two. Made by
`python tests/interop/write_matrix.py`, which runs the tests of tests/interop/test_matrix.py. They run with the others
too (`pytest -m interop`), and each is skipped where its client is not installed.

"""

NOTES = """
✓: it works. A number refers to what the client cannot do:

"""

LEGEND = """
| column | what is done |
| --- | --- |
| they seed, they leech | three files of 1.5 MB, from a .torrent; we dial |
| magnet | the info-hash alone: the metadata comes from the peer, theirs to us and ours to them |
| MSE required | the client takes encrypted connections alone, with RC4 where it can choose; when we seed, so do we |
| uTP only | we have no TCP, the client has uTP |
| PEX hand-over | one of ours, told of the client alone, is named another one by it |
| v2, hybrid | the same with a torrent of version 2 (BEP 52), or of both, that `magnet create` made |
| web seed | the client gets a torrent that `magnet create --web-seed` made from nginx alone |
| HTTP tracker, UDP tracker | the client finds our seed by a tracker alone |
| IPv6 | both ways as in the first two columns, over IPv6 alone; trackers, LSD, DHT and PEX over it: test_ipv6.py |

libtorrent is the PyPI wheel; aria2, transmission, qBittorrent and rTorrent are Debian's packages, WebTorrent is npm's.
transmission refuses loopback peers and runs in a network namespace. The links of aria2 and rTorrent name a tracker:
they take no connection for a link before they have its metadata.
"""


def outcomes(report: Path) -> dict[tuple[str, str], str]:
    """By client and cell: "passed", or what else came of it."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        cell, _, client = (case.get("name") or "").removeprefix("test_cell[").removesuffix("]").rpartition("-")
        bad = [child for child in case if child.tag in ("failure", "error", "skipped")]
        found[client, cell] = "passed" if not bad else f"{bad[0].tag}: {bad[0].get('message')}"
    return found


def page(found: dict[tuple[str, str], str]) -> str:
    """The text of docs/interop.md."""
    reasons: list[str] = []
    rows = [f"| | {' | '.join(CELLS)} |", "| --- |" + " --- |" * len(CELLS)]
    for client in CLIENTS:
        row = [f"{client} {version_of(client)}".strip()]
        for cell in CELLS:
            reason = CANNOT.get((client, cell))
            if reason is not None:
                if reason not in reasons:
                    reasons.append(reason)
                row.append(f"({reasons.index(reason) + 1})")
            else:
                row.append("✓" if found.get((client, cell)) == "passed" else "✗")
        rows.append("| " + " | ".join(row) + " |")
    listed = "".join(f"{number}. {reason}\n" for number, reason in enumerate(reasons, 1))
    return HEAD + "\n".join(rows) + "\n" + NOTES + listed + LEGEND


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            report = Path(sys.argv[1])
        else:
            report = Path(folder) / "report.xml"
            cells = [str(REPOSITORY / "tests" / "interop" / "test_matrix.py"), "-k", "test_cell"]
            tests = [*cells, "-n", "4", "-q", f"--junitxml={report}"]
            subprocess.run([sys.executable, "-m", "pytest", *tests], check=False, cwd=REPOSITORY)
        found = outcomes(report)
    PAGE.write_text(page(found))
    bad = {key: what for key, what in found.items() if what != "passed" and key not in CANNOT}
    for (client, cell), what in bad.items():
        print(f"{client}, {cell}: {what}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
