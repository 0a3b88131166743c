"""Fuzzed datagrams at a face: no exception, no growth, an answer afterwards.

CI sends 100,000; DHT_FUZZ_DATAGRAMS=1000000 a million.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.core import Dht
from kademlia_bt.dht.lookups import GetPeers
from kademlia_bt.dht.writing import encode_query
from tests.processor_time import works_at_most
from wire.bencode import Encodable, decode, encode
from wire.compact import IPV4, Endpoint

DATAGRAMS = int(os.environ.get("DHT_FUZZ_DATAGRAMS", "100000"))
_MAX_GROWTH_BYTES = 10_000_000
_PING = encode_query(b"ping", b"ping", bytes(range(20)), {}, version=b"", read_only=False)
_WORDS = [b"d", b"l", b"i", b"e", b"0:", b"20:", b"1:a", b"1:q", b"1:r", b"1:t", b"1:y", b"5:nodes", b"6:values", b"-1"]
_METHODS = [*b"ping find_node get_peers announce_peer get put sample_infohashes vote".split(), b"", b"\xff" * 40]
_KEYS = (
    b"id target info_hash port token implied_port want noseed scrape seed v k sig seq salt cas "
    b"nodes nodes6 values samples interval num BFsd BFpe"
).split()


def resident_bytes() -> int:
    """Of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def some_value(rng: random.Random, depth: int = 0) -> Encodable:
    kind = rng.randrange(8 if depth < 2 else 6)
    if kind < 3:
        return rng.randbytes(rng.choice((0, 1, 4, 6, 18, 20, 20, 20, 26, 32, 38, 64, 100, 256)))
    if kind < 6:
        return rng.choice((0, 1, -1, 6881, 65535, 65536, 2**31, 2**63, -(2**63), 10**30))
    if kind == 6:
        return [some_value(rng, depth + 1) for _ in range(rng.randrange(6))]
    return {rng.choice(_KEYS): some_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def some_message(rng: random.Random, tids: list[bytes]) -> bytes:
    body = {rng.choice(_KEYS): some_value(rng) for _ in range(rng.randrange(8))}
    if rng.random() < 0.9:
        body[b"id"] = rng.randbytes(20)
    message: dict[bytes, Encodable] = {b"t": rng.choice(tids) if rng.random() < 0.5 else rng.randbytes(2)}
    kind = rng.randrange(4)
    if kind < 2:
        message |= {b"y": b"q", b"q": rng.choice(_METHODS), b"a": body}
    elif kind == 2:
        message |= {b"y": b"r", b"r": body}
    else:
        message |= {b"y": b"e", b"e": some_value(rng)}
    if rng.random() < 0.2:
        message[rng.choice((b"ip", b"ro", b"v", b"t", b"y", b"a", b"r", b"c"))] = some_value(rng)
    return encode(message)


def fuzzed(rng: random.Random, tids: list[bytes]) -> bytes:
    kind = rng.randrange(10)
    if kind == 0:
        return rng.randbytes(rng.randrange(64))
    if kind == 1:
        return b"".join(rng.choices(_WORDS, k=rng.randrange(1, 60)))
    if kind == 2:
        return b"d" * rng.randrange(400) + rng.choice((b"", b"1:t99999999999:")) + b"l" * rng.randrange(400)
    data = bytearray(some_message(rng, tids))
    for _ in range(rng.choice((0, 0, 0, 1, 2, 8))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    return bytes(data)


@pytest.mark.timeout(1800)
def test_fuzzed_datagrams_neither_break_nor_fill_a_node() -> None:
    rng = random.Random(41)
    now = 1000.0
    dht = Dht(DhtConfig(per_ip_limit=0, upload_limit=0), random.Random(1), now)
    here = Endpoint("21.1.1.1", 6881)
    face = dht.add_face(IPV4, bytes(20), now, bound=here)
    sources = [Endpoint(f"{rng.randrange(24, 100)}.{rng.randrange(256)}.{n % 256}.9", 6881) for n in range(5_000)]
    dht.add_bootstrap(sources[:8], now)
    tids: list[bytes] = [b"aa"]

    def send(count: int) -> None:
        nonlocal now
        for index in range(count):
            now += 0.005
            source = sources[rng.randrange(8)] if rng.random() < 0.3 else rng.choice(sources)
            face.receive(fuzzed(rng, tids), source, now)
            if index % 10 == 0:
                if now >= face.next_timer():
                    face.tick(now)
                if index % 1000 == 0:
                    dht.start(GetPeers(rng.randbytes(20), announce_port=7000), now)
                for data, to in face.outgoing():
                    assert len(data) <= 1472
                    asked = decode(bytes(data))
                    if isinstance(asked, dict) and asked[b"y"] == b"q":  # whose answers may be forged next
                        tids.append(bytes(asked[b"t"]))  # type: ignore[arg-type]
                        sources[rng.randrange(8)] = to
                del tids[:-8]
                dht.events()

    send(DATAGRAMS // 4)  # its caps are reached
    before = resident_bytes()
    began = time.perf_counter()
    send(DATAGRAMS - DATAGRAMS // 4)
    took_s = time.perf_counter() - began
    growth = resident_bytes() - before
    face.outgoing()
    with works_at_most(0.1):
        face.receive(_PING, Endpoint("23.9.9.9", 6881), now)
        answers = [decode(bytes(data)) for data, to in face.outgoing() if to.host == "23.9.9.9"]
    print(
        f"\n{DATAGRAMS:,} datagrams: growth {growth / 1e6:.1f} MB, "
        f"{took_s:.0f} s; {face.queries} queries, {face.answers} answers, {face.dropped} dropped"
    )
    assert face.queries > DATAGRAMS / 10
    assert growth < _MAX_GROWTH_BYTES
    assert any(isinstance(answer, dict) and answer.get(b"t") == b"ping" for answer in answers)
