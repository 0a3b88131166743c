"""The process that speaks UPnP, as it is: gateways on loopback that map, refuse and attack, and processes that fail."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio

from magnet.nursery import open_plain_nursery
from tests.shell.web import Answer as WebAnswer
from tests.shell.web import Web, ok, redirect, said, status, without_end
from wire.compact import Endpoint
from wire.errors import NetworkError, ProtocolError
from wire.net import Datagrams, Stream
from wire.portmap.upnp import COMMAND, run_errand
from wire.portmap.upnp_words import Answer, Errand, Verb
from wire.trio_net import TrioNetwork

HERE = "127.0.0.1"
PORT = 6881
BOTH = {("TCP", PORT), ("UDP", PORT)}
IP_1, IP_2, PPP = "WANIPConnection:1", "WANIPConnection:2", "WANPPPConnection:1"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n"


def service(kind: str = IP_1, control: str = "/ctl") -> str:
    return (
        f"<service><serviceType>urn:schemas-upnp-org:service:{kind}</serviceType><serviceId>x</serviceId>"
        f"<SCPDURL>/scpd.xml</SCPDURL><controlURL>{control}</controlURL><eventSubURL>/evt</eventSubURL></service>"
    )


def description(*services: str, before: str = "", inside: str = "") -> bytes:
    schema = "urn:schemas-upnp-org:device"
    return (
        f'<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">{before}<device>'
        f"<deviceType>{schema}:InternetGatewayDevice:1</deviceType><friendlyName>Ä</friendlyName>{inside}"
        f"<deviceList><device><deviceType>{schema}:WANDevice:1</deviceType><deviceList><device>"
        f"<deviceType>{schema}:WANConnectionDevice:1</deviceType><serviceList>{''.join(services or (service(),))}"
        "</serviceList></device></deviceList></device></deviceList></device></root>"
    ).encode()


class Device(Web):
    """A gateway; `open` holds its mappings, with their leases."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[tuple[str, int], int] = {}
        self.calls: list[str] = []
        self.searched = 0
        self.fault: dict[str, int] = {}
        """By transport."""
        self.permanent_only = False
        self.outside = "80.9.9.9"
        self.http = self.ssdp = Endpoint(HERE, 1)
        self.location: str | None = None
        self.describe(description())
        self.answers["/ctl"] = self.call

    def describe(self, document: bytes) -> None:
        self.answers["/root.xml"] = ok(document)

    async def hear(self, socket: Datagrams) -> None:
        while True:
            for words, sender in await socket.receive():
                if not words.startswith(b"M-SEARCH * HTTP/1.1\r\n"):
                    continue  # on loopback others have had this port before
                self.searched += 1
                location = self.location or f"http://{self.http}/root.xml"
                kind = re.search(rb"ST:\s*(\S+)", words)[1].decode()  # type: ignore[index]
                socket.send(f"HTTP/1.1 200 OK\r\nST: {kind}\r\nLOCATION: {location}\r\n\r\n".encode(), sender)

    async def call(self, stream: Stream, target: str) -> None:
        words = self.heads[-1].decode()
        buffer = memoryview(bytearray(4096))
        while "</s:Envelope>" not in words:
            words += bytes(buffer[: await stream.receive_into(buffer)]).decode()
        kind, action = re.search(r'SOAPAction: "(\S+)#(\w+)"', words, re.IGNORECASE).groups()  # type: ignore[union-attr]
        self.calls.append(action)
        fields = dict(re.findall(r"<(New\w+)>([^<]*)<", words))
        transport, port = fields.get("NewProtocol", ""), int(fields.get("NewExternalPort", 0))
        told = ""
        if action == "AddPortMapping":
            assert fields["NewRemoteHost"] == ""
            assert (fields["NewInternalClient"], fields["NewInternalPort"]) == (HERE, str(port))
            lease_s = int(fields["NewLeaseDuration"])
            code = self.fault.get(transport, 725 if lease_s and self.permanent_only else 0)
            if code:
                await self._refuse(code)(stream, target)
                return
            self.open[transport, port] = lease_s
        elif action == "DeletePortMapping":
            self.open.pop((transport, port), None)
        else:
            told = f"<NewExternalIPAddress>{self.outside}</NewExternalIPAddress>"
        await soap(f'<u:{action}Response xmlns:u="{kind}">{told}</u:{action}Response>')(stream, target)

    def _refuse(self, code: object) -> WebAnswer:
        return soap(
            "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
            '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">'
            f"<errorCode>{code}</errorCode><errorDescription>No\x7f</errorDescription>"
            "</UPnPError></detail></s:Fault>",
            "500 Internal Server Error",
        )


