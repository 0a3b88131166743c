"""What is said to the process that speaks UPnP, and what is believed of its answer."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ProtocolError
from wire.portmap.upnp_words import (
    Answer,
    Errand,
    Verb,
    answer_line,
    is_nearby,
    leads_to,
    read_answer,
    read_errand,
    refusal_line,
)

HERE = "http://192.168.1.1:5000/rootDesc.xml"


@pytest.mark.parametrize(
    "errand",
    [
        Errand(Verb.LOOK, "192.168.1.2"),
        Errand(Verb.MAP, "192.168.1.2", 6881, 3600, HERE, ("127.0.0.1", 1)),
        Errand(Verb.UNMAP, "192.168.1.2", 6881, 0, HERE),
    ],
)
def test_an_errand_arrives_as_it_left(errand: Errand) -> None:
    assert read_errand(errand.line()) == errand
    assert errand.line().count(b"\n") == 1


def test_an_answer_arrives_as_it_left() -> None:
    assert read_answer(answer_line(HERE, "80.9.9.9")) == Answer(HERE, "80.9.9.9")
    with pytest.raises(ProtocolError, match=r"^it says 718 No\?$"):
        read_answer(refusal_line("it says 718 No\x1b"))


@pytest.mark.parametrize("host", [None, "", "80.9.9", "80.9.9.9\n", "x" * 5000, 5, ["80.9.9.9"], "::1", "\x1b[2J"])
def test_an_address_that_is_none_is_not_told(host: object) -> None:
    assert read_answer(json.dumps({"location": HERE, "host": host}).encode()) == Answer(HERE, None)


@pytest.mark.parametrize(
    "location",
    [
        None, 5, "", "https://192.168.1.1/", "file:///etc/passwd", "http://80.1.1.1/", "http://gateway.lan/",
        "http://169.254.169.254/\n", "http://[::", "http://192.168.1.1:99999/", "http://192.168.1.1/" + "x" * 3000,
        "http://192.168.1.1/\x1b[2J", "http://user@evil@80.1.1.1/",
    ],
)  # fmt: skip
def test_a_device_that_is_not_nearby_is_none(location: object) -> None:
    with pytest.raises(ProtocolError, match=r"^[^\n]*$"):
        read_answer(json.dumps({"location": location, "host": None}).encode())


@pytest.mark.parametrize("line", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000, b'{"refusal": 1}', b"null", b'"x"'])
def test_nonsense(line: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^what speaks UPnP for us"):
        read_answer(line)


def test_a_refusal_is_one_short_line() -> None:
    with pytest.raises(ProtocolError) as caught:
        read_answer(json.dumps({"refusal": "a\nb\x1b[31m" + "x" * 500}).encode())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 160


def test_a_device_leads_to_itself_alone() -> None:
    assert leads_to(HERE, "192.168.1.1")
    assert is_nearby(HERE)
    assert is_nearby("http://127.0.0.1:5000/x")
    for url in ("http://192.168.1.9/x", "https://192.168.1.1/", "file:///etc", "http://evil/", "http://[::", "", "/x"):
        assert not leads_to(url, "192.168.1.1")


@given(st.one_of(st.binary(max_size=200), st.recursive(st.none() | st.text() | st.integers(), lambda inner: (
    st.lists(inner) | st.dictionaries(st.sampled_from(["location", "host", "refusal", "x"]), inner)
)).map(lambda plain: json.dumps(plain).encode())))  # fmt: skip
def test_any_bytes(line: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read_answer(line)
