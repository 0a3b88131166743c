"""Whatever a datagram brings about items, filters and samples, only what is valid comes out (BEP 33, 44, 51)."""

from __future__ import annotations

import contextlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.core import Dht
from kademlia_bt.dht.gather import ItemGather, Ready, ScrapeGather
from kademlia_bt.dht.krpc import Answer, parse
from kademlia_bt.items.signing import KeyPair
from kademlia_bt.items.values import ImmutableItem, MutableItem
from tests.examples import examples
from wire.bencode import encode
from wire.compact import IPV4, Endpoint
from wire.errors import ProtocolError

KEYS = KeyPair(bytes(32))
ITEM = MutableItem.sign(KEYS, b"value", 5, b"salt")
VIA = Endpoint("9.8.7.6", 5555)
ID = bytes(20)

anything = st.recursive(
    st.integers(-(1 << 70), 1 << 70) | st.binary(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def bent(draw: st.DrawFn, valid: dict[bytes, object]) -> dict[bytes, object]:
    """A valid dictionary with some of its values replaced or gone."""
    made = dict(valid)
    for key in draw(st.sets(st.sampled_from(sorted(valid)), max_size=3)):
        if draw(st.booleans()):
            made[key] = draw(anything)
        else:
            del made[key]
    return made


ANSWER: dict[bytes, object] = {
    b"id": ID,
    b"k": ITEM.public_key,
    b"seq": ITEM.seq,
    b"sig": ITEM.signature,
    b"token": b"tttttttt",
    b"v": b"value",
    b"BFsd": bytes(256),
    b"BFpe": bytes(256),
    b"samples": bytes(40),
    b"num": 2,
    b"interval": 5,
}


@settings(max_examples=examples(100), deadline=None)
@given(bent(ANSWER))
def test_answers(returned: dict[bytes, object]) -> None:
    data = encode({b"r": returned, b"t": b"aa", b"y": b"r"})  # type: ignore[dict-item]
    try:
        answer = parse(data)
    except ProtocolError:
        return
    assert isinstance(answer, Answer)
    gather, scrape = ItemGather(ITEM.target, salt=b"salt"), ScrapeGather()
    gather.take(answer, VIA)
    scrape.take(answer, VIA)
    assert gather.best in (None, ITEM)
    assert scrape.size.total == (0.0, 0.0)
    samples = answer.samples
    if samples is not None:
        assert 0 <= samples.interval_s <= 21_600
        assert samples.total >= len(samples.info_hashes)
        assert all(len(each) == 20 for each in samples.info_hashes)
    # A refresh by whoever holds it sends only what was signed.
    putting = ItemGather(ITEM.target, salt=b"salt", draft=Ready(ITEM, spare=True))
    putting.take(answer, VIA)
    if putting.stores(1, []):
        assert putting.item == ITEM


PUT: dict[bytes, object] = {
    b"cas": 4,
    b"id": ID,
    b"k": ITEM.public_key,
    b"salt": b"salt",
    b"seq": ITEM.seq,
    b"sig": ITEM.signature,
    b"token": b"",
    b"v": b"value",
}


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_puts(data: st.DataObject) -> None:
    dht = Dht(DhtConfig(per_ip_limit=0, upload_limit=0), random.Random(1), 0.0)
    face = dht.add_face(IPV4, None, 0.0)
    arguments = data.draw(bent(PUT))
    for target in (ITEM.target, ImmutableItem.of(b"value").target):
        if arguments.get(b"token") == b"":
            token = dht.tokens.make(VIA.ip, target, 0.0)
            message = {b"a": {**arguments, b"token": token}, b"q": b"put", b"t": b"aa", b"y": b"q"}
            face.receive(encode(message), VIA, 0.0)  # type: ignore[arg-type]
    kept = dht.items.get(ITEM.target, 0.0)
    assert kept in (None, ITEM)
    for _, to in face.outgoing():
        assert to == VIA


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"put", b"get", b"get_peers", b"sample_infohashes"]))
def test_raw_values(raw: bytes, method: bytes) -> None:
    """Bytes that need not be bencode stand where a value should."""
    data = b"d1:ad2:id20:%b6:target20:%b5:token8:aaaaaaaa1:v%be1:q%d:%b1:t2:aa1:y1:qe" % (
        ID,
        ID,
        raw,
        len(method),
        method,
    )
    with contextlib.suppress(ProtocolError):
        parse(data)
    dht = Dht(DhtConfig(per_ip_limit=0, upload_limit=0), random.Random(1), 0.0)
    dht.add_face(IPV4, None, 0.0).receive(data, VIA, 0.0)
    assert len(dht.items) == 0