def soap(inner: str, line: str = "200 OK") -> WebAnswer:
    body = f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{inner}</s:Body></s:Envelope>'
    return said(f"HTTP/1.1 {line}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


@asynccontextmanager
async def a_device() -> AsyncIterator[Device]:
    device, network = Device(), TrioNetwork()
    with (
        closing(await network.listen(Endpoint(HERE, 0))) as listener,
        closing(await network.udp(Endpoint(HERE, 0))) as s,
    ):
        device.http, device.ssdp = listener.endpoint, s.endpoint
        async with open_plain_nursery() as nursery:
            nursery.start_soon(device.serve, listener)
            nursery.start_soon(device.hear, s)
            yield device


def errand(device: Device, verb: Verb = Verb.MAP, location: str | None = None) -> Errand:
    return Errand(verb, HERE, PORT, 3600, location, (device.ssdp.host, device.ssdp.port))


SLOW_S = 60.0
"""By then a slow machine too has come to what happens at once."""


async def run(errand: Errand, **bounds: float) -> Answer:
    """What the same process brings back when its times are no bounds, but for those that are given here."""
    words = "".join(f"gateway.{name} = {value!r}; " for name, value in {**PATIENT, **bounds}.items())
    modules = "from wire.portmap import upnp_child as child, upnp_gateway as gateway"
    command = instead(f"{modules}; child.ERRAND_S = {SLOW_S}; {words}main()")
    return await run_errand(errand, command=command, limit_s=2 * SLOW_S)


PATIENT = {"SEARCH_S": SLOW_S, "CALL_S": SLOW_S}


def instead(words: str) -> tuple[str, ...]:
    """The same process, with other words for `main()`."""
    *python, program = COMMAND
    return (*python, program.removesuffix("main()") + words)


async def test_found_mapped_and_taken_back() -> None:
    async with a_device() as device:
        answer = await run(errand(device))
        assert answer == Answer(f"http://{device.http}/root.xml", "80.9.9.9")
        assert device.open == dict.fromkeys(BOTH, 3600)
        assert device.searched == 2
        assert "/scpd.xml" not in device.asked, "what a gateway can do is the standard's to say"
        await run(errand(device, location=answer.location))
        await run(errand(device, Verb.UNMAP, answer.location))
        assert device.open == {}
        assert device.searched == 2, "who is known is not searched for"


async def test_a_look_changes_nothing() -> None:
    async with a_device() as device:
        assert (await run(errand(device, Verb.LOOK))).host == "80.9.9.9"
        assert device.calls == ["GetExternalIPAddress"]
        device.outside = "an address"
        assert (await run(errand(device, Verb.LOOK))).host is None


@pytest.mark.parametrize("kind", [IP_1, IP_2, PPP])
async def test_each_service_that_maps(kind: str) -> None:
    async with a_device() as device:
        device.describe(description(service("Layer3Forwarding:1", "/other"), service(kind)))
        await run(errand(device))
        assert set(device.open) == BOTH


async def test_a_base_of_upnp_1_0() -> None:
    async with a_device() as device:
        device.answers["/deep/er/ctl"] = device.call
        base = f"<URLBase>http://{device.http}/deep/er/</URLBase>"
        device.describe(description(service(control="ctl"), before=base))
        await run(errand(device))
        assert set(device.open) == BOTH


async def test_a_gateway_without_leases() -> None:
    async with a_device() as device:
        device.permanent_only = True
        await run(errand(device))
        assert device.open == dict.fromkeys(BOTH, 0)


async def test_a_refusal_is_said_and_half_of_it_is_taken_back() -> None:
    async with a_device() as device:
        device.fault["UDP"] = 718
        with pytest.raises(ProtocolError, match=r"^it says 718 No"):
            await run(errand(device))
        assert device.open == {}
        assert device.calls == ["AddPortMapping", "AddPortMapping", "DeletePortMapping"]


async def test_nobody_there() -> None:
    async with a_device() as device:
        silent = dataclasses.replace(errand(device), group=(HERE, device.http.port))
        with pytest.raises(ProtocolError, match=r"^no gateway answers$"):
            await run(silent, SEARCH_S=0.1)


DEEP = "<deviceList><device>" * 5000
BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "' + b"a" * 1000 + b'">'
    + b"".join(b'<!ENTITY %c "%s">' % (name + 1, b"&%c;" % name * 100) for name in b"abcde")
    + b"]><root>&f;</root>"
)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (without_end(HEAD, b"<a>" * 20_000), "over-long"),
        (ok(b"<r>" + b"<a/>" * 10_000_000 + b"</r>"), "over-long"),
        (without_end(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0), "cannot be asked"),
        (without_end(HEAD, b"<", 0.05), "takes too long"),
        (ok(b"\x1f\x8b" + b"\0" * 100, "Content-Encoding: gzip"), "cannot be read"),
        (ok(BOMB), "cannot be read"),
        (ok(DEEP.encode()), "cannot be read"),
        (ok(description(inside=DEEP + "</device></deviceList>" * 5000)), "cannot be read"),
        (ok(description(inside="<iconList><icon><width>x</width></icon></iconList>")), "cannot be read"),
        (ok(b""), "cannot be read"),
        (ok(b"\xff\xfe\0"), "cannot be read"),
        (ok(b"<root/>"), "cannot be read"),
        (ok(description("<service/>")), "it maps no ports"),
        (ok(description("<service/>" * 20_000)), "too many services"),
        (ok(description("<service/>", inside=f"<deviceList>{'<device/>' * 27_000}</deviceList>")), "it maps no ports"),
        (ok(description(service(control="http://127.0.0.2:1/"))), "it maps no ports"),
        (ok(description(service(control="http://[:"))), "it maps no ports"),
        (status("404 Not Found"), "it says 404"),
        (said(b"SSH-2.0-x\r\n"), "cannot be asked"),
        (said(b""), "cannot be asked"),
    ],
    ids=[
        "endless", "ten million elements", "endless head", "slow", "gzip", "entities", "unclosed", "nested", "icons",
        "empty", "no text", "no device", "no service", "services", "devices", "elsewhere", "no url", "404",
        "no http", "hung up",
    ],
)  # fmt: skip
async def test_hostile_descriptions(answer: WebAnswer, reason: str) -> None:
    async with a_device() as device:
        device.answers["/root.xml"] = answer
        with pytest.raises(ProtocolError, match=reason) as caught:
            await run(errand(device), CALL_S=1.0 if reason == "takes too long" else SLOW_S)
        assert "\n" not in str(caught.value)
        assert device.calls == []


