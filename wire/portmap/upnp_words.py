"""What this process and the one that speaks UPnP say to each other: one JSON line each way. Values alone, no I/O.

The other process hears strangers, so its answer is read as a stranger's: a bounded line, each field checked, and
nothing in it that leads anywhere but to a device nearby.
"""

from __future__ import annotations

import enum
import ipaddress
import json
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from wire.compact import reach
from wire.errors import ProtocolError
from wire.http_url import printable

__all__ = [
    "GROUP_HOST",
    "GROUP_PORT",
    "MAX_LINE_BYTES",
    "Answer",
    "Errand",
    "Verb",
    "answer_line",
    "is_nearby",
    "leads_to",
    "read_answer",
    "read_errand",
    "refusal_line",
]

GROUP_HOST, GROUP_PORT = "239.255.255.250", 1900
"""Where gateways hear a search (UPnP Device Architecture, SSDP)."""
MAX_LINE_BYTES = 8192
_MAX_URL_CHARS = 2048
_MAX_REFUSAL_CHARS = 160


class Verb(enum.StrEnum):
    """What is to be done at the gateway."""

    LOOK = "look"
    """Find it and its address outside; change nothing."""
    MAP = "map"
    UNMAP = "unmap"


@dataclass(frozen=True, slots=True)
class Errand:
    """One visit to the gateway, for TCP and UDP alike."""

    verb: Verb
    own: str
    """Our IPv4 address on the gateway's side."""
    port: int = 0
    """The same inside and outside."""
    lease_s: int = 0
    """Seconds; a gateway that knows no leases is asked for a mapping without end in their place."""
    location: str | None = None
    """Where the device describes itself, as an earlier answer said; None: it is searched for."""
    group: tuple[str, int] = (GROUP_HOST, GROUP_PORT)
    """Where it is searched for."""

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it, where the gateway did what was asked."""

    location: str
    host: str | None
    """The gateway's IPv4 address outside; None where it says none."""


def read_errand(line: bytes) -> Errand:
    """Reads what our own parent sent."""
    plain = json.loads(line)
    return Errand(**{**plain, "verb": Verb(plain["verb"]), "group": tuple(plain["group"])})


def answer_line(location: str, host: object) -> bytes:
    """What is said of success."""
    return json.dumps({"location": location, "host": host}).encode() + b"\n"


def refusal_line(reason: str) -> bytes:
    """What is said where nothing came of it: `reason` for people."""
    return json.dumps({"refusal": printable(reason, _MAX_REFUSAL_CHARS)}).encode() + b"\n"


def read_answer(line: bytes) -> Answer:
    """Raises ProtocolError for a refusal, with its reason, and for whatever is no answer."""
    try:
        plain = json.loads(line[:MAX_LINE_BYTES])
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict):
        raise ProtocolError("what speaks UPnP for us answers nonsense")
    if isinstance(refusal := plain.get("refusal"), str):
        raise ProtocolError(printable(refusal, _MAX_REFUSAL_CHARS))
    location = plain.get("location")
    if not isinstance(location, str) or len(location) > _MAX_URL_CHARS or not is_nearby(location):
        raise ProtocolError("what speaks UPnP for us names a device that is none")
    return Answer(location, _address(plain.get("host")))


def _address(text: object) -> str | None:
    try:
        return str(ipaddress.IPv4Address(text)) if isinstance(text, str) else None
    except ValueError:
        return None


def is_nearby(url: str) -> bool:
    """Whether it leads, by http, to an address of a private network or this machine."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return reach(host) in ("private", "loopback") and leads_to(url, host)


def leads_to(url: str, host: str) -> bool:
    """Whether a device's URL leads to `host`, by http, and is nothing else than that."""
    try:
        parts = urlsplit(url)
        return url.isprintable() and parts.scheme == "http" and parts.hostname == host and (parts.port or 80) > 0
    except ValueError:
        return False
