"""The worlds of `kademlia_bt.testing`, under the name that the tests of this project use."""

from __future__ import annotations

from kademlia_bt.testing import Churn, Impostor, Poisoner, Search, SimNode, Sybils, World

__all__ = ["Churn", "Impostor", "Poisoner", "Search", "SimNode", "Sybils", "World"]