async def test_a_redirect_is_not_followed() -> None:
    async with a_device() as device:
        device.answers["/root.xml"] = redirect("/else.xml")
        device.answers["/else.xml"] = ok(description())
        with pytest.raises(ProtocolError, match="it says 302"):
            await run(errand(device))
        assert device.asked == ["/root.xml"]


@pytest.mark.parametrize(
    "base", ["http://127.0.0.2/", "https://127.0.0.1/", "file:///etc/", "http://[:/", "http://169.254.169.254/"]
)
async def test_a_base_elsewhere_is_not_followed(base: str) -> None:
    async with a_device() as device:
        device.describe(description(before=f"<URLBase>{base}</URLBase>"))
        with pytest.raises(ProtocolError, match=r"it leads elsewhere|\(ValueError\)"):
            await run(errand(device))
        assert device.asked == ["/root.xml"]


@pytest.mark.parametrize(
    "location", ["http://127.0.0.2:1/", "https://127.0.0.1/", "file:///etc/passwd", "http://[:", "x" * 5000, ""]
)
async def test_a_device_that_points_elsewhere_is_not_heard(location: str) -> None:
    async with a_device() as device:
        device.location = location or " "
        with pytest.raises(ProtocolError, match="no gateway answers"):
            await run(errand(device), SEARCH_S=0.2)
        assert device.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said(b"HTTP/1.1 500 No\r\n\r\n"), "it says 500"),
        (soap("<s:Fault><detail><errorCode>x</errorCode></detail></s:Fault>", "500 No"), "cannot be read"),
        (soap("<s:Fault/>", "500 No"), "it says"),
        (soap("<x/>"), "cannot be read"),
        (ok(b"<"), "cannot be read"),
        (without_end(HEAD, b"<a>" * 20_000), "over-long"),
        (redirect("/other"), "it says 302"),
    ],
    ids=["500", "no number", "no fault", "another answer", "no xml", "endless", "redirect"],
)
async def test_hostile_answers_to_calls(answer: WebAnswer, reason: str) -> None:
    async with a_device() as device:
        device.answers["/ctl"] = answer
        with pytest.raises(ProtocolError, match=reason):
            await run(errand(device))


