"""Torrents from any bytes: what is read holds together, and what is not gives the one error."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.strategies import MadeTorrent, bencode_values, made_torrents, near_bencode, torrent_of
from wire.bencode import Value, encode
from wire.errors import MetainfoError
from wire.metainfo import Info, Torrent

_keys = st.sampled_from(
    b"name|name.utf-8|length|files|pieces|piece length|private|meta version|file tree|path|path.utf-8|attr|"
    b"pieces root|info|announce|announce-list|url-list|nodes|piece layers|comment|symlink path|..|a|".split(b"|")
)
_leaves = st.one_of(
    st.sampled_from(
        [0, 1, 2, 5, 20, 16384, 32768, -1, 1 << 40, 1 << 63, b"", b"p", b"l", b"..", b"a", b"x" * 20, b"r" * 32]
    ),
    st.integers(),
    st.binary(max_size=40),
)
_values: st.SearchStrategy[Value] = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=6), max_leaves=20
)
_tree = st.recursive(
    st.fixed_dictionaries(
        {b"": st.fixed_dictionaries({b"length": st.integers(0, 40_000), b"pieces root": st.just(b"r" * 32)})}
    ),
    lambda inner: st.dictionaries(st.sampled_from([b"a", b"b", b"A", b"..", b"", b"n"]), inner, max_size=3),
    max_leaves=4,
)
_files = st.lists(
    st.fixed_dictionaries(
        {b"length": st.integers(0, 40_000), b"path": st.lists(st.sampled_from([b"a", b"b", b"..", b""]), max_size=3)},
        optional={b"attr": st.sampled_from([b"p", b"l", b"x", b""])},
    ),
    max_size=4,
)
_infos = st.fixed_dictionaries(
    {b"name": st.sampled_from([b"n", b"", b"..", b"a"]), b"piece length": st.sampled_from([16384, 32768, 1, 0, -5])},
    optional={
        b"pieces": st.integers(0, 5).map(lambda count: b"h" * 20 * count) | _values,
        b"length": st.integers(0, 100_000) | _values,
        b"files": _files | _values,
        b"meta version": st.sampled_from([1, 2, 3]),
        b"file tree": _tree | _values,
        b"private": st.integers(0, 2),
    },
)


def assert_holds(info: Info) -> None:
    assert info.info_hash.v1 in (None, hashlib.sha1(info.raw).digest())
    assert info.info_hash.v2 in (None, hashlib.sha256(info.raw).digest())
    assert sum(info.piece_size(index) for index in range(min(info.piece_count, 1000))) == min(
        info.size, 1000 * info.piece_length
    )
    spans = list(info.spans(0, info.size))
    assert sum(length for _, _, length in spans) == sum(entry.size for entry in info.files)
    assert all(at >= 0 and at + length <= info.files[index].size for index, at, length in spans)
    for entry in info.files:
        assert entry.size >= 0
        assert entry.pad or entry.path
        for part in entry.path:
            assert part not in ("", ".", "..")
            assert "/" not in part
            assert "\0" not in part


@settings(max_examples=examples(150))
@given(_infos | _values.filter(lambda value: isinstance(value, dict)))
def test_any_info_dictionary(items: Value) -> None:
    try:
        info = Info.from_bytes(encode(items))
    except MetainfoError as error:
        message = str(error)
    else:
        assert_holds(info)
        message = info.name
    assert message.isprintable()


@settings(max_examples=examples(120))
@given(made_torrents(), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=3), st.booleans())
def test_a_torrent_with_some_bytes_changed(made: MadeTorrent, changes: list[tuple[int, int]], cut: bool) -> None:
    whole = Torrent(made.info, trackers=(("http://t/",),), web_seeds=("http://w",), nodes=(("h", 1),)).to_bytes()
    data = bytearray(whole)
    for at, byte in changes:
        data[at % len(data)] = byte
    if cut and changes:
        del data[changes[0][0] % len(data) :]
    try:
        torrent = Torrent.from_bytes(bytes(data))
    except MetainfoError:
        assert changes
        return
    assert_holds(torrent.info)
    assert Torrent.from_bytes(torrent.to_bytes()) == torrent
    if not changes:
        assert torrent.to_bytes() == whole


@given(near_bencode() | bencode_values().map(encode))
def test_any_bytes(data: bytes) -> None:
    for read in (Torrent.from_bytes, Info.from_bytes):
        try:
            read(data)
        except MetainfoError:
            continue


@given(st.dictionaries(_keys, _values, max_size=5))
def test_what_stands_around_the_info_never_spoils_it(around: dict[bytes, Value]) -> None:
    info = torrent_of([5], 16).info
    around.pop(b"info", None)
    parts = {encode(key): encode(value) for key, value in around.items()} | {b"4:info": info.raw}
    torrent = Torrent.from_bytes(b"d" + b"".join(key + value for key, value in parts.items()) + b"e")
    assert torrent.info == info
    assert Torrent.from_bytes(torrent.to_bytes()) == torrent
