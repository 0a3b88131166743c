"""Block lists in all the forms that go around, and what is none."""

from __future__ import annotations

import gzip
import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.processor_time import works_at_most
from wire import blocklist
from wire.blocklist import BlockList
from wire.errors import MisuseError


@pytest.mark.parametrize(
    ("line", "inside", "outside"),
    [
        ("Some firm: Inc:1.2.3.0-1.2.3.255", ["1.2.3.0", "1.2.3.77", "1.2.3.255"], ["1.2.2.255", "1.2.4.0"]),
        (":9.9.9.9-9.9.9.9", ["9.9.9.9"], ["9.9.9.8"]),
        ("1.0.0.0 - 1.0.0.9", ["1.0.0.5"], ["1.0.0.10"]),
        ("001.002.003.008 - 001.002.003.010 , 100 , Some, name - x", ["1.2.3.9"], ["1.2.3.11"]),
        ("001.009.000.000 - 001.009.000.255 , 000", ["1.9.0.1"], ["1.8.0.1"]),
        ("1.2.3.4 - 1.2.3.4 , 200 , good", [], ["1.2.3.4"]),
        ("10.9.0.0/16", ["10.9.0.0", "10.9.255.255"], ["10.10.0.0"]),
        ("10.9.7.7/16", ["10.9.0.0"], []),
        ("8.8.4.4", ["8.8.4.4"], ["8.8.4.5"]),
        ("2001:db8::/32", ["2001:db8::1", "2001:db8:ffff::"], ["2001:db9::"]),
        ("firm:2a01::5-2a01::9", ["2a01::5", "2a01::9"], ["2a01::a", "2a01::4"]),
        ("2a01::5 - 2a01::9", ["2a01::7"], ["2a01::10"]),
        ("::1", ["::1"], ["::2", "0.0.0.1"]),
        ("x:5.0.0.9-5.0.0.1", [], ["5.0.0.5"]),
    ],
)
def test_one_line(line: str, inside: list[str], outside: list[str]) -> None:
    made = BlockList(["# a comment", "", "; another", "// third", line])
    assert (made.bad_lines, made.warning) == (0, None)
    assert [host for host in inside if host not in made] == []
    assert [host for host in outside if host in made] == []


@pytest.mark.parametrize(
    "line",
    ["hello", "name:1.2.3-1.2.3.4", "1.2.3.256-1.2.3.257", "1.2.3.4-", "name:", "1.2.3.4/33", "x" * 5000, "\x00\xff",
     "1.2.3.4-1.2.3.5 , abc", "::zz-::1", "a:b:c:d-::1", "٣.2.3.4", "1.2.3.4.5", "-", "1.2.3.4 5"],
)  # fmt: skip
def test_bad_lines_are_counted_and_the_first_is_named(line: str) -> None:
    made = BlockList(["1.1.1.1", "", line, "2.2.2.2", line])
    assert made.bad_lines == 2
    assert made.first_bad_line == 3
    assert made.warning == "the block list: 2 lines were not understood and passed over, the first is line 3"
    assert "1.1.1.1" in made
    assert "2.2.2.2" in made


def test_ranges_that_touch_or_overlap_are_one() -> None:
    assert len(BlockList(["1.0.1.0/24", "1.0.0.0/24", "x:9.0.0.0-9.0.0.1"])) == 2
    assert len(BlockList(["1.0.0.0/24", "1.0.0.128-1.0.1.7", "1.0.0.4-1.0.0.5"])) == 1


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 300)), max_size=20), st.integers(0, 2**32 - 1))
def test_it_says_what_looking_at_each_range_says(ranges: list[tuple[int, int]], asked: int) -> None:
    pairs = [(start, min(start + size, 2**32 - 1)) for start, size in ranges]
    made = BlockList(f"n:{ipaddress.IPv4Address(a)}-{ipaddress.IPv4Address(b)}" for a, b in pairs)
    for value in [asked, *(edge for a, b in pairs for edge in (a, b, max(a - 1, 0), min(b + 1, 2**32 - 1)))]:
        assert (str(ipaddress.IPv4Address(value)) in made) == any(a <= value <= b for a, b in pairs)


@given(st.text(max_size=60))
def test_no_line_is_too_wrong(line: str) -> None:
    made = BlockList([line])
    assert made.bad_lines <= 1
    assert "no address" not in made


def test_files_plain_and_packed(tmp_path: Path) -> None:
    text = "\ufefffirm:1.2.3.0-1.2.3.255\r\ncaf\u00e9:4.0.0.0-4.0.0.1\n".encode() + b"b\xe9d:5.0.0.0-5.0.0.1\n"
    for name, data in (("plain", text), ("packed", gzip.compress(text))):
        path = tmp_path / name
        path.write_bytes(data)
        made = BlockList.load(path)
        assert (len(made), made.bad_lines) == (3, 0)
    (tmp_path / "empty").write_bytes(b"# nothing yet\n")
    assert len(BlockList.load(tmp_path / "empty")) == 0


def test_what_is_no_list_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad"
    packed = gzip.compress(b"1.2.3.4\n" * 100_000)
    for data in (b"<html>\n<body>\n", b"\x89PNG\r\n\x1a\n" + bytes(100), packed[:-20], b"\x1f\x8bgarbage"):
        bad.write_bytes(data)
        with pytest.raises(MisuseError) as caught:
            BlockList.load(bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(MisuseError):
        BlockList.load(tmp_path)
    with pytest.raises(MisuseError):
        BlockList.load(tmp_path / "absent")
    monkeypatch.setattr(blocklist, "MAX_FILE_BYTES", 1000)
    for data in (packed, b"1.2.3.4\n" * 1000):
        bad.write_bytes(data)
        with pytest.raises(MisuseError, match="MiB"):
            BlockList.load(bad)
    monkeypatch.setattr(blocklist, "MAX_RANGES", 10)
    with pytest.raises(MisuseError, match="ranges"):
        BlockList(f"1.2.3.{n}" for n in range(11))


def test_a_long_list_is_asked_in_no_time() -> None:
    made = BlockList(f"n:{n >> 8 & 255}.{n & 255}.7.0-{n >> 8 & 255}.{n & 255}.7.99" for n in range(20_000))
    with works_at_most(1.0):
        hits = sum(f"{n % 80}.{n % 256}.7.{n % 200}" in made for n in range(20_000))
    assert hits > 5_000
