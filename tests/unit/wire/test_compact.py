"""Addresses: canonical, packed, parsed from what people type."""

import ipaddress
import random

import pytest

from wire.compact import IPV4, IPV6, Endpoint, pack_endpoints, parse_host_port, reach, unpack_endpoints
from wire.errors import MisuseError, ProtocolError


@pytest.mark.parametrize(
    ("host", "port", "packed"),
    [
        ("127.0.0.1", 6881, b"\x7f\x00\x00\x01\x1a\xe1"),
        ("2001:db8::1", 1, bytes.fromhex("20010db8000000000000000000000001") + b"\x00\x01"),
    ],
)
def test_compact_form_goes_both_ways(host: str, port: int, packed: bytes) -> None:
    assert Endpoint.of(host, port).compact() == packed
    assert Endpoint.from_compact(packed) == Endpoint(host, port)


def test_endpoint_of_is_canonical() -> None:
    assert Endpoint.of("2001:DB8:0:0::1", 1) == Endpoint("2001:db8::1", 1)
    assert Endpoint.of("::ffff:10.1.2.3", 1) == Endpoint("10.1.2.3", 1)
    assert Endpoint.of("fe80::1%eth0", 1) == Endpoint("fe80::1", 1)
    mapped = bytes(10) + b"\xff\xff\x0a\x01\x02\x03\x00\x01"
    assert Endpoint.from_compact(mapped) == Endpoint("10.1.2.3", 1)


@pytest.mark.parametrize(("host", "port"), [("example.org", 1), ("1.2.3", 1), ("1.2.3.4", -1), ("1.2.3.4", 65536)])
def test_endpoint_of_refuses(host: str, port: int) -> None:
    with pytest.raises(MisuseError):
        Endpoint.of(host, port)


@pytest.mark.parametrize("length", [0, 5, 7, 17, 19])
def test_from_compact_refuses_other_widths(length: int) -> None:
    with pytest.raises(ProtocolError):
        Endpoint.from_compact(bytes(length))


def test_text_form_and_family() -> None:
    assert str(Endpoint("1.2.3.4", 5)) == "1.2.3.4:5"
    assert str(Endpoint("::1", 5)) == "[::1]:5"
    assert Endpoint("1.2.3.4", 5).family is IPV4
    assert Endpoint("::1", 5).family is IPV6
    assert (IPV4.endpoint_bytes, IPV6.endpoint_bytes, IPV4.node_bytes, IPV6.node_bytes) == (6, 18, 26, 38)


def test_lists_drop_a_broken_rest() -> None:
    endpoints = [Endpoint("1.2.3.4", 5), Endpoint("6.7.8.9", 10)]
    packed = pack_endpoints(endpoints)
    assert unpack_endpoints(packed, IPV4) == endpoints
    assert unpack_endpoints(packed + b"\x01\x02\x03", IPV4) == endpoints
    assert unpack_endpoints(b"", IPV6) == []


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("8.8.8.8", "global"),
        ("2a00:1450::1", "global"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("169.254.1.1", "private"),
        ("fe80::1", "private"),
        ("fd00::1", "private"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("0.1.2.3", "invalid"),
        ("224.0.0.1", "invalid"),
        ("255.255.255.255", "invalid"),
        ("ff02::1", "invalid"),
        ("nonsense", "invalid"),
        ("::ffff:127.0.0.1", "loopback"),
    ],
)
def test_reach(host: str, kind: str) -> None:
    assert reach(host) == kind


def test_the_first_byte_settles_only_what_the_registries_settle() -> None:
    """The short way against the module that knows the ranges: at the borders of each first byte, and by chance."""
    chance = random.Random(1)
    for first in range(256):
        for rest in (0, 1, 0xFFFFFF, *(chance.getrandbits(24) for _ in range(20))):
            address = ipaddress.IPv4Address(first << 24 | rest)
            if address.is_unspecified or address.is_loopback:
                kind = "unspecified" if address.is_unspecified else "loopback"
            elif address.is_multicast or (address.is_reserved and not address.is_global) or first in (0, 255):
                kind = "invalid"
            else:
                kind = "global" if address.is_global else "private"
            assert reach(str(address)) == kind, address
    for first in range(0x24, 0x30):
        for rest in (0, (1 << 120) - 1, *(chance.getrandbits(120) for _ in range(20))):
            assert ipaddress.IPv6Address(first << 120 | rest).is_global


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("a.example:6881", "a.example", 6881), ("[::1]:0", "::1", 0), ("1.2.3.4:65535", "1.2.3.4", 65535)],
)
def test_parse_host_port(text: str, host: str, port: int) -> None:
    assert parse_host_port(text) == (host, port)


def test_parse_host_port_default() -> None:
    assert parse_host_port("a.example", 6881) == ("a.example", 6881)
    assert parse_host_port("[::1]", 6881) == ("::1", 6881)


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:65536", "host:-1", "host:x", "::1:5", "[::1", "[::1]x", "[::1]5", "h:٣"]
)
def test_parse_host_port_refuses_in_one_line(text: str) -> None:
    with pytest.raises(MisuseError) as caught:
        parse_host_port(text)
    assert "\n" not in str(caught.value)
