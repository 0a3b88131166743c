"""How many files and sockets this process may have open: all that keep some open share that number."""

from __future__ import annotations

import sys
from contextlib import suppress

__all__ = ["open_files", "raise_open_files"]

_ENOUGH = 1 << 16
"""More than any session uses; macOS takes no number without end."""

if sys.platform == "win32":

    def open_files() -> int:
        """How many may be open."""
        return 8192  # what the C library can be asked for at most; sockets are not among them

    def raise_open_files() -> None:
        """Nothing can be raised here."""
else:
    import resource

    def open_files() -> int:
        """How many may be open."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _ENOUGH if soft == resource.RLIM_INFINITY else soft

    def raise_open_files() -> None:
        """Raises the process's own limit as far as the system lets it: for programs, which are alone in their process.

        The usual 1,024, or 256 on macOS, are for programs that cannot count higher.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
        if soft != resource.RLIM_INFINITY and soft < most:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
