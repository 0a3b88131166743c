"""A link that points at a changing torrent (BEP 46), from the key to the files, over the virtual internet."""

from __future__ import annotations

import pytest

from kademlia_bt import KeyPair
from magnet import ResolveError, Verdict
from magnet.link import PointerLink
from tests.shell.kit import a_world, make_torrent
from wire.errors import MisuseError

KEYS = KeyPair(bytes(range(32)))
ONE, ONE_DATA = make_torrent("one", {"one": 100_000})
TWO, TWO_DATA = make_torrent("two", {"a": 50_000, "b": 30_000})


async def test_the_files_of_whatever_the_key_names_now(autojump_clock):
    async with a_world() as world:
        publisher = await world.dht_node()
        await publisher.wait_joined()
        await world.seeder(ONE, ONE_DATA)
        await world.seeder(TWO, TWO_DATA)
        link = f"magnet:?xs=urn:btpk:{KEYS.public_key.hex()}&s={b'feed'.hex()}"
        for torrent, data in ((ONE, ONE_DATA), (TWO, TWO_DATA)):
            assert torrent.info_hash_v1 is not None
            assert (await publisher.publish(KEYS, torrent.info_hash_v1, salt=b"feed")).stored
            session = await world.session()
            handle = await session.add(link)
            assert handle.info_hash == torrent.info.info_hash
            await handle.finished()
            assert bytes(world.stores[session].last.data) == data


async def test_a_key_that_names_nothing(autojump_clock):
    async with a_world() as world:
        session = await world.session(patience_s=20)
        with pytest.raises(ResolveError, match="no DHT node knows what the key points at") as caught:
            await session.add(PointerLink(KEYS.public_key))
        assert caught.value.verdict is Verdict.NO_PEERS
        assert caught.value.counts.nodes_answered >= 1
        publisher = await world.dht_node()
        await publisher.wait_joined()
        await publisher.put(b"no torrent", keys=KEYS)
        with pytest.raises(ResolveError, match="is no torrent"):
            await session.add(PointerLink(KEYS.public_key))


async def test_without_dht_it_cannot_be_followed(autojump_clock):
    async with a_world() as world:
        session = await world.session(dht=False)
        with pytest.raises(MisuseError, match="DHT"):
            await session.add(PointerLink(KEYS.public_key))
