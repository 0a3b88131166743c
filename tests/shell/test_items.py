"""Items, pointers, scrapes and samples through whole nodes over the virtual internet (BEP 33, 44, 46, 51)."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from kademlia_bt import ImmutableItem, ItemRefusedError, KeyPair, MutableItem, QueryError
from kademlia_bt.crawling.crawl import Crawl, Finding
from kademlia_bt.crawling.crawler import Crawler
from kademlia_bt.following import RE_PUT_S
from tests.shell.test_node import BOOT, a_network, node_on
from tests.sim.net import Internet
from wire.compact import Endpoint
from wire.errors import MisuseError

Clock = trio.testing.MockClock
KEYS = KeyPair(bytes(range(32)))


@pytest.fixture
def internet() -> Internet:
    return Internet(random.Random(1), delay_s=0.03, jitter_s=0.05)


async def test_put_and_get(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet, 16) as nodes:
        plain = await nodes[2].put({"a": [1, b"x"]})
        assert (plain.stored, plain.refusals) == (8, ())
        assert await nodes[9].get(plain.target) == ImmutableItem.of({"a": [1, b"x"]})
        one = await nodes[3].put(b"one", keys=KEYS, salt=b"s")
        two = await nodes[4].put(b"two", keys=KEYS, salt=b"s")
        assert (one.stored, two.stored) == (8, 8)
        assert two.found >= 7  # nobody stores his own: of the 8 whom one asks, one may be who put it
        for by in (two.target, KEYS.public_key):
            item = await nodes[9].get(by, salt=b"s")
            assert isinstance(item, MutableItem)
            assert (item.value, item.seq) == (b"two", 2)
        assert await nodes[9].get(KEYS.public_key) is None
        assert await nodes[9].get(KEYS.public_key, salt=b"s", seq=2) is None
        with pytest.raises(ItemRefusedError) as caught:
            await nodes[5].put(b"three", keys=KEYS, salt=b"s", cas=1)
        assert caught.value.code == 301
        with pytest.raises(ItemRefusedError) as caught:
            await nodes[5].put(b"three", keys=KEYS, salt=b"s", seq=1)
        assert caught.value.code == 302
        for wrong in (b"", bytes(19), bytes(33)):
            with pytest.raises(MisuseError):
                await nodes[5].get(wrong)
        for arguments in ({"salt": b"s"}, {"seq": 1}, {"keys": KEYS, "salt": bytes(65)}, {"keys": KEYS, "seq": -1}):
            with pytest.raises(MisuseError):
                await nodes[5].put(b"x", **arguments)
        with pytest.raises(MisuseError):
            await nodes[5].put(bytes(1000))


async def test_two_who_put_at_once_both_get_through(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet, 12) as nodes:
        seqs = []

        async def put(index: int) -> None:
            copies = await nodes[index].put(b"%d" % index, keys=KEYS)
            assert isinstance(copies.item, MutableItem)
            seqs.append(copies.item.seq)

        for turn in range(1, 4):
            await put(turn)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, 5)
            nursery.start_soon(put, 6)
        item = await nodes[8].get(KEYS.public_key)
        assert isinstance(item, MutableItem)
        assert item.seq == max(seqs) >= 4


async def test_nobody_there_stores_nothing_and_says_so(autojump_clock: Clock, internet: Internet) -> None:
    async with node_on(internet.host("81.0.0.1"), bootstrap=[]) as node:
        assert (await node.put(b"x")).stored == 0
        assert await node.get(bytes(20)) is None
        assert (await node.scrape(bytes(20))).nodes == 0


async def test_a_kept_item_outlives_its_two_hours(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet, 3) as nodes:
        copies = await nodes[1].put(b"kept", keys=KEYS)
        lost = await nodes[1].put(b"lost")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nodes[1].keep, copies.item)
            await trio.sleep(2.5 * RE_PUT_S)
            assert await nodes[2].get(KEYS.public_key) == copies.item
            assert await nodes[2].get(lost.target) is None
            nursery.cancel_scope.cancel()


async def test_a_pointer_is_followed_from_torrent_to_torrent(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet, 8) as nodes:
        hashes = [bytes([n]) * 20 for n in range(3)]
        seen = []

        async def publish() -> None:
            for info_hash in hashes:
                await trio.sleep(100)
                await nodes[1].publish(KEYS, info_hash, salt=b"feed")
                await nodes[1].publish(KEYS, info_hash, salt=b"feed")  # refreshed: nothing new
            await trio.sleep(100)
            await nodes[1].put(b"no torrent", keys=KEYS, salt=b"feed")
            await trio.sleep(100)
            await nodes[1].publish(KEYS, hashes[0], salt=b"feed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            async for info_hash in nodes[6].follow_torrent(KEYS.public_key, b"feed", every_s=30):
                seen.append(info_hash)
                if len(seen) == 4:
                    break
        assert seen == [*hashes, hashes[0]]


async def test_who_follows_keeps_the_item_alive_without_its_owner(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet, 3) as nodes:
        async with node_on(internet.host("81.0.0.1"), bootstrap=BOOT) as owner:
            copies = await owner.publish(KEYS, bytes(20))
            assert copies.stored
        async with trio.open_nursery() as nursery:

            async def follow() -> None:
                async for _ in nodes[2].follow(KEYS.public_key, every_s=1800):
                    pass

            nursery.start_soon(follow)
            await trio.sleep(2.6 * RE_PUT_S)
            assert await nodes[1].get(KEYS.public_key) == copies.item
            nursery.cancel_scope.cancel()


async def test_a_scrape_and_a_sample(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet, 12) as nodes:
        info_hash = bytes(range(20))
        for index in range(2, 10):
            await nodes[index].announce(info_hash, 4000 + index, seed=index < 5)
        size = await nodes[11].scrape(info_hash)
        assert size.nodes >= 8
        assert (round(size.seeds.size), round(size.downloaders.size), round(size.total.size)) == (3, 5, 8)
        shown = [await nodes[11].sample(Endpoint(f"80.{index}.0.1", 6881)) for index in range(1, 10, 2)]
        assert {info_hash} == {each for answer in shown for each in answer.info_hashes}
        assert all(answer.nodes for answer in shown)
        with pytest.raises(QueryError) as caught:
            await nodes[11].sample(Endpoint("99.0.0.1", 1))
        assert caught.value.reason == "timed_out"


async def test_a_crawl_without_a_network_ends_soon(autojump_clock: Clock, internet: Internet) -> None:
    async with node_on(internet.host("81.0.0.1"), bootstrap=BOOT) as node:
        memory = Crawl(random.Random(1))
        with trio.fail_after(15):
            await Crawler(node, memory, random.Random(1)).run(lambda finding: None)
        assert memory.asked == 0


async def test_a_crawl_meets_everybody_once_and_goes_on_where_it_was(autojump_clock: Clock, internet: Internet) -> None:
    late = node_on(internet.host("81.0.0.1"), bootstrap=BOOT, read_only=True)
    async with a_network(internet, 24) as nodes, late:
        rng = random.Random(7)
        hashes = {rng.randbytes(20) for _ in range(40)}
        for info_hash in hashes:
            await rng.choice(nodes).announce(info_hash, 4000)
        asked: list[Endpoint] = []
        first, findings = Crawl(rng), []
        begin = trio.current_time()
        with trio.move_on_after(120):
            crawler = Crawler(late, first, rng, rate=2)
            await crawler.run(lambda finding: (findings.append(finding), asked.append(finding.endpoint))[0])
        took_s = trio.current_time() - begin
        assert len(asked) == len(set(asked)) == 24
        assert took_s >= 23 / 2  # the rate is kept
        known = {info_hash for finding in findings for info_hash in finding.new}
        assert len(known) == sum(len(finding.new) for finding in findings)  # each once
        assert known == hashes
        again, more = Crawl(rng), []
        for finding in findings[:10]:
            again.recall(Finding.from_line(finding.to_line()), finding.at_s + 1)
        await Crawler(late, again, rng, rate=100).run(more.append)
        assert {finding.endpoint for finding in more} == set(asked[10:])
        assert {info_hash for finding in more for info_hash in finding.new} <= hashes
        assert again.found == len(hashes)
