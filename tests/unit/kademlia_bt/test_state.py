"""The state file: what is saved comes back, and nothing that a file can hold stops a start."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_bt.dht.contact import Contact
from kademlia_bt.router.state import load
from kademlia_bt.state import SavedNode, StateFile
from wire import bencode
from wire.compact import Endpoint
from wire.errors import DiskError, ProtocolError

RNG = random.Random(1)
SAVED = SavedNode(
    {"ipv4": (bytes(20), b"\xff" * 20), "ipv6": (bytes(20),)},
    (
        *(Contact(RNG.randbytes(20), Endpoint(f"80.{n}.0.1", 6881)) for n in range(250)),
        *(Contact(RNG.randbytes(20), Endpoint(f"2a01:{n:x}::1", 6881)) for n in range(1, 250)),
    ),
)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    with StateFile(tmp_path / "new" / "dht.state") as file:
        assert file.load() == SavedNode()
        assert file.save(SAVED)
        assert file.load() == SAVED
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["dht.state", "dht.state.lock"]


def test_a_file_cut_at_any_byte_or_with_any_bit_flipped_is_damaged() -> None:
    small = SavedNode({"ipv4": (bytes(20),)}, SAVED.nodes[:3])
    data = small.to_bytes()
    for end in range(len(data)):
        with pytest.raises(ProtocolError):
            SavedNode.from_bytes(data[:end])
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            SavedNode.from_bytes(bytes(broken))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"i5e",
        b"le",
        b"d8:ids-ipv4i5ee",
        b"d8:ids-ipv43:abce",
        b"d5:nodes3:abce",
        b"d5:nodeslee",
        b"l" * 5000,
        bencode.encode({b"ids-ipv4": bytes(20 * 65)}),
    ],
)
def test_a_forged_file_with_a_right_checksum_is_damaged_too(body: bytes) -> None:
    header = SavedNode().to_bytes()[: -len(hashlib.sha256().digest()) - 2]
    with pytest.raises(ProtocolError):
        SavedNode.from_bytes(header + hashlib.sha256(body).digest() + body)


@given(st.binary(max_size=300))
def test_any_bytes_raise_only_the_error_of_their_writer(data: bytes) -> None:
    header = SavedNode().to_bytes()[: -len(hashlib.sha256().digest()) - 2]
    for content in (data, header + hashlib.sha256(data).digest() + data):
        try:
            SavedNode.from_bytes(content)
        except ProtocolError:
            continue


def test_more_nodes_than_anybody_saves_are_cut() -> None:
    many = SavedNode(nodes=tuple(Contact(bytes(20), Endpoint("80.0.0.1", port)) for port in range(1, 4000)))
    assert len(SavedNode.from_bytes(many.to_bytes()).nodes) == 2000


def test_a_damaged_file_is_set_aside_and_said_once(tmp_path: Path) -> None:
    path = tmp_path / "dht.state"
    path.write_bytes(b"garbage")
    with StateFile(path) as file:
        with pytest.raises(ProtocolError, match=r"is damaged.*starting afresh"):
            file.load()
        assert file.load() == SavedNode()
    assert (tmp_path / "dht.state.damaged").read_bytes() == b"garbage"


def test_a_second_process_borrows_the_nodes_and_saves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "dht.state"
    with StateFile(path) as first:
        first.save(SAVED)
        with StateFile(path) as second:
            assert first.owned
            assert not second.owned
            assert second.load() == SAVED
            assert not second.save(SavedNode())
        assert first.load() == SAVED
    with StateFile(path) as later:
        assert later.owned


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with StateFile(tmp_path / "sub" / "dht.state") as file:
        assert file.load() == SavedNode()
        assert not file.save(SAVED)


def test_a_failed_save_keeps_the_old_file_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StateFile(tmp_path / "dht.state") as file:
        file.save(SAVED)

        def full(self: Path, mode: str) -> IO[bytes]:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(DiskError, match="No space left"):
            file.save(SavedNode())
        assert file.load() == SAVED


def test_a_folder_in_the_files_place_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "dht.state").mkdir()
    with StateFile(tmp_path / "dht.state") as file, pytest.raises(DiskError):
        file.load()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "dht.state"
    os.mkfifo(path)
    with StateFile(path) as file, pytest.raises(DiskError, match="no regular file"):
        file.load()
    with pytest.raises(DiskError, match="no regular file"):
        load(path)
