from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest

from tests.strategies import torrent_of
from wire.bencode import decode, encode
from wire.errors import MetainfoError, MisuseError
from wire.ids import InfoHash
from wire.metainfo import Info

HASH = hashlib.sha1(b"hello").digest()


def raw(**changes: Any) -> bytes:
    """A v1 single-file info dictionary; `_` in a name is a space; None leaves a key out."""
    items: dict[str, Any] = {"length": 5, "name": b"hello.txt", "piece length": 16384, "pieces": HASH}
    items.update({key.replace("_", " "): value for key, value in changes.items()})
    return encode({key: value for key, value in items.items() if value is not None})


def multi(*files: Mapping[str, Any], size: int = 5) -> bytes:
    return raw(length=None, files=list(files), pieces=HASH if size else b"")


def v2(tree: Mapping[str, Any], **changes: Any) -> bytes:
    return raw(**{"length": None, "pieces": None, "meta_version": 2, "file_tree": tree, **changes})


def leaf(size: int, **more: Any) -> dict[str, Any]:
    return {"": {"length": size, **({"pieces root": root(size)} if size else {}), **more}}


def root(size: int) -> bytes:
    """Files of one size are equal here."""
    return size.to_bytes(32, "big")


def test_a_single_file() -> None:
    data = raw(private=1)
    info = Info.from_bytes(data)
    assert info.raw == data
    assert info.info_hash == InfoHash(v1=hashlib.sha1(data).digest())
    assert (info.name, info.size, info.content_size, info.piece_length, info.piece_count) == (
        "hello.txt",
        5,
        5,
        16384,
        1,
    )
    assert (info.private, info.single_file, info.version) == (True, True, "1")
    assert [entry.path for entry in info.files] == [("hello.txt",)]
    assert (info.piece_size(0), info.piece_hash(0), list(info.spans(1, 3))) == (5, HASH, [(0, 1, 3)])
    for index in (-1, 1):
        with pytest.raises(MisuseError):
            info.piece_hash(index)


def test_several_files() -> None:
    made = torrent_of([10, 0, 3, 16], 16)
    assert [entry.shown_path for entry in made.info.files] == [
        "top/file0",
        "top/sub/file1",
        "top/sub/deep/file2",
        "top/file3",
    ]
    assert [entry.offset for entry in made.info.files] == [0, 10, 10, 13]
    assert (made.info.size, made.info.piece_count, made.info.single_file) == (29, 2, False)
    assert Info.from_bytes(made.info.raw) == made.info
    assert hash(Info.from_bytes(made.info.raw)) == hash(made.info)


def test_one_file_in_a_folder_is_no_single_file() -> None:
    info = Info.from_bytes(multi({"length": 5, "path": [b"x"]}))
    assert (info.single_file, info.files[0].path) == (False, ("hello.txt", "x"))


def test_the_expected_hash_comes_first() -> None:
    data = raw()
    right, wrong = hashlib.sha1(data).digest(), bytes(20)
    right2, wrong2 = hashlib.sha256(data).digest(), bytes(32)
    assert Info.from_bytes(data, InfoHash(v1=right)).info_hash.v1 == right
    for expected in (InfoHash(v1=wrong), InfoHash(v1=right, v2=wrong2), InfoHash(v1=wrong, v2=right2)):
        with pytest.raises(MetainfoError, match="not the bytes"):
            Info.from_bytes(data, expected)
    with pytest.raises(MetainfoError, match="not the bytes"):
        Info.from_bytes(b"l" * 100_000, InfoHash(v1=right))
    with pytest.raises(MetainfoError, match="another version"):
        Info.from_bytes(data, InfoHash(v2=right2))


def test_pads_and_links() -> None:
    info = Info.from_bytes(
        multi(
            {"length": 2, "path": [b"a"]},
            {"length": 2, "path": [b".pad", b"2"], "attr": b"p"},
            {"length": 1, "path": [b"b"], "attr": b"x"},
            {"length": 0, "path": [b"link"], "attr": b"l", "symlink path": [b"..", b"..", b"etc"]},
            {"path": [b"other"], "attr": b"lx", "symlink path": [b"a"]},
        )
    )
    assert [(entry.pad, entry.link, entry.on_disk) for entry in info.files] == [
        (False, False, True),
        (True, False, False),
        (False, False, True),
        (False, True, False),
        (False, True, False),
    ]
    assert (info.size, info.content_size) == (5, 3)
    pathless = Info.from_bytes(multi({"length": 1, "path": [b"a"]}, {"length": 4, "attr": b"p"}))
    assert pathless.files[1].pad


