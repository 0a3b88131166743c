"""SOCKS5 as a client speaks it: requests as bytes, answers judged; no I/O (RFC 1928, RFC 1929).

The greeting offers the password alone where there is one: who gives a password wants it asked for.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from wire.compact import Endpoint
from wire.errors import MisuseError, NetworkError

__all__ = [
    "Command",
    "Proxy",
    "ProxyError",
    "greeting",
    "judge_login",
    "judge_method",
    "judge_reply_head",
    "login",
    "pack_datagram",
    "request",
    "rest_of_reply",
    "unpack_datagram",
]

DEFAULT_PORT = 1080
MAX_NAME_BYTES = 255
"""Of a host's name, a user's and a password: their length is one byte."""
_NO_AUTH, _PASSWORD, _NONE_FITS = 0, 2, 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REASONS = {
    1: "it failed",
    2: "its rules do not allow it",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "the connection was refused",
    6: "it took too many hops",
    7: "it does not do that",
    8: "it does not know such addresses",
}


class ProxyError(NetworkError):
    """The proxy itself is the trouble, not what it was asked to reach."""


class Command(enum.IntEnum):
    """What is asked of the proxy."""

    CONNECT = 1
    UDP_ASSOCIATE = 3


@dataclass(frozen=True, slots=True)
class Proxy:
    """A SOCKS5 proxy, and who we are to it."""

    host: str
    port: int = DEFAULT_PORT
    user: str | None = None
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Reads `socks5://[user:password@]HOST[:PORT]`. Raises MisuseError, without the password in it."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port, parts = "", None, urlsplit("")
        if parts.scheme.lower() not in ("socks5", "socks5h") or parts.path not in ("", "/") or parts.query:
            raise MisuseError("a proxy is given as socks5://[USER:PASSWORD@]HOST:PORT; no other kind is known")
        if not host or port == 0 or parts.username == "" or not all(" " < char < "\x7f" for char in host):
            raise MisuseError("the proxy's host or port is missing or wrong: socks5://[USER:PASSWORD@]HOST:PORT")
        user = None if parts.username is None else unquote(parts.username)
        password = unquote(parts.password or "")
        for what, text in (("user", user or "x"), ("password", password or "x")):
            if not 0 < len(text.encode()) <= MAX_NAME_BYTES:
                raise MisuseError(f"the proxy's {what} has more than {MAX_NAME_BYTES} bytes")
        return cls(host, port or DEFAULT_PORT, user, password)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# --- what is said, and what comes back


def greeting(proxy: Proxy) -> bytes:
    """The first words."""
    return bytes([5, 1, _NO_AUTH if proxy.user is None else _PASSWORD])


def judge_method(proxy: Proxy, data: bytes) -> None:
    """The two bytes that answer `greeting`. Raises ProxyError."""
    if data[0] != 5:
        raise ProxyError(f"what answers at {proxy} is no SOCKS5 proxy")
    if data[1] == _NONE_FITS:
        wants = "asks for a user and a password" if proxy.user is None else "takes no user and password"
        raise ProxyError(f"the proxy {proxy} {wants}: socks5://[USER:PASSWORD@]HOST:PORT")
    if data[1] != (_NO_AUTH if proxy.user is None else _PASSWORD):
        raise ProxyError(f"the proxy {proxy} asks for something that was not offered")


def login(proxy: Proxy) -> bytes:
    """User and password (RFC 1929); after `judge_method`, where there is a user."""
    user, password = (proxy.user or "").encode(), proxy.password.encode()
    return bytes([1, len(user), *user, len(password), *password])


def judge_login(proxy: Proxy, data: bytes) -> None:
    """The two bytes that answer `login`. Raises ProxyError."""
    if data[1] != 0:
        raise ProxyError(f"the proxy {proxy} does not accept the user or the password")


def request(command: Command, host: str, port: int) -> bytes:
    """Asks for a connection or an association. `host` is an address or a name."""
    return bytes([5, command, 0]) + _address(host, port)


def judge_reply_head(proxy: Proxy, data: bytes, what: str) -> int:
    """The first five bytes of the answer to `request`: how many follow. Raises NetworkError where it was refused."""
    if data[0] != 5:
        raise ProxyError(f"what answers at {proxy} is no SOCKS5 proxy")
    if data[1] != 0:
        reason = _REASONS.get(data[1], f"error {data[1]}")
        raise NetworkError(f"cannot {what}: the proxy {proxy} says that {reason}")
    return {_IPV4: 3, _IPV6: 15, _NAME: data[4]}.get(data[3], 0) + 2


def rest_of_reply(data: bytes) -> int:
    """The port at the end of an answer."""
    return int.from_bytes(data[-2:], "big")


def _address(host: str, port: int) -> bytes:
    tail = port.to_bytes(2, "big")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii", "replace")
        if len(name) > MAX_NAME_BYTES:
            raise NetworkError("the host's name is over-long") from None
        return bytes([_NAME, len(name)]) + name + tail
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed + tail


# --- datagrams


def pack_datagram(host: str, port: int, data: bytes | bytearray | memoryview) -> bytes:
    """A datagram as the relay wants it; `host` is an address or a name."""
    return b"".join((b"\0\0\0", _address(host, port), data))


def unpack_datagram(data: bytes) -> tuple[bytes, Endpoint] | None:
    """What the relay passed on and whence; None for fragments, names as senders and nonsense."""
    if len(data) < 10 or data[2] != 0:
        return None
    width = {_IPV4: 4, _IPV6: 16}.get(data[3])
    if width is None or len(data) < 6 + width:
        return None
    return data[6 + width :], Endpoint.from_compact(data[4 : 6 + width])
