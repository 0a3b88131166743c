"""`magnet` and `python -m magnet`."""

from __future__ import annotations

import sys

from kademlia_bt.commands.console import ExitCode, complain, hide_tracebacks, run_app

__all__ = ["main"]


def main() -> None:
    """Runs the command and ends the process with its exit code."""
    hide_tracebacks("magnet")
    from magnet.cli import app

    if sys.argv[1:2] and sys.argv[1].lower().startswith("magnet:"):
        complain(
            "magnet", "a command is missing before the link: 'magnet get LINK' for the files, 'magnet --help' for more"
        )
        sys.exit(ExitCode.BAD_INPUT)
    sys.exit(run_app(app, "magnet"))


if __name__ == "__main__":
    main()
