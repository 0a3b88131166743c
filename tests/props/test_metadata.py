"""The metadata fetch with any mix of peers, answers out of order, losses and leavings."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from wire.ids import InfoHash
from wire.peer.metadata import ANSWER_TIMEOUT_S, ASK_AGAIN_S, MetadataFetch, MetadataFetched, MetadataPeerFailed

BLOCK = 16384
RAW = random.Random(4).randbytes(4 * BLOCK + 5)
INFO_HASH = InfoHash(v1=hashlib.sha1(RAW).digest())


@settings(max_examples=examples(100), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    manners=st.lists(st.sampled_from(["honest", "liar", "sometimes", "rejecter", "silent", "leaver"]), max_size=12),
)
def test_one_honest_peer_is_enough_and_never_blamed(seed: int, manners: list[str]) -> None:
    rng = random.Random(seed)
    kinds = dict(enumerate([*manners, "honest"]))
    waits = not {"rejecter", "leaver"} & set(manners)  # whose blocks may be asked of others at once
    order = list(kinds)
    rng.shuffle(order)
    fetch: MetadataFetch[int] = MetadataFetch(INFO_HASH)
    for peer in order:
        assert fetch.offer(peer, len(RAW), 0.0)
    now = 0.0
    raw: bytes | None = None
    pending: list[tuple[float, int, int]] = []
    asked_at: dict[int, list[float]] = {}
    outstanding: dict[int, int] = dict.fromkeys(kinds, 0)
    wrong_share: set[int] = set()
    while raw is None:
        for peer, piece in fetch.assign(now):
            outstanding[peer] += 1
            assert outstanding[peer] <= 2 or kinds[peer] == "silent"
            if waits and not fetch.hash_failures:
                before = [at for at in asked_at.setdefault(piece, []) if at < now]
                assert not before or now - before[-1] >= ASK_AGAIN_S
                asked_at[piece].append(now)
                assert len(asked_at[piece]) - len(before) <= max(1, len(before)), "of more than were asked in vain"
            if kinds[peer] != "silent":
                pending.append((now + rng.uniform(0.01, 2.0), peer, piece))
        timer = fetch.next_timer()
        now = min([at for at, _, _ in pending] + ([timer] if timer is not None else []))
        assert now < 10 * ANSWER_TIMEOUT_S, "it takes too long"
        due = [item for item in pending if item[0] <= now]
        pending = [item for item in pending if item[0] > now]
        for _, peer, piece in due:
            outstanding[peer] -= 1
            block = RAW[piece * BLOCK : (piece + 1) * BLOCK]
            kind = kinds[peer]
            if kind == "rejecter":
                events = fetch.reject(peer, piece, now)
            elif kind == "leaver":
                fetch.gone(peer)
                continue
            else:
                if kind == "liar" or (kind == "sometimes" and rng.random() < 0.3):
                    block = bytes(len(block))
                    wrong_share.add(peer)
                events = fetch.data(peer, piece, len(RAW), block, now)
            for event in events:
                if isinstance(event, MetadataFetched):
                    raw = event.raw
                elif isinstance(event, MetadataPeerFailed) and event.lied:
                    assert event.peer in wrong_share
    assert raw == RAW
