"""How far the closest nodes that a lookup found can be trusted, judged by how densely they stand. No I/O.

Ids are spread evenly, so the distance of the 8th closest node tells how many nodes there are: the lookups of
random targets that keep a table alive measure the network as they go. Around one target the same distance must
come out. Where nodes crowd there instead, they chose their ids: sybils that want to be the only ones asked
(an eclipse, see hijacks of the mainline DHT). It warns; it hides nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from statistics import median

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.node_id import ID_BITS, is_secure, number
from kademlia_bt.dht.table import K
from wire.compact import Family

__all__ = ["Confidence", "NetworkSize", "judge"]

_SPACE = float(1 << ID_BITS)
_MEDIAN_SHIFT = 1 / 3
"""The k-th of evenly strewn nodes is, in half of all cases, nearer than the average place of number k - 1/3."""
_MAX_SAMPLES = 32
_FEW_SAMPLES = 4
_MARGIN_FEW = 5.0
_MARGIN = 2.5
"""How many times larger than estimated the network may be: one sample is within a factor of 2.5 in 99 of 100 cases."""
_CHANCE = 1e-6
"""Closer together than chance would put them once in a million lookups: somebody put them there."""
_LIKELY = K // 2
"""A single node close to a target is common (indexers do so); half of the set is not."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """What speaks for and against the closest nodes that a lookup found in one family."""

    family: Family
    nodes: int
    """How many there are, at most 8."""
    secure: int
    """How many have an id that fits their address (BEP 42); loopback and private addresses count as fitting."""
    network_size: int | None
    """The estimated number of nodes in the whole network; None while it was not measured yet."""
    density: float | None
    """How much denser than elsewhere nodes stand around the target: about 1 (0.4 to 2.5) where all is well. None where
    the network's size is unknown or no node answered."""
    crowd: int
    """How many of the closest stand nearer than chance could put them."""

    @property
    def eclipse_likely(self) -> bool:
        """Whether half of the closest set was most likely put there by one owner."""
        return self.crowd >= _LIKELY

    @property
    def summary(self) -> str:
        """One line for people."""
        said = f"{self.nodes} closest {self.family.name} nodes, {self.secure} with an id that fits their address"
        if self.network_size is None or self.density is None:
            return f"{said}; how large the network is was not measured yet"
        return f"{said}; about {self.network_size:,} nodes in all, {self.density:.1f} times as dense here as elsewhere"

    @property
    def warning(self) -> str | None:
        """One line for people where an eclipse is likely, else None."""
        if not self.eclipse_likely:
            return None
        return (
            f"{self.crowd} of the {self.nodes} closest {self.family.name} nodes crowd around this target, "
            f"{self.density:,.0f} times denser than elsewhere: somebody may be hiding what others stored there "
            f"({self.secure} of them have an id that fits their address)"
        )


class NetworkSize:
    """Estimates how many nodes a network has, from lookups of targets that nobody else chose."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_MAX_SAMPLES)

    def sample(self, target: bytes, closest: Sequence[Contact]) -> None:
        """Takes the closest nodes of one finished lookup. Fewer than 8 are the whole network, or a failed lookup."""
        if not closest:
            return
        if len(closest) < K:
            self._samples.append(float(len(closest)))
        else:
            self._samples.append(_nodes_by(len(closest), _distances(target, closest)[-1]))

    @property
    def nodes(self) -> int | None:
        """The estimate, ourselves not counted; None before the first sample. Of 10 samples most are within 20 %."""
        return round(median(self._samples)) if self._samples else None

    @property
    def margin(self) -> float:
        """How many times larger the network may well be."""
        return _MARGIN_FEW if len(self._samples) < _FEW_SAMPLES else _MARGIN


def judge(family: Family, target: bytes, closest: Sequence[Contact], size: NetworkSize) -> Confidence:
    """Judges the closest nodes of one family that a lookup for `target` found; more than 8 are cut."""
    by_distance = sorted(closest, key=lambda contact: number(contact.id) ^ number(target))[:K]
    secure = sum(is_secure(contact.id, contact.endpoint) for contact in by_distance)
    nodes = size.nodes
    if nodes is None or not by_distance:
        return Confidence(family, len(by_distance), secure, nodes, None, 0)
    distances = _distances(target, by_distance)
    crowd = 0
    for count, distance in enumerate(distances, 1):
        if _chance_of(count, nodes * size.margin * distance) < _CHANCE:
            crowd = count
    density = _nodes_by(len(distances), distances[-1]) / nodes if len(distances) == K else 1.0
    if crowd:  # of the crowd itself: those behind it may be honest
        density = max(density, _nodes_by(crowd, distances[crowd - 1]) / nodes)
    return Confidence(family, len(by_distance), secure, nodes, density, crowd)


def _distances(target: bytes, contacts: Sequence[Contact]) -> list[float]:
    """In order, as shares of the whole space; never 0."""
    at = number(target)
    return sorted(max(number(contact.id) ^ at, 1) / _SPACE for contact in contacts)


def _nodes_by(count: int, distance: float) -> float:
    """How many nodes there are where number `count` stands at this distance, as the median has it."""
    return (count - _MEDIAN_SHIFT) / distance


def _chance_of(count: int, expected: float) -> float:
    """How likely at least `count` stand where `expected` do on average (Poisson's law)."""
    if expected >= count:
        return 1.0
    term = exp(-expected)
    for index in range(1, count + 1):
        term *= expected / index
    total = 0.0
    for index in range(count, count + 40):
        total += term
        term *= expected / (index + 1)
    return total
