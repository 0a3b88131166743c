"""Canonical peer priority: which connections of a swarm are worth most, so that both ends think the same (BEP 40)."""

from __future__ import annotations

from wire.compact import IPV4, Endpoint

__all__ = ["priority"]


def priority(one: Endpoint, other: Endpoint) -> int:
    """32 bits that both ends come to; more is better. Both are of one family; ports matter within one address alone."""
    import crc32c  # with it comes all of importlib.metadata, which no start has to wait for

    if one.host == other.host:
        first, second = sorted((one.port, other.port))
        return crc32c.crc32c(first.to_bytes(2, "big") + second.to_bytes(2, "big"))
    mask = _mask(one.ip, other.ip, 2 if one.family is IPV4 else 6)
    first_ip, second_ip = sorted(
        bytes(byte & bits for byte, bits in zip(endpoint.ip, mask, strict=True)) for endpoint in (one, other)
    )
    return crc32c.crc32c(first_ip + second_ip)


def _mask(one: bytes, other: bytes, whole: int) -> bytes:
    """The first `whole` bytes count, of the rest every other bit; for neighbours, one byte more than they share."""
    while whole < len(one) and one[:whole] == other[:whole]:
        whole += 1
    return b"\xff" * whole + b"\x55" * (len(one) - whole)