def test_utf8_names_win_and_legacy_bytes_stay_apart() -> None:
    info = Info.from_bytes(raw(**{"name.utf-8": "gr\u00fcn".encode(), "name": b"gr\xfcn"}))
    assert info.name == "gr\u00fcn"
    files = [{"length": 5, "path": [b"\xe9"]}, {"length": 0, "path": [b"\xe8"], "path.utf-8": ["\u00e8".encode()]}]
    assert [entry.path[1] for entry in Info.from_bytes(multi(*files)).files] == ["%E9", "\u00e8"]


def test_an_empty_name_becomes_the_hash() -> None:
    data = raw(name=b"")
    assert Info.from_bytes(data).name == hashlib.sha1(data).hexdigest()


def test_keys_in_disorder_keep_their_hash() -> None:
    data = b"d4:name1:x6:lengthi5e12:piece lengthi16384e6:pieces20:" + HASH + b"e"
    info = Info.from_bytes(data)
    assert info.info_hash.v1 == hashlib.sha1(data).digest()
    assert info.raw == data != encode(decode(data))


def test_empty_torrents_have_no_pieces() -> None:
    info = Info.from_bytes(raw(length=0, pieces=b""))
    assert (info.piece_count, info.size) == (0, 0)
    with pytest.raises(MisuseError):
        info.piece_size(0)


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"le",
    "not bencode": b"hello",
    "no name": raw(name=None),
    "name is a number": raw(name=5),
    "no length": raw(length=None),
    "length is text": raw(length=b"5"),
    "negative length": raw(length=-1),
    "length beyond all disks": raw(length=1 << 63),
    "no piece length": raw(piece_length=None),
    "piece length 0": raw(piece_length=0),
    "piece length negative": raw(piece_length=-16384),
    "piece length of a GiB": raw(piece_length=1 << 30),
    "piece length of text": raw(piece_length=b"16384"),
    "no pieces": raw(pieces=None),
    "pieces is a list": raw(pieces=[HASH]),
    "too few pieces": raw(length=16385),
    "too many pieces": raw(pieces=HASH * 2),
    "odd pieces": raw(pieces=HASH[:-1]),
    "two million pieces and one": raw(length=0x200001, piece_length=1, pieces=b""),
    "files is empty": raw(files=[]),
    "files is a dict": raw(files={}),
    "a file is a string": raw(files=[b"x"]),
    "no path": multi({"length": 5}),
    "empty path": multi({"length": 5, "path": []}),
    "path of nothings": multi({"length": 5, "path": [b"", b"."]}),
    "path is text": multi({"length": 5, "path": b"x"}),
    "path of numbers": multi({"length": 5, "path": [1]}),
    "path of lists": multi({"length": 5, "path": [[b"x"]]}),
    "negative file": multi({"length": 6, "path": [b"a"]}, {"length": -1, "path": [b"b"]}),
    "sizes overflow": multi(*({"length": 1 << 62, "path": [b"%d" % n]} for n in range(4))),
    "parent": multi({"length": 5, "path": [b"..", b"evil"]}),
    "parent name": raw(name=b".."),
    "absolute name": raw(name=b"/etc/passwd"),
    "device name": raw(name=b"nul.txt"),
    "over-long name": raw(name=b"x" * 300),
    "colliding": multi({"length": 5, "path": [b"a"]}, {"length": 0, "path": [b"A"]}),
    "file and folder": multi({"length": 5, "path": [b"a"]}, {"length": 0, "path": [b"a", b"b"]}),
    "link with bytes": multi({"length": 5, "path": [b"a"], "attr": b"l"}),
    "version 3": raw(meta_version=3),
    "version is text": raw(meta_version=b"2"),
    "v2 without tree": v2({}),
    "v2 tree is a list": v2([]),  # type: ignore[arg-type]
    "v2 tree of numbers": v2({"a": 5}),
    "v2 empty folder": v2({"a": {}}),
    "v2 file and folder": v2({"a": {**leaf(1), "b": leaf(1)}}),
    "v2 leaf at the top": v2({"": {"length": 1}}),
    "v2 leaf of text": v2({"a": {"": b"x"}}),
    "v2 no length": v2({"a": {"": {"pieces root": b"r" * 32}}}),
    "v2 no root": v2({"a": {"": {"length": 1}}}),
    "v2 short root": v2({"a": {"": {"length": 1, "pieces root": b"r" * 20}}}),
    "v2 odd piece length": v2({"a": leaf(1)}, piece_length=16385),
    "v2 small piece length": v2({"a": leaf(1)}, piece_length=8192),
    "v2 parent": v2({"..": leaf(1)}),
    "v2 parent deep": v2({"a": {"..": {"..": leaf(1)}}}),
    "v2 one root for two sizes": v2({"a": leaf(1), "b": {"": {"length": 2, "pieces root": root(1)}}}),
    "hybrid of two names": v2({"other": leaf(5)}, length=5, pieces=HASH),
    "hybrid of two sizes": v2({"hello.txt": leaf(6)}, length=5, pieces=HASH),
    "hybrid with more in v2": v2({"hello.txt": leaf(5), "b": leaf(0)}, length=5, pieces=HASH),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_ones_give_one_line(what: str) -> None:
    with pytest.raises(MetainfoError) as caught:
        Info.from_bytes(BROKEN[what])
    message = str(caught.value)
    assert message.isprintable()
    assert 10 < len(message) < 400


