"""PCP and NAT-PMP as bytes (RFC 6887, 11; RFC 6886, 3)."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ProtocolError
from wire.portmap import pcp
from wire.portmap.pcp import Transport

NONCE = b"0123456789ab"
MAPPED = b"\0" * 10 + b"\xff\xff"


def pcp_reply(
    result: int = 0,
    *,
    transport: int = 6,
    internal: int = 7,
    external: int = 7,
    lifetime: int = 120,
    nonce: bytes = NONCE,
) -> bytes:
    head = struct.pack(">BBBBII12x", 2, 0x81, 0, result, lifetime, 99)
    return head + struct.pack(">12sB3xHH16s", nonce, transport, internal, external, MAPPED + bytes([80, 1, 2, 3]))


def test_a_request_of_pcp() -> None:
    words = pcp.pcp_map("192.168.1.2", NONCE, Transport.UDP, 6881, 3600)
    assert len(words) == 60
    assert words[:8] == b"\x02\x01\0\0\0\0\x0e\x10"
    assert words[8:24] == MAPPED + bytes([192, 168, 1, 2])
    assert words[24:36] == NONCE
    assert words[36:44] == b"\x11\0\0\0" + struct.pack(">HH", 6881, 6881)
    assert words[44:] == MAPPED + bytes(4)
    assert pcp.pcp_map("2001:db8::1", NONCE, Transport.TCP, 1, 0)[44:] == bytes(16)


def test_requests_of_nat_pmp() -> None:
    assert pcp.nat_pmp_map(Transport.UDP, 6881, 3600) == b"\0\1\0\0\x1a\xe1\x1a\xe1\0\0\x0e\x10"
    assert pcp.nat_pmp_map(Transport.TCP, 6881, 0) == b"\0\2\0\0\x1a\xe1\0\0\0\0\0\0", "taken back: port 0 outside"
    assert pcp.nat_pmp_address() == b"\0\0"


def test_answers() -> None:
    answer = pcp.read(pcp_reply(), NONCE)
    assert (answer.transport, answer.internal_port, answer.external_port, answer.lifetime_s) == (
        Transport.TCP,
        7,
        7,
        120,
    )
    assert (answer.host, answer.refusal) == ("80.1.2.3", None)
    assert pcp.read(pcp_reply(2), NONCE).refusal == "it is not allowed"
    assert pcp.read(pcp_reply(99), NONCE).refusal == "error 99"
    other = pcp.read(b"\0\x82\0\0" + struct.pack(">IHHI", 5, 7, 9, 60), NONCE)
    assert (other.transport, other.external_port, other.lifetime_s, other.host) == (Transport.TCP, 9, 60, None)
    assert pcp.read(b"\0\x81\0\2" + bytes(12), NONCE).refusal == "it is not allowed"
    for old in (b"\0\x80\0\1" + bytes(4), b"\0\x81\0\1" + bytes(4), pcp_reply(1)[:24]):
        assert pcp.read(old, NONCE).other_version
    assert pcp.read_nat_pmp_address(b"\0\x80\0\0" + bytes(4) + bytes([80, 1, 2, 3])) == "80.1.2.3"
    assert pcp.read_nat_pmp_address(b"\0\x80\0\3" + bytes(8)) is None


@pytest.mark.parametrize(
    "data", [b"", b"\2", pcp_reply()[:59], pcp_reply(nonce=b"x" * 12), pcp_reply(transport=1), b"\2\1" + bytes(58)]
)
def test_what_is_no_answer_to_us(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        pcp.read(data, NONCE)


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        pcp.read(data, NONCE)
    pcp.read_nat_pmp_address(data)
