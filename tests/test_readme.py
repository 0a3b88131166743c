"""What the docs tell people to type is run: the library's examples, and the test command that .ci/run takes out."""

from __future__ import annotations

import functools
import io
import re
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import kademlia_bt
import kademlia_bt.node
from tests.interop.harness import REPOSITORY, free_port, make_tree
from tests.interop.harness import kademlia_bt as node_command
from tests.interop.harness import magnet as magnet_command
from wire.compact import Endpoint
from wire.metainfo import create

README = (REPOSITORY / "README.md").read_text()
LIBRARY = (REPOSITORY / "docs" / "library.md").read_text()
EXAMPLES = [
    (page, number, code)
    for page, text in (("README.md", README), ("library.md", LIBRARY))
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL), 1)
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """A node, and a seeder that announced itself there: what the examples may name."""
    folder = tmp_path_factory.mktemp("readme")
    make_tree(folder / "data" / "holiday", {"beach.jpg": 200_000, "notes.txt": 1_000})
    torrent = create(folder / "data" / "holiday", piece_length=16_384)
    (folder / "holiday.torrent").write_bytes(torrent.to_bytes())
    bootstrap, listen = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with (
        node_command("run", "--listen", bootstrap, "--bootstrap", bootstrap, "--per-ip-limit", "0", "--json") as node,
        magnet_command(
            "seed", folder / "holiday.torrent", "--data", folder / "data", "--bootstrap", bootstrap,
            "--listen", listen, "--json", state=folder / "state",
        ) as seed,
    ):  # fmt: skip
        node.wait_event("listening")
        seed.wait_event("seeding")
        assert torrent.info_hash_v1 is not None
        hexadecimal = torrent.info_hash_v1.hex()
        yield {
            "link": f"magnet:?xt=urn:btih:{hexadecimal}&x.pe={listen}",
            "info_hash": torrent.info_hash_v1,
            "bootstrap": bootstrap,
        }


@pytest.mark.parametrize(("page", "number", "code"), EXAMPLES, ids=[f"{page}-{at}" for page, at, _ in EXAMPLES])
def test_an_example_runs(
    page: str, number: int, code: str, world: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _, port = str(world["bootstrap"]).rpartition(":")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kademlia_bt.node, "ROUTERS", ((host, int(port)),))  # instead of the public ones
    here = functools.partial(kademlia_bt.Node, listen=[Endpoint("127.0.0.1", 0)])
    monkeypatch.setattr(kademlia_bt, "Node", here)
    said = io.StringIO()
    with redirect_stdout(said):
        exec(compile(code, f"{page}, example {number}", "exec"), dict(world))
    promised = re.findall(r"#> (.*)", code)
    assert said.getvalue().split("\n")[: len(promised)] == promised


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 10


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """The extraction in .ci/run, as it stands there, finds one command that runs pytest."""
    line = next(line for line in (REPOSITORY / ".ci" / "run").read_text().splitlines() if line.startswith("command="))
    shown = subprocess.run(
        ["bash", "-c", f'{line}; echo "$command"'], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert len(shown.stdout.splitlines()) == 1
    assert "pytest" in shown.stdout
    assert shown.stdout.strip() in README
