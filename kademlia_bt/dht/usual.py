"""The queries that most are, read in one go: `ping`, `find_node` and `get_peers` as clients write them (BEP 5, 32, 43).

What `krpc.parse` decodes and then looks through is here matched whole, in two ways. A query of one of twelve lengths is
likely of just one `Form`, whose parts stand at fixed places: intake.py cuts these out and compares them. That takes a
tenth of the time. One expression for all that is usual takes a third. Both know few forms: any other datagram
is left to `parse`, and of those that they know they make the same of it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kademlia_bt.dht.krpc import WANT_IPV4, WANT_IPV6, Query

__all__ = ["FORMS", "FORM_HEAD", "FORM_TAIL", "FORM_TID_BYTES", "Form", "usual_query"]

FORM_HEAD: Final = b"d1:ad2:id20:"
FORM_TAIL: Final = b"1:y1:qe"
FORM_TID_BYTES: Final = (2, 4)


@dataclass(frozen=True, slots=True)
class Form:
    """A query of one length: what its parts are where it is of this form, and how they are cut out.

    `cut` gives: `FORM_HEAD`, the sender's id, `key`, the target, `middle`, the transaction id, `version_key`,
    `FORM_TAIL`. Of a ping it leaves out `key` and the target. The version itself is passed over.
    """

    method: bytes
    cut: Callable[[bytes], tuple[Any, ...]]
    key: bytes
    """Before the target; empty for a ping, which has none."""
    middle: bytes
    version_key: bytes
    """Empty where no version is told."""
    tid_bytes: int


def _forms() -> dict[int, Form]:
    forms: dict[int, Form] = {}
    for method, key, asks in (
        (b"ping", b"", b"e1:q4:ping"),
        (b"find_node", b"6:target20:", b"e1:q9:find_node"),
        (b"get_peers", b"9:info_hash20:", b"e1:q9:get_peers"),
    ):
        for tid_bytes in FORM_TID_BYTES:
            for version_key, version_bytes in ((b"", 0), (b"1:v4:", 4)):
                middle = b"%b1:t%d:" % (asks, tid_bytes)
                layout = struct.Struct(
                    f"{len(FORM_HEAD)}s20s"
                    + (f"{len(key)}s20s" if key else "")
                    + f"{len(middle)}s{tid_bytes}s{len(version_key)}s{version_bytes}x{len(FORM_TAIL)}s"
                )
                forms[layout.size] = Form(method, layout.unpack, key, middle, version_key, tid_bytes)
    return forms


FORMS: Final[Mapping[int, Form]] = _forms()
"""By length: no two share one."""

_ID = rb"20:(.{20})"
_WANT = rb"(?:4:want(l(?:2:n4)?(?:2:n6)?e))?"
_TID = rb"1:t(?:2:(.{2})|4:(.{4})|8:(.{8}))"
_VERSION = rb"(?:1:v4:.{4})?"
_match = re.compile(
    rb"d1:ad2:id%b(?:6:target%b%be1:q9:find_node|9:info_hash%b%be1:q9:get_peers|e1:q4:ping)(2:roi1e)?%b%b1:y1:qe"
    % (_ID, _ID, _WANT, _ID, _WANT, _TID, _VERSION),
    re.DOTALL,
).fullmatch
_WANTED: Final = {
    None: 0,
    b"le": 0,
    b"l2:n4e": WANT_IPV4,
    b"l2:n6e": WANT_IPV6,
    b"l2:n42:n6e": WANT_IPV4 | WANT_IPV6,
}
_new_query = tuple.__new__  # `Query(...)` without a Python call


def usual_query(data: bytes) -> Query | None:
    """The query that a datagram is, where it has one of the usual forms; None: `krpc.parse` is to be asked."""
    match = _match(data)
    if match is None:
        return None
    sender, target, want, info_hash, want_with_hash, read_only, tid2, tid4, tid8 = match.groups()
    tid = tid2 or tid4 or tid8
    if target is not None:
        return _new_query(
            Query, (tid, b"find_node", sender, target, _WANTED[want], read_only is not None, None, 0, False, None)
        )
    if info_hash is not None:
        wanted = _WANTED[want_with_hash]
        return _new_query(
            Query, (tid, b"get_peers", sender, info_hash, wanted, read_only is not None, None, 0, False, None)
        )
    return _new_query(Query, (tid, b"ping", sender, None, 0, read_only is not None, None, 0, False, None))
