"""How many examples hypothesis tries: few and the same ones always, or many and others each time (`explore`)."""

from __future__ import annotations

import os

__all__ = ["PROFILE", "examples"]

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "steady")
TIMES = 20 if PROFILE == "explore" else 1


def examples(count: int) -> int:
    """What a test's settings give for `max_examples`: a fixed number would hold for long runs too."""
    return count * TIMES
