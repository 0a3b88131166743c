"""SOCKS5 as bytes: the words of RFC 1928 and 1929, and answers that are nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import socks
from wire.compact import Endpoint
from wire.errors import MisuseError, NetworkError
from wire.socks import Command, Proxy, ProxyError

PLAIN = Proxy("p.example")
KNOWN = Proxy("127.0.0.1", 9, "ü", "s:e@c/r")


def test_the_words_of_a_client() -> None:
    assert socks.greeting(PLAIN) == b"\x05\x01\x00"
    assert socks.greeting(KNOWN) == b"\x05\x01\x02"
    assert socks.login(KNOWN) == b"\x01\x02\xc3\xbc\x07s:e@c/r"
    assert socks.request(Command.CONNECT, "1.2.3.4", 80) == b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"
    assert socks.request(Command.CONNECT, "a.b", 258) == b"\x05\x01\x00\x03\x03a.b\x01\x02"
    assert socks.request(Command.UDP_ASSOCIATE, "::1", 1) == b"\x05\x03\x00\x04" + bytes(15) + b"\x01\x00\x01"
    with pytest.raises(NetworkError):
        socks.request(Command.CONNECT, "x" * 256, 1)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("socks5://127.0.0.1:9050", Proxy("127.0.0.1", 9050)),
        ("SOCKS5H://p.example", Proxy("p.example", 1080)),
        ("socks5://[::1]:7/", Proxy("::1", 7)),
        ("socks5://me:a%3Ab%40@h:1", Proxy("h", 1, "me", "a:b@")),
        ("socks5://me@h", Proxy("h", 1080, "me", "")),
    ],
)
def test_a_proxy_is_given_as_a_url(url: str, proxy: Proxy) -> None:
    assert Proxy.parse(url) == proxy


@pytest.mark.parametrize(
    "url",
    ["", "h:1", "http://h:1", "socks4://h:1", "socks5://", "socks5://h:0", "socks5://h:99999", "socks5://h:x",
     "socks5://h:1/path", "socks5://h:1?q", "socks5://ü:1", "socks5://[::1",
     "socks5://:pw@h", "socks5://u:" + "x" * 256 + "@h"],
)  # fmt: skip
def test_a_wrong_one_is_refused_in_one_line_without_its_password(url: str) -> None:
    with pytest.raises(MisuseError) as caught:
        Proxy.parse(url)
    assert "\n" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_the_password_is_never_shown() -> None:
    assert "s:e@c" not in f"{KNOWN} {KNOWN!r}"


def test_answers_are_judged() -> None:
    socks.judge_method(PLAIN, b"\x05\x00")
    socks.judge_method(KNOWN, b"\x05\x02")
    for proxy, data in ((PLAIN, b"HT"), (PLAIN, b"\x05\xff"), (KNOWN, b"\x05\xff"), (PLAIN, b"\x05\x02")):
        with pytest.raises(ProxyError):
            socks.judge_method(proxy, data)
    socks.judge_login(KNOWN, b"\x01\x00")
    with pytest.raises(ProxyError):
        socks.judge_login(KNOWN, b"\x01\x01")
    assert socks.judge_reply_head(PLAIN, b"\x05\x00\x00\x01\x01", "x") == 5
    assert socks.judge_reply_head(PLAIN, b"\x05\x00\x00\x04\x01", "x") == 17
    assert socks.judge_reply_head(PLAIN, b"\x05\x00\x00\x03\x09", "x") == 11
    with pytest.raises(NetworkError, match="the connection was refused"):
        socks.judge_reply_head(PLAIN, b"\x05\x05\x00\x01\x00", "connect to x")
    with pytest.raises(NetworkError, match="error 200"):
        socks.judge_reply_head(PLAIN, b"\x05\xc8\x00\x01\x00", "connect to x")


@given(st.binary(max_size=200), st.sampled_from(["1.2.3.4", "2001:db8::1"]), st.integers(0, 65535))
def test_datagrams_there_and_back(data: bytes, host: str, port: int) -> None:
    assert socks.unpack_datagram(socks.pack_datagram(host, port, data)) == (data, Endpoint(host, port))
    assert socks.unpack_datagram(socks.pack_datagram("a.example", port, data)) is None, "a name as the sender"


@given(st.binary(max_size=40))
def test_no_datagram_is_too_wrong(data: bytes) -> None:
    found = socks.unpack_datagram(data)
    assert found is None or len(found[0]) < len(data)
