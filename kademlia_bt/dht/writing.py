"""KRPC messages written (BEP 5; BEP 32 `want`, BEP 42 `ip`, BEP 43 `ro`). What they say is decided elsewhere.

Answers are written by hand, keys in their sorted order, since that is the hot path.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

from kademlia_bt.dht.krpc import WANT_IPV4, WANT_IPV6
from wire.bencode import Encodable, encode
from wire.compact import IPV4, IPV6, Family

__all__ = ["answer_writer", "byte_string", "encode_answer", "encode_error", "encode_query"]

_MOST_TID_BYTES = 255
"""As `krpc.parse` lets in."""


def byte_string(value: bytes) -> bytes:
    """A bencoded byte string."""
    return b"%d:%b" % (len(value), value)


def encode_query(
    tid: bytes,
    method: bytes,
    node_id: bytes,
    arguments: dict[bytes, Encodable],
    *,
    version: bytes,
    read_only: bool,
    want: int = 0,
) -> bytes:
    """A query; `arguments` are those beside `id` and `want`."""
    full: dict[bytes, Encodable] = {b"id": node_id, **arguments}
    if want:
        full[b"want"] = [f.want for f, bit in ((IPV4, WANT_IPV4), (IPV6, WANT_IPV6)) if want & bit]
    message: dict[bytes, Encodable] = {b"a": full, b"q": method, b"t": tid, b"v": version, b"y": b"q"}
    if read_only:
        message[b"ro"] = 1
    return encode(message)


def encode_answer(tid: bytes, returned: bytes, address: bytes, version: bytes) -> bytes:
    """An answer.

    Args:
        tid: As it came.
        returned: The items of the `r` dictionary, bencoded, keys sorted.
        address: The asker's compact endpoint (BEP 42).
        version: Ours.
    """
    return b"".join(
        (_IP_HEADS[len(address)], address, b"1:rd", returned, _TID_HEADS[len(tid)], tid, _answer_tail(version))
    )


def answer_writer(
    returned: bytes, version: bytes, family: Family, tid_bytes: int
) -> Callable[[bytes, int, bytes], bytes]:
    """What `encode_answer` writes, where nothing but the asker and its transaction id changes: in half the time.

    It is given the asker's packed address, its port and a transaction id of just `tid_bytes`.
    """
    head, tail = _IP_HEADS[family.endpoint_bytes], _answer_tail(version)
    middle = b"1:rd" + returned + _TID_HEADS[tid_bytes]
    pack = struct.Struct(f"!{len(head)}s{family.ip_bytes}sH{len(middle)}s{tid_bytes}s{len(tail)}s").pack

    def write(ip: bytes, port: int, tid: bytes) -> bytes:
        return pack(head, ip, port, middle, tid, tail)

    return write


_IP_HEADS = {family.endpoint_bytes: b"d2:ip%d:" % family.endpoint_bytes for family in (IPV4, IPV6)}
_TID_HEADS = tuple(b"e1:t%d:" % length for length in range(_MOST_TID_BYTES + 1))


@lru_cache(maxsize=8)
def _answer_tail(version: bytes) -> bytes:
    return b"1:v%b1:y1:re" % byte_string(version)


def encode_error(tid: bytes, code: int, text: str, address: bytes, version: bytes) -> bytes:
    """An error, `ip` included (BEP 42)."""
    return encode({b"e": [code, text], b"ip": address, b"t": tid, b"v": version, b"y": b"e"})
