"""The examples of docs/simulation.md are run as the pytest files that they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "simulation.md").read_text(encoding="utf-8")


def test_the_examples_hold(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        (tmp_path / f"test_example_{number}.py").write_text(block, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugins = ("-p", "kademlia_bt.testing.plugin", "-p", "pytest_trio.plugin")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins], cwd=tmp_path, env=env, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert "4 passed" in run.stdout, run.stdout + run.stderr
