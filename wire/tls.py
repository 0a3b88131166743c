"""TLS for the client's side of a stream of `Network`, certificates checked. A shell (RFC 8446)."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from wire.errors import NetworkError
from wire.http_url import printable

if TYPE_CHECKING:
    from wire.net import Stream

__all__ = ["secured"]

_READ_BYTES = 64 << 10


class _Secured:
    """TLS over a stream of `Network` (`wire.net.Stream`)."""

    def __init__(self, stream: Stream, tls: trio.SSLStream[Any]) -> None:
        self._stream = stream
        self._tls = tls
        self.remote = stream.remote

    async def receive_into(self, buffer: memoryview) -> int:
        try:
            data = await self._tls.receive_some(len(buffer))
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise _tls_error(error) from error
        buffer[: len(data)] = data
        return len(data)

    async def send_all(self, buffers: Sequence[Any]) -> None:
        try:
            for buffer in buffers:
                await self._tls.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise _tls_error(error) from error

    def close(self) -> None:
        self._stream.close()


class _Transport(trio.abc.Stream):
    """A stream of `Network` as trio's TLS wants it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all([data])
        except NetworkError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        buffer = bytearray(max_bytes or _READ_BYTES)
        try:
            count = await self._stream.receive_into(memoryview(buffer))
        except NetworkError as error:
            raise trio.BrokenResourceError(str(error)) from error
        return bytes(buffer[:count])

    async def aclose(self) -> None:
        self._stream.close()
        await trio.lowlevel.checkpoint()


async def secured(stream: Stream, host: str) -> Stream:
    """The stream with TLS on it; closes it where that fails. Raises NetworkError."""
    try:
        trust = await trio.to_thread.run_sync(context)  # it reads the machine's certificates: some 20 ms
        tls = trio.SSLStream(_Transport(stream), trust, server_hostname=host, https_compatible=True)
        await tls.do_handshake()
    except (trio.BrokenResourceError, ssl.SSLError, ssl.CertificateError) as error:
        stream.close()
        raise _tls_error(error) from error
    except BaseException:
        stream.close()
        raise
    return _Secured(stream, tls)


@functools.cache
def context() -> ssl.SSLContext:
    """Trusts what the machine trusts, and Mozilla's list where the machine has none of its own."""
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not made.cert_store_stats()["x509_ca"]:
        import certifi

        made.load_verify_locations(certifi.where())
    return made


def _tls_error(error: Exception) -> NetworkError:
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NetworkError(f"the server's certificate is not to be trusted: {printable(cause.verify_message)}")
    if isinstance(cause, ssl.SSLError):
        return NetworkError(f"no secure connection: {printable(cause.reason or str(cause))}")
    return NetworkError(printable(str(cause or error)))
