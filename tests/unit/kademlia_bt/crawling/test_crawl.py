"""A crawl's memory, its file, and the key file: politeness, bounds, what is left after a kill, what is not ours."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from kademlia_bt.answers import SampleAnswer
from kademlia_bt.crawling.crawl import Crawl, Finding
from kademlia_bt.crawling.crawl_file import CrawlFile
from kademlia_bt.dht.contact import Contact
from kademlia_bt.items.key_file import load_or_make_keys, others_may_read
from wire.compact import Endpoint
from wire.errors import DiskError, ProtocolError

ID = bytes(20)


def at(number: int, port: int = 6881) -> Endpoint:
    return Endpoint(f"9.{number >> 16}.{number >> 8 & 255}.{number & 255}", port)


def answer(endpoint: Endpoint, hashes: list[bytes], *names: Endpoint, interval_s: int = 21_600) -> SampleAnswer:
    nodes = tuple(Contact(ID, name) for name in names)
    return SampleAnswer(Contact(ID, endpoint), tuple(hashes), len(hashes), interval_s, nodes)


def test_each_address_is_asked_once_an_interval() -> None:
    crawl = Crawl(random.Random(1))
    crawl.add([at(1), at(1, 7000), at(2)], 0.0)
    asked = {crawl.next(), crawl.next()}
    assert len({endpoint.host for endpoint in asked if endpoint}) == 2
    assert crawl.next() is None
    crawl.take(answer(at(1), [], interval_s=600), at(1), 0.0)
    crawl.add([at(1), at(2)], 599.0)
    assert crawl.next() is None
    crawl.add([at(1), at(2)], 601.0)  # the second never answered
    assert (crawl.next(), crawl.next()) == (at(1), None)


def test_one_that_names_no_interval_is_left_in_peace_for_a_while() -> None:
    crawl = Crawl(random.Random(1))
    crawl.take(answer(at(1), [], interval_s=0), at(1), 0.0)
    crawl.add([at(1)], 100.0)
    assert crawl.next() is None
    crawl.add([at(1)], 301.0)
    assert crawl.next() == at(1)


def test_a_flood_of_names_is_bounded_and_cannot_choose_who_is_asked() -> None:
    crawl = Crawl(random.Random(1))
    crawl.add((at(number) for number in range(1_000)), 0.0)
    crawl.add((Endpoint(f"66.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1) for n in range(25_000)), 0.0)
    assert crawl.waiting == 20_000
    first = [crawl.next() for _ in range(2_000)]
    assert any(endpoint is not None and endpoint.host.startswith("9.") for endpoint in first)


def test_each_info_hash_is_new_once() -> None:
    crawl = Crawl(random.Random(1))
    one, two, three = bytes([1]) * 20, bytes([2]) * 20, bytes([3]) * 20
    assert crawl.take(answer(at(1), [one, two, one]), at(1), 0.0).new == (one, two)
    assert crawl.take(answer(at(2), [two, three]), at(2), 0.0).new == (three,)
    assert crawl.found == 3


def finding(number: int, when: float = 1_000.0) -> Finding:
    return Finding(when, at(number), bytes([number]) * 20, 40, 600, 1, (bytes([number]) * 20,))


def test_a_line_says_it_all() -> None:
    assert Finding.from_line(finding(7).to_line()) == finding(7)
    whole = finding(7).to_line()
    for broken in [
        "",
        "[]",
        "{}",
        "7",
        whole[:-2],
        whole.replace("0707", "07", 1),
        whole.replace("9.0.0.7", "x"),
        "[" * 9,
    ]:
        with pytest.raises(ProtocolError):
            Finding.from_line(broken)


def test_the_file_goes_on_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "crawl.jsonl"
    with CrawlFile(path) as file:
        assert list(file.read()) == []
        file.write(finding(1))
        file.write(finding(2))
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        with CrawlFile(path) as file:
            before = list(file.read())
            assert before == [finding(1), finding(2)][: whole[:cut].count(b"\n")]
            file.write(finding(3))
        with CrawlFile(path) as file:
            assert list(file.read()) == [*before, finding(3)]


@pytest.mark.parametrize("content", [b"not ours\n", b"not ours", b"\xff\xfe\n", b'{"event":"x"}\n', b"\n"])
def test_another_file_is_told_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with CrawlFile(path) as file, pytest.raises(ProtocolError, match="line 1"):
        list(file.read())
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DiskError), CrawlFile(tmp_path / "no" / "file"):
        pass
    with pytest.raises(DiskError):
        load_or_make_keys(tmp_path / "no" / "key", random.Random(1))


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    os.umask(os.umask(0))  # whatever it is
    keys, made = load_or_make_keys(path, random.Random(1))
    again, made_again = load_or_make_keys(path, random.Random(2))
    assert (made, made_again, again.seed) == (True, False, keys.seed)
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
        assert not others_may_read(path)
        path.chmod(0o644)
        assert others_may_read(path)


@pytest.mark.parametrize("content", [b"", b"x" * 64, b"00" * 31, b"00" * 33, b"\xff" * 10, b"0" * 100_000])
def test_what_is_no_key_file_is_told_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ProtocolError, match="no key file"):
        load_or_make_keys(path, random.Random(1))
    assert path.read_bytes() == content
