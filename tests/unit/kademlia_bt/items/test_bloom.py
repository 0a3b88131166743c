"""BEP 33's filter against its vector, and its estimate against the truth."""

import ipaddress
import math
import random

import pytest

from kademlia_bt.items.bloom import BloomFilter
from wire.errors import ProtocolError

VECTOR = bytes.fromhex(
    "F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAEFE5EEDB1FBFAFF67F6ABFF5E"
    "43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B7FF3B8FDFCDE1AFB8BEDD7BE2F3EE71EBBBFE93BCDEEFE14"
    "8246C2BC5DBFF7E7EFDCF24FD8DC7ADFFD8FFFDFDDFFF7A4BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3"
    "FA1FC77BFE07FFF905B7B7FFC7FEFEFFE0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5BFAF2E9EBFFFFEECD67ADBF7"
    "C67F17EFD5D75EBA6FFEBA7FFF47A91EB1BFBB53E8ABFB5762ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB"
    "737FFFFBFD9F6AEFFEEE76B6FD8F72EF"
)


def test_vector() -> None:
    made = BloomFilter()
    made.update(ipaddress.IPv4Address(f"192.0.2.{n}").packed for n in range(256))
    made.update((ipaddress.IPv6Address("2001:db8::") + n).packed for n in range(0x3E8))
    assert made.to_bytes() == VECTOR
    assert BloomFilter.from_bytes(VECTOR) == made
    assert made.estimate.size == pytest.approx(1224.9308, abs=1e-4)


def test_union_and_membership() -> None:
    a, b = BloomFilter(), BloomFilter()
    a.add(b"\x01\x02\x03\x04")
    b.add(b"\x05\x06\x07\x08")
    both = a | b
    assert b"\x01\x02\x03\x04" in both
    assert b"\x05\x06\x07\x08" in both
    assert b"\x05\x06\x07\x08" not in a


@pytest.mark.parametrize("size", [0, 255, 257])
def test_other_widths_are_refused(size: int) -> None:
    with pytest.raises(ProtocolError):
        BloomFilter.from_bytes(bytes(size))


@pytest.mark.parametrize("true_count", [1, 20, 300, 2000])
def test_the_truth_lies_within_the_stated_error(true_count: int) -> None:
    rng = random.Random(true_count)
    scores = []
    for _ in range(60):
        made = BloomFilter()
        made.update(rng.randbytes(4) for _ in range(true_count))
        estimate = made.estimate
        scores.append((estimate.size - true_count) / max(estimate.error, 0.5))
    spread = math.sqrt(sum(score * score for score in scores) / len(scores))
    assert spread < 1.4  # one standard deviation, give or take what 60 draws allow


def test_empty_and_full() -> None:
    assert BloomFilter().estimate == (0.0, 0.0)
    assert BloomFilter((1 << 2048) - 1).estimate.size > 6000
