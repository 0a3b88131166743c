"""One bounded GET: what comes whole, what is cut off, and where nobody is led."""

from __future__ import annotations

import datetime
import gzip
import random
import socket
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from magnet.nursery import open_plain_nursery
from tests.shell.web import Answer, Web, ok, redirect, said, status, without_end
from tests.sim.net import Host, Internet
from wire import tls
from wire.compact import IPV4, IPV6, Endpoint
from wire.errors import NetworkError
from wire.http import HttpClient, HttpError, Reply, fetch, is_near_literal, request
from wire.http_url import redirected
from wire.net import Network, Stream
from wire.trio_net import TrioNetwork

MIB = 1 << 20
FAR = "http://tracker.example"


class Place:
    """A client, a web server far away (tracker.example) and one on the client's own machine and network."""

    def __init__(self, internet: Internet, client: Host, far: Web, near: Web) -> None:
        self.internet, self.client, self.far, self.near = internet, client, far, near

    async def get(self, url: str, *, local: bool = False, **more: object) -> Reply:
        return await fetch(self.client, url, near=local, max_bytes=MIB, **more)


@asynccontextmanager
async def a_place() -> AsyncIterator[Place]:
    internet = Internet(random.Random(1))
    client = internet.host("80.1.1.1", "127.0.0.1", "2a01:1::1")
    server = internet.host("80.2.2.2", "2a01:2::2")
    lan = internet.host("10.0.0.9", "169.254.169.254", "fe80::9")
    far, near = Web(), Web()
    internet.names["tracker.example"] = ["80.2.2.2", "2a01:2::2"]
    async with open_plain_nursery() as nursery:
        for address in server.addresses:
            nursery.start_soon(far.serve, await server.listen(Endpoint(address, 80)))
        nursery.start_soon(near.serve, await client.listen(Endpoint("127.0.0.1", 80)))
        for address in lan.addresses:
            nursery.start_soon(near.serve, await lan.listen(Endpoint(address, 80)))
        yield Place(internet, client, far, near)


async def refusal(place: Place, url: str, **more: object) -> str:
    with pytest.raises(HttpError) as caught:
        await place.get(url, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"hello" * 1000),
        said(b"HTTP/1.0 200 OK\r\n\r\n" + b"hello" * 1000),
        said(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + b"hello" * 1000 + b"\r\n0\r\n\r\n"),
        said(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"hello" * 1000),
        ok(gzip.compress(b"hello" * 1000), "Content-Encoding: gzip"),
        ok(zlib.compress(b"hello" * 1000), "Content-Encoding: Deflate"),
    ],
)
async def test_a_body_in_all_its_wrappings(autojump_clock: object, answer: Answer) -> None:
    async with a_place() as place:
        place.far.answers["/x"] = answer
        reply = await place.get(f"{FAR}/x?a=%00%ff&b={{}} é#part")
        assert (reply.status, reply.body) == (200, b"hello" * 1000)
        assert place.far.asked == ["/x?a=%00%ff&b={}%20%C3%A9"]
        assert b"\r\nHost: tracker.example\r\n" in place.far.heads[0]


async def test_whatever_the_status_the_body_comes(autojump_clock: object) -> None:
    async with a_place() as place:
        assert (await place.get(f"{FAR}/none")).status == 404


async def test_redirects_are_followed_five_times(autojump_clock: object) -> None:
    async with a_place() as place:
        for n in range(100):
            place.far.answers[f"/{n}"] = redirect(f"/{n - 1}")
        place.far.answers["/0"] = ok(b"end")
        reply = await place.get(f"{FAR}/5")
        assert (reply.body, reply.url) == (b"end", f"{FAR}/0")
        place.far.asked.clear()
        assert "more than 5 redirects" in await refusal(place, f"{FAR}/99")
        assert len(place.far.asked) == 6


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://10.0.0.9/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::9]/",
        "http://[::ffff:127.0.0.1]/",
        "http://0x7f.1/",
        "http://0.0.0.0/",
        "http://inside.example/",
        "file:///etc/passwd",
        "ftp://80.2.2.2/x",
        "gopher://127.0.0.1:25/",
        "//127.0.0.1/",
        "http://[/",
    ],
)
@pytest.mark.parametrize("local", [False, True])
async def test_nobody_is_led_from_the_global_internet_into_this_network(
    autojump_clock: object, to: str, local: bool
) -> None:
    async with a_place() as place:
        place.internet.names |= {"inside.example": ["127.0.0.1", "10.0.0.9"], "localhost": ["127.0.0.1"]}
        place.near.answers["/"] = ok(b"secret")
        place.far.answers["/x"] = redirect(to)
        await refusal(place, f"{FAR}/x", local=local)
        assert place.near.asked == []


