"""The worlds of `kademlia_bt.testing`, under the name that the tests of this project use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kademlia_bt.testing import Churn, Impostor, Poisoner, Search, SimNode, Sybils, World

__all__ = ["Churn", "Impostor", "Poisoner", "Search", "SimNode", "Sybils", "World", "printed_under"]

_ROOT = Path(__file__).parents[2]


def printed_under(hash_seed: str, program: str) -> str:
    """What a program prints in a process of its own whose hashes of bytes have this seed."""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=_ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    return run.stdout
