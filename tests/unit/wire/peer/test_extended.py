from __future__ import annotations

import pytest

from wire.errors import MisuseError, ProtocolError
from wire.peer.extended import METADATA_DATA, METADATA_REQUEST, ExtendedHandshake, MetadataMessage

NOTHING = ExtendedHandshake()


def test_the_example_of_bep_10() -> None:
    payload = "d1:md11:LT_metadatai1e6:µT_PEXi2ee1:pi6881e1:v13:µTorrent 1.2e".encode()
    payload = payload.replace("6:µT_PEX".encode(), "7:µT_PEX".encode())  # the BEP counts characters, not bytes
    assert NOTHING.updated(payload) == ExtendedHandshake(p=6881, v="µTorrent 1.2")


@pytest.mark.parametrize("ip", ["192.0.2.1", "2001:db8::1", None])
def test_what_is_written_is_read(ip: str | None) -> None:
    said = ExtendedHandshake(
        ut_metadata=3, ut_pex=1, metadata_size=31235, reqq=250, v="x 1", p=1, yourip=ip, upload_only=True
    )
    assert NOTHING.updated(said.encode()) == said
    assert NOTHING.updated(NOTHING.encode()) == NOTHING


def test_later_ones_add_and_replace_and_0_takes_back() -> None:
    first = NOTHING.updated(b"d1:md11:ut_metadatai3e6:ut_pexi1ee13:metadata_sizei99e1:v1:xe")
    second = first.updated(b"d1:md6:ut_pexi0ee11:upload_onlyi1ee")
    assert second == ExtendedHandshake(ut_metadata=3, ut_pex=0, metadata_size=99, v="x", upload_only=True)
    assert second.updated(b"d11:upload_onlyi0ee").upload_only is False
    assert second.updated(b"de") == second


@pytest.mark.parametrize(
    "payload",
    [
        b"d1:mi1ee",
        b"d1:md11:ut_metadata1:xee",
        b"d1:md11:ut_metadatai-1eee",
        b"d1:md11:ut_metadatai256eee",
        b"d1:pi0ee",
        b"d1:pi65536ee",
        b"d4:reqqi-5ee",
        b"d4:reqq3:alle",
        b"d13:metadata_sizei0ee",
        b"d13:metadata_size2:xxe",
        b"d6:yourip3:abce",
        b"d1:vi1ee",
        b"d1:v2:\x1b\x07e",
        b"detrailing",
    ],
)
def test_what_makes_no_sense_is_as_good_as_not_said(payload: bytes) -> None:
    assert NOTHING.updated(payload) == NOTHING


@pytest.mark.parametrize(
    "payload",
    [b"", b"le", b"i1e", b"d", b"d1:m", b"d" * 100, b"d1:ml" + b"le" * 2000 + b"ee"]
    + [b"d13:metadata_sizei%dee" % size for size in (-1, 1 << 31, 1 << 40, 1 << 63, 10**400)],
)
def test_what_breaks_the_form(payload: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        NOTHING.updated(payload)
    assert len(str(caught.value)) < 200


def test_our_own_mistake() -> None:
    with pytest.raises(MisuseError):
        ExtendedHandshake(yourip="example.org").encode()


def test_the_examples_of_bep_9() -> None:
    assert MetadataMessage.parse(b"d8:msg_typei0e5:piecei0ee") == MetadataMessage(METADATA_REQUEST, 0, None, b"")
    data = MetadataMessage.parse(b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxxxxxxx")
    assert data == MetadataMessage(METADATA_DATA, 0, 3425, b"xxxxxxxx")
    assert data.header() == b"d8:msg_typei1e5:piecei0e10:total_sizei3425ee"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"d8:msg_typei0ee",
        b"d5:piecei0ee",
        b"d8:msg_typei0e5:piecei-1ee",
        b"d8:msg_typei0e5:piecei1000000ee",
        b"d8:msg_type1:05:piecei0ee",
        b"i0e",
        b"d8:msg_typei1e5:piecei0ee" + bytes(16385),
    ],
)
def test_broken_metadata_messages(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        MetadataMessage.parse(payload)


def test_both_addresses_of_a_peer_are_told_and_only_such_as_fit() -> None:
    said = ExtendedHandshake(ut_holepunch=4, ipv4="192.0.2.7", ipv6="2001:db8::7")
    assert NOTHING.updated(said.encode()) == said
    assert b"4:ipv44:\xc0\x00\x02\x07" in said.encode()
    assert NOTHING.updated(b"d4:ipv416:" + bytes(16) + b"4:ipv64:abcde") == NOTHING
    with pytest.raises(MisuseError):
        ExtendedHandshake(ipv6="here").encode()