async def test_a_name_that_leads_inside_is_refused_and_one_of_mixed_addresses_leads_outside(
    autojump_clock: object,
) -> None:
    async with a_place() as place:
        place.far.answers["/"] = place.near.answers["/"] = ok(b"x")
        place.internet.names["inside.example"] = ["10.0.0.9"]
        place.internet.names["mixed.example"] = ["127.0.0.1", "10.0.0.9", "80.2.2.2"]
        assert "an address of this network" in await refusal(place, "http://inside.example/")
        assert (await place.get("http://mixed.example/")).server.host == "80.2.2.2"
        assert place.near.asked == []


async def test_a_name_that_answers_otherwise_a_moment_later_leads_nowhere_else(autojump_clock: object) -> None:
    async with a_place() as place:
        place.far.answers["/"] = place.near.answers["/"] = ok(b"x")
        asked = []
        resolve = place.client.resolve

        async def rebinding(host: str, port: int) -> list[Endpoint]:
            asked.append(host)
            place.internet.names["rebind.example"] = ["80.2.2.2"] if len(asked) == 1 else ["127.0.0.1"]
            return await resolve(host, port)

        place.client.resolve = rebinding  # type: ignore[method-assign]
        assert (await place.get("http://rebind.example/")).server.host == "80.2.2.2"
        assert asked == ["rebind.example"]
        assert place.near.asked == []


async def test_who_may_be_near_may_and_is_not_led_to_link_local(autojump_clock: object) -> None:
    async with a_place() as place:
        place.near.answers |= {"/": ok(b"near"), "/far": redirect(f"{FAR}/"), "/lan": redirect("http://10.0.0.9/")}
        place.near.answers["/cloud"] = redirect("http://169.254.169.254/")
        place.far.answers["/"] = ok(b"far")
        assert (await place.get("http://127.0.0.1/", local=True)).body == b"near"
        assert (await place.get("http://127.0.0.1/lan", local=True)).body == b"near"
        assert (await place.get("http://127.0.0.1/far", local=True)).body == b"far"
        await refusal(place, "http://127.0.0.1/cloud", local=True)
        await refusal(place, "http://127.0.0.1/")


async def test_a_bomb_is_stopped_before_it_goes_off(autojump_clock: object) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(100)) + packer.flush()
    assert len(bomb) < MIB
    async with a_place() as place:
        place.far.answers["/"] = ok(bomb, "Content-Encoding: gzip")
        assert f"longer than {MIB} bytes" in await refusal(place, f"{FAR}/")
        unpacked = 0
        async with request(place.client, f"{FAR}/", near=False) as response:
            async for part in response.body:
                assert len(part) <= 64 << 10
                if (unpacked := unpacked + len(part)) > MIB:
                    break
        assert unpacked <= MIB + (64 << 10)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (without_end(b"HTTP/1.1 200 OK\r\n\r\n", bytes(65536)), "longer than"),
        (without_end(b"HTTP/1.1 200 OK\r\n", b"X-Head: " + b"x" * 9000 + b"\r\n"), "no HTTP"),
        (without_end(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 1.0), "no whole answer within 30 s"),
        (without_end(b"H", b"", 1.0), "no whole answer within 30 s"),
        (said(b"SSH-2.0-OpenSSH\r\n\r\n"), "no HTTP"),
        (said(b""), "without an answer"),
        (said(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "cut off"),
        (ok(b"abc", "Content-Encoding: gzip"), "packed answer is broken"),
        (ok(gzip.compress(b"abc")[:-9], "Content-Encoding: gzip"), "cut off"),
        (ok(b"abc", "Content-Encoding: br\x1b[31m".replace("\x1b", "?")), "nobody asked for"),
    ],
)
async def test_what_is_no_answer_ends_in_time(autojump_clock: trio.abc.Clock, answer: Answer, says: str) -> None:
    async with a_place() as place:
        place.far.answers["/"] = answer
        start = trio.current_time()
        assert says in await refusal(place, f"{FAR}/")
        assert trio.current_time() - start < 31


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://x/", "http:///x", "http://[::1", "http://x:99999/", "http://x:y/", "http://a b/",
        "http://tracker.еxample/", "http://" + "x" * 9000, "", "http://tracker.example:0/", "http://80.2.2.2\r\nX: y/",
    ],
)  # fmt: skip
async def test_what_is_no_url_to_fetch(autojump_clock: object, url: str) -> None:
    async with a_place() as place:
        message = await refusal(place, url, local=True)
        assert message.isprintable()
        assert len(message) < 400


