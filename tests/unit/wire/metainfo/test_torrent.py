from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.processor_time import works_at_most
from tests.strategies import torrent_of
from wire.bencode import decode, encode
from wire.errors import BencodeError, MetainfoError
from wire.metainfo import MAX_TORRENT_BYTES, Torrent
from wire.metainfo.merkle import root_of_layer

CORPUS = Path(__file__).parents[3] / "corpus" / "torrents"
INFO = torrent_of([10, 5], 16).info


def around(**items: object) -> bytes:
    """A .torrent with these keys beside the info dictionary; `_` in a name is a space or a dash."""
    parts = {key.replace("_", " ").encode(): encode(value) for key, value in items.items()}  # type: ignore[arg-type]
    parts[b"info"] = INFO.raw
    return b"d" + b"".join(encode(key) + parts[key] for key in sorted(parts)) + b"e"


def test_all_that_is_kept_comes_back() -> None:
    torrent = Torrent(
        INFO,
        trackers=(("http://a/announce", "udp://b:80"), ("https://c/x",)),
        web_seeds=("http://w/",),
        nodes=(("router.example", 6881), ("::1", 1)),
        comment="für alle",
        created_by="me",
        creation_date=1_700_000_000,
    )
    data = torrent.to_bytes()
    assert Torrent.from_bytes(data) == torrent
    assert encode(decode(data)) == data
    assert (torrent.name, torrent.size, torrent.info_hash_v2) == ("top", 15, None)
    assert torrent.info_hash_v1 == hashlib.sha1(INFO.raw).digest()
    assert Torrent.from_bytes(Torrent.of(INFO).to_bytes()) == Torrent.of(INFO)
    assert Torrent.of(INFO, [["u"], [], ("v", "w")], ["s"]) == Torrent(INFO, (("u",), ("v", "w")), ("s",))


def test_info_bytes_in_disorder_are_written_back_as_they_came() -> None:
    raw = b"d4:name1:x6:lengthi0e12:piece lengthi16384e6:pieces0:e"
    torrent = Torrent.from_bytes(b"d4:info" + raw + b"8:announce8:http://ae")
    assert torrent.info.raw == raw
    assert torrent.trackers == (("http://a",),)
    assert raw in torrent.to_bytes()
    assert Torrent.from_bytes(torrent.to_bytes()) == torrent


def test_one_announce_or_tiers() -> None:
    def trackers(**items: object) -> object:
        return Torrent.from_bytes(around(**items)).trackers

    assert trackers(announce=b"http://a") == (("http://a",),)
    tiers = [[b"http://b", b"http://c"], [], [b"http://d"], b"udp://e"]
    data = around(announce=b"http://a", **{"announce-list": tiers})
    assert Torrent.from_bytes(data).trackers == (("http://b", "http://c"), ("http://d",), ("udp://e",))
    assert trackers(announce=b"http://a", **{"announce-list": []}) == (("http://a",),)
    assert trackers(announce=[b"http://a"]) == ()
    assert trackers(announce=b"") == ()


def test_lists_are_capped_and_odd_things_left_out() -> None:
    torrent = Torrent.from_bytes(
        around(
            **{"announce-list": [[b"http://%d" % n] for n in range(1000)]},
            **{"url-list": [b"http://w", b"http://w", 5, b"nonsense", b"http://x\n", b"http://" + b"y" * 5000]},
            nodes=[[b"h", 1], [b"h", 0], [b"h", 65536], [b"h"], b"h", [1, b"h"], [b"\xff", 1], [b"x\n", 2]],
            comment=b"one\x1b[2Jtwo\nthree",
            creation_date=b"yesterday",
        )
    )
    assert len(torrent.trackers) == 200
    assert torrent.web_seeds == ("http://w", "http://x")
    assert torrent.nodes == (("h", 1),)
    assert (torrent.comment, torrent.creation_date) == ("one [2Jtwo three", None)
    assert Torrent.from_bytes(around(**{"url-list": b"http://one"})).web_seeds == ("http://one",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"le",
        b"de",
        b"i1e",
        b"d4:infoi1ee",
        b"d4:info0:e",
        b"d4:infode" + b"4:infodee",
        around()[:-1],
        around() + b"x",
        b"<html>404 Not Found</html>",
        b"d4:info" + b"l" * 1000 + b"e" * 1000 + b"e",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_torrent(data: bytes) -> None:
    with pytest.raises(MetainfoError) as caught:
        Torrent.from_bytes(data)
    assert str(caught.value).isprintable()


def test_a_file_too_large_is_not_even_read() -> None:
    with pytest.raises(MetainfoError, match="at most"):
        Torrent.from_bytes(b"l" * (MAX_TORRENT_BYTES + 1))


def layered(layer: bytes, root: bytes, size: int = 16384 * 5) -> bytes:
    info = {
        "file tree": {"x": {"": {"length": size, "pieces root": root}}},
        "meta version": 2,
        "name": b"x",
        "piece length": 16384,
    }
    return encode({"info": info, "piece layers": {root: layer}})


def test_piece_layers_are_verified_and_kept() -> None:
    layer = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(5))
    root = root_of_layer(layer, 16384)
    torrent = Torrent.from_bytes(layered(layer, root))
    assert torrent.piece_layers == ((root, layer),)
    assert Torrent.from_bytes(torrent.to_bytes()) == torrent
    for broken in (layered(layer[:-1] + b"?", root), layered(layer[:-32], root), layered(layer, root, 16384)):
        with pytest.raises(MetainfoError, match="piece layer"):
            Torrent.from_bytes(broken)


def test_a_merkle_root_by_hand() -> None:
    a, b, c = (hashlib.sha256(letter).digest() for letter in (b"a", b"b", b"c"))
    join = lambda left, right: hashlib.sha256(left + right).digest()  # noqa: E731
    assert root_of_layer(a, 16384) == a
    assert root_of_layer(a + b, 16384) == join(a, b)
    assert root_of_layer(a + b + c, 16384) == join(join(a, b), join(c, bytes(32)))
    # Of pieces of two blocks, a missing one is the root over two missing blocks.
    assert root_of_layer(a + b + c, 32768) == join(join(a, b), join(c, join(bytes(32), bytes(32))))


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_the_corpus(path: Path) -> None:
    """`.torrent` are to be read, with the info-hash in their name; `.bad` give the one error; all of them soon."""
    data = path.read_bytes()
    with works_at_most(0.2):
        if path.suffix == ".torrent":
            torrent = Torrent.from_bytes(data)
            assert path.stem.rpartition("-")[2] == str(torrent.info.info_hash)
        else:
            with pytest.raises((MetainfoError, BencodeError)):
                Torrent.from_bytes(data)