async def test_a_better_device_is_asked_too() -> None:
    async with a_device() as first, a_device() as second:
        first.describe(description("<service/>"))

        async def both(socket: Datagrams) -> None:
            while True:
                for _, sender in await socket.receive():
                    for device in (first, second):
                        words = f"HTTP/1.1 200 OK\r\nLOCATION: http://{device.http}/root.xml\r\n\r\n"
                        socket.send(words.encode(), sender)

        with closing(await TrioNetwork().udp(Endpoint(HERE, 0))) as socket:
            async with open_plain_nursery() as nursery:
                nursery.start_soon(both, socket)
                answer = await run(dataclasses.replace(errand(first), group=(HERE, socket.endpoint.port)))
        assert answer.location == f"http://{second.http}/root.xml"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts data")
async def test_its_memory_is_bounded() -> None:
    async with a_device() as device:
        device.answers["/root.xml"] = ok(b"<r>" + b"<a/>" * 2_000_000 + b"</r>")
        with pytest.raises(ProtocolError, match="what it says takes too much memory"):
            await run(errand(device), MAX_ANSWER_BYTES=1 << 30)


# --- processes that fail


def says(program: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-c", f"import sys; sys.stdin.readline()\n{program}")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (says("sys.exit(3)"), r"ended without an answer \(3\)"),
        (says("import os; os.kill(os.getpid(), 9)"), r"ended without an answer \(-9\)"),
        ((sys.executable, "-c", "raise SystemExit(4)"), r"ended without an answer \(4\)"),
        (says("print('nonsense')"), "answers nonsense"),
        (says("print('[' * 5000)"), "answers nonsense"),
        (says("print('{}')"), "names a device that is none"),
        (says("sys.stdout.write('{')"), "answers nonsense"),
        (says("while True: sys.stdout.write('a' * 9000)"), "answers nonsense"),
        (says("import time; time.sleep(60)"), "was ended after"),
        (says("sys.stdout.close(); import os; os.close(1); import time; time.sleep(60)"), "was ended after"),
        (("/no/such/program",), "does not start"),
        (instead("sys.modules['aiohttp'] = None; main()"), "aiohttp cannot be loaded; 'pip install async-upnp-client'"),
    ],
)  # fmt: skip
async def test_a_process_that_fails_is_one_line(command: tuple[str, ...], reason: str) -> None:
    limit_s = 0.5 if "was ended" in reason else 60.0
    with pytest.raises((NetworkError, ProtocolError), match=reason) as caught:
        await run_errand(Errand(Verb.LOOK, HERE), command=command, limit_s=limit_s)
    assert "\n" not in str(caught.value)


async def test_nothing_is_loaded_from_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json.py", "wire.py", "aiohttp.py", "sitecustomize.py"):  # a download
        (tmp_path / name).write_text("raise SystemExit(66)")
    monkeypatch.chdir(tmp_path)
    async with a_device() as device:
        await run_errand(errand(device))
        assert set(device.open) == BOTH


async def test_who_gives_up_leaves_no_process() -> None:
    async with a_device() as device:
        device.answers["/root.xml"] = without_end(HEAD, b"<", 0.05)
        async with open_plain_nursery() as nursery:
            nursery.start_soon(run, errand(device))
            with trio.fail_after(SLOW_S):
                while not device.asked:
                    await trio.sleep(0.01)
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < SLOW_S / 2, "it was ended, and did not end"
