"""UPnP's gateway as bytes: what is believed of a device, and what is not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ProtocolError
from wire.portmap import upnp
from wire.portmap.pcp import Transport
from wire.portmap.upnp import Control, Fault

HERE = "http://192.168.1.1:5000/rootDesc.xml"
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"


def description(control: str = "/ctl/IPConn", service: str = SERVICE, base: str = "") -> bytes:
    return f"""<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">{base}<device><deviceList><device>
    <serviceList><service><serviceType>urn:x:Other:1</serviceType><controlURL>/other</controlURL></service>
    <service><serviceType>{service}</serviceType><controlURL>{control}</controlURL></service></serviceList>
    </device></deviceList></device></root>""".encode()


def reply(location: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return f"{status}\r\nCACHE-CONTROL: max-age=120\r\nLocation: {location}\r\n\r\n".encode()


def test_the_search_asks_for_both_versions() -> None:
    one, two = upnp.searches()
    assert one.startswith(b"M-SEARCH * HTTP/1.1\r\n")
    assert b"InternetGatewayDevice:1" in one
    assert b"InternetGatewayDevice:2" in two
    assert one.endswith(b"\r\n\r\n")


def test_a_device_describes_itself_at_its_own_address_alone() -> None:
    assert upnp.location_of(reply(HERE), "192.168.1.1") == HERE
    for location in ("http://192.168.1.9/x", "https://192.168.1.1/", "file:///etc", "http://evil/", "http://[::", ""):
        assert upnp.location_of(reply(location), "192.168.1.1") is None
    assert upnp.location_of(reply(HERE, "NOTIFY * HTTP/1.1"), "192.168.1.1") is None
    assert upnp.location_of(b"\xff\xfe", "192.168.1.1") is None


def test_the_service_that_maps() -> None:
    control = Control("http://192.168.1.1:5000/ctl/IPConn", SERVICE)
    assert upnp.find_control(description(), HERE) == control
    based = description("ctl/IPConn", base="<URLBase>http://192.168.1.1:5000/</URLBase>")
    assert upnp.find_control(based, HERE) == control
    assert upnp.find_control(description(service="urn:x:Else:1"), HERE) is None
    for elsewhere in ("http://10.0.0.1/ctl", "https://192.168.1.1/ctl", "http://169.254.169.254/x", "http://[:"):
        assert upnp.find_control(description(elsewhere), HERE) is None


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<root>",
        b"not xml",
        b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><root>&b;</root>',
        b"<a>" * 100 + b"</a>" * 100,
        b"<r>" + b"<a/>" * 6000 + b"</r>",
    ],
)
def test_bombs_and_nonsense(document: bytes) -> None:
    with pytest.raises(ProtocolError):
        upnp.find_control(document, HERE)


def test_calls_and_answers() -> None:
    control = Control("http://192.168.1.1:5000/ctl", SERVICE)
    headers, body = upnp.add(control, Transport.UDP, 6881, "192.168.1.2", 3600)
    assert headers["SOAPAction"] == f'"{SERVICE}#AddPortMapping"'
    for part in ("<NewExternalPort>6881<", "<NewProtocol>UDP<", "<NewInternalClient>192.168.1.2<", "Duration>3600<"):
        assert part.encode() in body
    assert b"DeletePortMapping" in upnp.delete(control, Transport.TCP, 6881)[1]
    answer = b"<e><NewExternalIPAddress> 80.1.2.3 </NewExternalIPAddress></e>"
    assert upnp.answer_of(200, answer)["NewExternalIPAddress"] == "80.1.2.3"
    fault = b"<s:F xmlns:s='x'><errorCode>718</errorCode><errorDescription>Conflict\x7f</errorDescription></s:F>"
    with pytest.raises(Fault, match="it says 718 Conflict") as caught:
        upnp.answer_of(500, fault)
    assert caught.value.code == 718
    for status, text in ((500, b""), (404, b"<a/>"), (500, b"<errorCode>x</errorCode>"), (200, b"<a")):
        with pytest.raises(ProtocolError):
            upnp.answer_of(status, text)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    upnp.location_of(data, "1.1.1.1")
    upnp.location_of(b"HTTP/1.1 200 OK\r\nLocation:" + data, "1.1.1.1")
    with contextlib.suppress(ProtocolError):
        upnp.find_control(data, HERE)