async def test_a_password_and_what_was_asked_are_not_shown(autojump_clock: object) -> None:
    async with a_place() as place:
        message = await refusal(place, "http://user:secret@nowhere.example/path?passkey=secret")
        assert "secret" not in message
        assert "nowhere.example/path" in message


async def test_addresses_are_tried_one_by_one_and_not_a_thousand(autojump_clock: object) -> None:
    async with a_place() as place:
        place.far.answers["/"] = ok(b"x")
        place.internet.names["many.example"] = ["80.9.9.9", "80.2.2.2"]
        assert (await place.get("http://many.example/")).server.host == "80.2.2.2"
        place.internet.names["flood.example"] = [f"80.3.{n // 250}.{n % 250}" for n in range(1000)]
        await refusal(place, "http://flood.example/", timeout_s=1000.0)
        assert len([to for to in place.client.dialled if to.host.startswith("80.3.")]) == 8


async def test_one_family_alone(autojump_clock: object) -> None:
    async with a_place() as place:
        place.far.answers["/"] = ok(b"x")
        assert (await place.get(f"{FAR}/", family=IPV4)).server.family is IPV4
        assert (await place.get(f"{FAR}/", family=IPV6)).server.family is IPV6
        assert "no address of that family" in await refusal(place, "http://80.2.2.2/", family=IPV6)


