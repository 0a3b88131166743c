"""Lists of addresses that are not talked to, in the forms that people pass around. Reading and asking; no sockets.

P2P (`name:first-last`), DAT (`first - last , level , name`; levels above 127 let through), CIDR and plain addresses, a
line each, IPv4 and IPv6, also gzipped. The ranges are sorted and joined once; a question is a search among them.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

from wire.errors import MisuseError

__all__ = ["BlockList"]

MAX_FILE_BYTES = 128 << 20
"""After unpacking; the longest lists that go around have some 20 MB."""
MAX_RANGES = 2_000_000
MAX_LINE_CHARS = 1000
_PERMITTED_FROM = 128
"""Levels of DAT lists from here on do not block."""
_MEMORY = 65_536
"""Answers that are remembered."""

_V4_RANGE = re.compile(
    r"(?:^|.*:)\s*(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\s*-\s*(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})"
    r"\s*(?:,\s*(\d{1,4})\s*(?:,.*)?)?$",
    re.ASCII,
)
_V6_RANGE = re.compile(r"(.*[0-9a-f:])\s*-\s*([0-9a-f:.]+)$", re.ASCII | re.IGNORECASE)


class BlockList:
    """Ranges of addresses. `host in block_list` for an address in its canonical text form."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """Raises MisuseError for more than two million ranges."""
        self.bad_lines = 0
        """Lines that say nothing that is known here."""
        self.first_bad_line: int | None = None
        """Counted from 1."""
        v4: list[tuple[int, int]] = []
        v6: list[tuple[int, int]] = []
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith(("#", ";", "//")):
                continue
            try:
                found = _range_of(text) if len(text) <= MAX_LINE_CHARS else None
            except ValueError:
                found = None
            if found is None:
                self.bad_lines += 1
                self.first_bad_line = self.first_bad_line or number
            elif found[1] <= found[2]:
                (v4 if found[0] == 4 else v6).append(found[1:])
            if len(v4) + len(v6) > MAX_RANGES:
                raise MisuseError(f"the block list has more than {MAX_RANGES} ranges")
        starts, ends = _joined(v4)
        self._v4 = array("L", starts), array("L", ends)
        self._v6 = _joined(v6)
        self._known: dict[str, bool] = {}

    @classmethod
    def load(cls, path: Path) -> BlockList:
        """Reads a file. Raises MisuseError where it cannot be read, is over-long or holds nothing of the kind."""
        try:
            data = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else b""
        except (OSError, ValueError) as error:
            raise MisuseError(f"cannot read the block list {path}: {getattr(error, 'strerror', error)}") from None
        if data[:2] == b"\x1f\x8b":
            data = _unpacked(data, path)
        elif not data and path.stat().st_size:
            raise MisuseError(f"the block list {path} has more than {MAX_FILE_BYTES >> 20} MiB")
        made = cls(data.decode("utf-8-sig", "replace").splitlines())
        if not len(made) and made.bad_lines:
            raise MisuseError(
                f"{path} is no block list: no line is 'name:first-last', 'first - last , level , name' or ADDRESS/BITS"
            )
        return made

    def __len__(self) -> int:
        """Ranges, after those that touch were joined."""
        return len(self._v4[0]) + len(self._v6[0])

    def __contains__(self, host: str) -> bool:
        known = self._known.get(host)
        if known is None:
            known = self._search(host)
            if len(self._known) >= _MEMORY:
                self._known.clear()
            self._known[host] = known
        return known

    def _search(self, host: str) -> bool:
        six = ":" in host
        try:
            value = int.from_bytes(socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, host), "big")
        except OSError:
            return False
        starts, ends = self._v6 if six else self._v4
        at = bisect_right(starts, value) - 1
        return at >= 0 and value <= ends[at]

    @property
    def warning(self) -> str | None:
        """What is to be said of lines that were passed over; None where there are none."""
        if not self.bad_lines:
            return None
        lines = "1 line was" if self.bad_lines == 1 else f"{self.bad_lines} lines were"
        return f"the block list: {lines} not understood and passed over, the first is line {self.first_bad_line}"


def _unpacked(data: bytes, path: Path) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    try:
        out = inflate.decompress(data, MAX_FILE_BYTES + 1)
    except zlib.error:
        raise MisuseError(f"the block list {path} is no whole gzip file") from None
    if len(out) > MAX_FILE_BYTES:
        raise MisuseError(f"the block list {path} has more than {MAX_FILE_BYTES >> 20} MiB when unpacked")
    if not inflate.eof:
        raise MisuseError(f"the block list {path} is no whole gzip file")
    return out


def _range_of(text: str) -> tuple[int, int, int] | None:
    """(version, first, last); a range whose last comes first blocks nothing. None or ValueError: not understood."""
    match = _V4_RANGE.match(text)
    if match is not None:
        a, b, c, d, e, f, g, h = (int(part) for part in match.groups()[:8])
        if max(a, b, c, d, e, f, g, h) > 255:
            return None
        if match[9] is not None and int(match[9]) >= _PERMITTED_FROM:
            return 4, 1, 0
        return 4, a << 24 | b << 16 | c << 8 | d, e << 24 | f << 16 | g << 8 | h
    match = _V6_RANGE.match(text)
    if match is not None and ":" in match[2]:
        last = int(ipaddress.IPv6Address(match[2]))
        left = match[1]
        while left:  # the name before it may hold colons too
            try:
                return 6, int(ipaddress.IPv6Address(left.strip())), last
            except ValueError:
                left = left.partition(":")[2]
        return None
    network = ipaddress.ip_network(text, strict=False)
    return network.version, int(network.network_address), int(network.broadcast_address)


def _joined(ranges: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    starts: list[int] = []
    ends: list[int] = []
    for start, end in sorted(ranges):
        if ends and start <= ends[-1] + 1:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends
