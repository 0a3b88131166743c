"""`kademlia-bt` and `python -m kademlia_bt`."""

from __future__ import annotations

import sys

from kademlia_bt.commands.console import hide_tracebacks, run_app

__all__ = ["main"]


def main() -> None:
    """Runs the command and ends the process with its exit code."""
    hide_tracebacks("kademlia-bt")
    from kademlia_bt.commands.cli import app

    sys.exit(run_app(app, "kademlia-bt"))


if __name__ == "__main__":
    main()