def test_in_v2_each_file_starts_a_piece_of_its_own() -> None:
    data = v2({"a": leaf(20000), "dir": {"b": leaf(0), "c": leaf(1)}, "z": {"": {"attr": b"l", "length": 0}}})
    info = Info.from_bytes(data)
    assert info.info_hash == InfoHash(v2=hashlib.sha256(data).digest())
    assert (info.version, info.piece_count, info.content_size) == ("2", 3, 20001)
    assert [info.piece_size(index) for index in range(3)] == [16384, 3616, 1]
    assert [(entry.shown_path, entry.offset, entry.link) for entry in info.files] == [
        ("hello.txt/a", 0, False),
        ("hello.txt/dir/b", 32768, False),
        ("hello.txt/dir/c", 32768, False),
        ("hello.txt/z", 49152, True),
    ]
    with pytest.raises(MisuseError):
        info.piece_hash(0)
    assert Info.from_bytes(data, info.info_hash) == info


def test_a_v2_single_file() -> None:
    info = Info.from_bytes(v2({"hello.txt": leaf(5)}))
    assert (info.files[0].path, info.single_file) == (("hello.txt",), True)


def test_the_last_block_of_a_v2_file_may_be_asked_for_whole() -> None:
    info = Info.from_bytes(v2({"a": leaf(20000), "b": leaf(5)}, piece_length=32768))
    assert info.piece_size(0) == 20000
    for begin, length, may in ((0, 16384, True), (16384, 3616, True), (16384, 16384, True), (19999, 12769, True)):
        assert info.may_be_asked(0, begin, length) is may
    for begin, length in ((16384, 16385), (20000, 1), (-1, 2), (0, -1), (0, 32769)):
        assert not info.may_be_asked(0, begin, length)
    both = Info.from_bytes(v2({"hello.txt": leaf(5)}, length=5, pieces=HASH))
    assert both.may_be_asked(0, 0, 5)
    assert not both.may_be_asked(0, 0, 16384), "by version 1 a piece ends where its bytes end"


def test_a_hybrid_has_both_hashes_and_matches_by_either() -> None:
    data = v2({"hello.txt": leaf(5)}, length=5, pieces=HASH)
    info = Info.from_bytes(data)
    assert (info.version, info.files[0].pieces_root) == ("hybrid", root(5))
    both = InfoHash(hashlib.sha1(data).digest(), hashlib.sha256(data).digest())
    for expected in (both, InfoHash(v1=both.v1), InfoHash(v2=both.v2)):
        assert Info.from_bytes(data, expected).info_hash == both


def test_a_hybrid_must_be_aligned() -> None:
    tree = {"a": leaf(2), "b": leaf(3)}
    listed = [{"length": 2, "path": [b"a"]}, {"length": 3, "path": [b"b"]}]
    with pytest.raises(MetainfoError, match="disagree"):
        Info.from_bytes(v2(tree, files=listed, pieces=HASH))
    listed.insert(1, {"length": 16382, "attr": b"p"})
    info = Info.from_bytes(v2(tree, files=listed, pieces=HASH * 2))
    assert [entry.pad for entry in info.files] == [False, True, False]
    assert (info.size, info.content_size) == (16387, 5)