def test_what_is_near_for_all_to_see() -> None:
    for url in ("http://127.0.0.1:8/x", "udp://[::1]:9/a", "http://localhost/", "udp://192.168.0.1:6969"):
        assert is_near_literal(url)
    for url in ("http://169.254.169.254/", "http://8.8.8.8/", "http://name.example/", "http://[", "http://0.0.0.0/"):
        assert not is_near_literal(url)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody knows, with its key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_certificates_are_checked(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.receive_some(4096)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure")
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        network = TrioNetwork()
        with pytest.raises(HttpError, match="certificate is not to be trusted"):
            await fetch(network, f"https://127.0.0.1:{port}/", near=True, max_bytes=MIB)
        trusting = ssl.create_default_context(cafile=str(certificate))
        monkeypatch.setattr(tls, "context", lambda: trusting)
        reply = await fetch(network, f"https://127.0.0.1:{port}/", near=True, max_bytes=MIB)
        assert reply.body == b"secure"
        with pytest.raises(HttpError, match="certificate is not to be trusted"):
            await fetch(network, f"https://localhost:{port}/", near=True, max_bytes=MIB)
        nursery.cancel_scope.cancel()


async def test_https_is_not_left_for_plain_http(autojump_clock: object) -> None:
    with pytest.raises(HttpError, match="from https to plain http"):
        redirected("https://a.example/x", "http://a.example/x")
    assert redirected("https://a.example/x", "/y") == "https://a.example/y"


async def test_a_network_that_is_down(autojump_clock: object) -> None:
    async with a_place() as place:
        place.client.unplug()
        with pytest.raises(NetworkError):
            await place.get(f"{FAR}/")
        place.client.plug()
        place.far.answers["/"] = status("204 No Content")
        assert (await place.get(f"{FAR}/")).status == 204


class Keeper(Web):
    """Answers several requests on a connection; after `last` of them it hangs up."""

    def __init__(self, last: int = 100) -> None:
        super().__init__()
        self.last = last
        self.connections = 0

    async def _serve_one(self, stream: Stream) -> None:
        self.connections += 1
        buffer, said_so_far = memoryview(bytearray(4096)), b""
        try:
            for _ in range(self.last):
                while b"\r\n\r\n" not in said_so_far:
                    if not (count := await stream.receive_into(buffer)):
                        return
                    said_so_far += buffer[:count]
                head, _, said_so_far = said_so_far.partition(b"\r\n\r\n")
                target = head.split(b" ")[1].decode()
                self.asked.append(target)
                await self.answers[target](stream, target)
        except NetworkError:
            pass  # he left
        finally:
            stream.close()


@asynccontextmanager
async def a_keeper(last: int = 100) -> AsyncIterator[tuple[Keeper, HttpClient]]:
    internet = Internet(random.Random(1))
    keeper = Keeper(last)
    keeper.answers |= {"/x": ok(b"hello"), "/y": ok(b"z" * 50_000), "/moved": redirect("/x")}
    server = internet.host("80.2.2.2")
    async with open_plain_nursery() as nursery:
        nursery.start_soon(keeper.serve, await server.listen(Endpoint("80.2.2.2", 80)))
        client = HttpClient(internet.host("80.1.1.1"))
        yield keeper, client
        client.close()


async def read(client: HttpClient, path: str = "/x", *, near: bool = False) -> bytes:
    async with client.get(f"http://80.2.2.2{path}", near=near) as response:
        return await response.read(MIB)


async def test_a_connection_is_used_again_also_after_a_redirect(autojump_clock: object) -> None:
    async with a_keeper() as (keeper, client):
        for path in ("/x", "/y", "/moved", "/x"):
            assert len(await read(client, path)) == (50_000 if path == "/y" else 5)
        assert (keeper.connections, keeper.asked) == (1, ["/x", "/y", "/moved", "/x", "/x"])


async def test_a_server_may_hang_up_between_two_requests(autojump_clock: object) -> None:
    async with a_keeper(last=1) as (keeper, client):
        for _ in range(4):
            assert await read(client) == b"hello"
            await trio.sleep(1)
        assert keeper.connections == 4


async def test_a_body_that_was_not_read_is_not_taken_for_the_next_answer(autojump_clock: object) -> None:
    async with a_keeper() as (keeper, client):
        async with client.get("http://80.2.2.2/y", near=False) as response:
            assert response.status == 200
        assert await read(client) == b"hello"
        assert keeper.connections == 2


async def test_all_of_the_data_without_the_end_of_it_is_enough_to_go_on(autojump_clock: object) -> None:
    async with a_keeper() as (keeper, client):
        async with client.get("http://80.2.2.2/x", near=False) as response:
            assert await anext(response.body) == b"hello"
        assert await read(client) == b"hello"
        assert keeper.connections == 1


async def test_words_that_nobody_asked_for_are_not_taken_for_an_answer(autojump_clock: object) -> None:
    async with a_keeper() as (keeper, client):
        keeper.answers["/z"] = said(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        )
        assert await read(client, "/z") == b"a"
        assert await read(client) == b"hello"
        assert keeper.connections == 2


def plan(*paths: str) -> list[tuple[str, dict[str, str]]]:
    return [(f"http://80.2.2.2{path}", {}) for path in paths]


async def read_all(client: HttpClient, *paths: str) -> list[int]:
    """The sizes of what comes, each asked for with all after it sent ahead."""
    sizes = []
    for number, path in enumerate(paths):
        async with client.get(f"http://80.2.2.2{path}", near=False, ahead=plan(*paths[number + 1 :])) as response:
            sizes.append(len(await response.read(MIB)))
    return sizes


async def test_requests_are_sent_ahead_once_the_connection_has_been_kept(autojump_clock: object) -> None:
    async with a_keeper() as (keeper, client):
        began = trio.current_time()
        assert await read_all(client, *["/x", "/y", "/x"] * 10) == [5, 50_000, 5] * 10
        assert (keeper.connections, len(keeper.asked)) == (1, 30)
        piped_s = trio.current_time() - began
        for _ in range(30):
            await read(client)
        assert piped_s < (trio.current_time() - began - piped_s) / 3, "it does not wait for each way to and fro"


async def test_what_was_sent_ahead_is_no_answer_to_another_question(autojump_clock: object) -> None:
    async with a_keeper() as (keeper, client):
        await read(client)
        async with client.get("http://80.2.2.2/x", near=False, ahead=plan("/y", "/y")) as response:
            assert await response.read(MIB) == b"hello"
        assert await read(client) == b"hello"
        async with client.get("http://80.2.2.2/x", near=False, ahead=plan("/y")) as response:
            pass
        async with client.get("http://80.2.2.2/y", near=False, headers={"Range": "bytes=0-1"}) as response:
            assert len(await response.read(MIB)) == 50_000
        assert keeper.connections == 3


async def test_who_hangs_up_on_requests_sent_ahead_is_asked_one_by_one(autojump_clock: object) -> None:
    async with a_keeper(last=3) as (keeper, client):
        assert await read_all(client, *["/x"] * 20) == [5] * 20
        assert keeper.connections <= 8
        assert len(keeper.asked) == 20


async def test_a_kept_connection_nearby_is_not_for_who_may_not_go_there(autojump_clock: object) -> None:
    internet = Internet(random.Random(1))
    keeper = Keeper()
    keeper.answers["/x"] = ok(b"hello")
    lan = internet.host("10.0.0.9")
    async with open_plain_nursery() as nursery:
        nursery.start_soon(keeper.serve, await lan.listen(Endpoint("10.0.0.9", 80)))
        client = HttpClient(internet.host("80.1.1.1"))
        async with client.get("http://10.0.0.9/x", near=True) as response:
            assert await response.read(MIB) == b"hello"
        with pytest.raises(HttpError, match="an address of this network"):
            async with client.get("http://10.0.0.9/x", near=False):
                pass
        assert keeper.asked == ["/x"]
        client.close()


class Heap:
    """Takes a body as it comes, into places of odd sizes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.landed = 0
        self._places: list[memoryview] = []

    def places(self, most: int) -> list[memoryview]:
        sizes = [min(most, 3000), min(max(0, most - 3000), 7)]
        self._places = [memoryview(bytearray(size)) for size in sizes if size]
        return self._places

    def came(self, count: int) -> None:
        assert 0 < count <= sum(map(len, self._places))
        self.data += b"".join(self._places)[:count]
        self.landed += count

    def pour(self, data: memoryview) -> None:
        self.data += data


BODY = random.Random(5).randbytes(200_000)


@pytest.mark.parametrize("on_sockets", [True, False])
@pytest.mark.parametrize("wrapping", ["length", "chunks", "gzip"])
async def test_a_body_is_put_to_where_it_is_wanted(on_sockets: bool, wrapping: str) -> None:
    """By the kernel itself where its length was said and the stream can do that; else it is poured."""
    head = b"HTTP/1.1 200 OK\r\n"
    packed = BODY
    if wrapping == "gzip":
        packed = gzip.compress(BODY)
        head += b"Content-Encoding: gzip\r\n"
    if wrapping == "chunks":
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        packed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:70_000], BODY[70_000:])) + b"0\r\n\r\n"
    else:
        head += b"Content-Length: %d\r\n\r\n" % len(packed)
    internet = Internet(random.Random(1))
    network = TrioNetwork() if on_sockets else internet.host("127.0.0.1")
    listener = await network.listen(Endpoint("127.0.0.1", 0 if on_sockets else 80))
    keeper = Keeper()

    async def answer(stream: Stream, target: str) -> None:
        await stream.send_all([head + packed])

    keeper.answers |= {"/x": answer, "/y": ok(b"and more")}
    async with open_plain_nursery() as nursery:
        nursery.start_soon(keeper.serve, listener)
        client = HttpClient(network)
        heap = Heap()
        base = f"http://127.0.0.1:{listener.endpoint.port}"
        async with client.get(f"{base}/x", near=True) as response:
            while count := await response.body.into(heap, 2000 + len(heap.data) // 10):
                assert count <= 2000 + len(heap.data) // 10
        assert heap.data == BODY
        is_received_there = on_sockets and wrapping == "length" and hasattr(socket.socket, "recvmsg_into")
        assert (heap.landed > 150_000) is is_received_there
        async with client.get(f"{base}/y", near=True) as response:
            assert await response.read(MIB) == b"and more"
        assert keeper.connections == 1
        client.close()
        nursery.cancel_scope.cancel()
    listener.close()


async def drained(network: Network, url: str, heap: Heap) -> None:
    async with request(network, url, near=True) as response:
        while await response.body.into(heap, MIB):
            pass


async def test_what_is_cut_off_while_it_is_put_there_is_an_error() -> None:
    network = TrioNetwork()
    listener = await network.listen(Endpoint("127.0.0.1", 0))
    web = Web()

    async def answer(stream: Stream, target: str) -> None:
        await stream.send_all([b"HTTP/1.1 200 OK\r\nContent-Length: 200001\r\n\r\n" + BODY])

    web.answers["/x"] = answer
    async with open_plain_nursery() as nursery:
        nursery.start_soon(web.serve, listener)
        heap = Heap()
        with pytest.raises(HttpError, match="cut off, 1 bytes before the end"):
            await drained(network, f"http://127.0.0.1:{listener.endpoint.port}/x", heap)
        assert heap.data == BODY
        nursery.cancel_scope.cancel()
    listener.close()
