"""UPnP's gateway (IGD) as bytes: the search, what a device says of itself, and the calls that map a port. No I/O.

What a device says is a stranger's XML: no document types, a bounded depth, and the one URL that is taken from it must
lead to the device itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit
from xml.parsers import expat

from wire.errors import ProtocolError
from wire.http_url import printable
from wire.portmap.pcp import Transport

__all__ = [
    "GROUP_HOST",
    "GROUP_PORT",
    "Control",
    "Fault",
    "add",
    "answer_of",
    "delete",
    "external_address",
    "find_control",
    "location_of",
    "searches",
]

GROUP_HOST, GROUP_PORT = "239.255.255.250", 1900
MAX_DESCRIPTION_BYTES = 256 << 10
_MAX_DEPTH = 32
_MAX_ELEMENTS = 5000
_MAX_TEXT = 2000
_DEVICES = ("InternetGatewayDevice:1", "InternetGatewayDevice:2")
_SERVICES = ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1")
ONLY_PERMANENT = 725
"""The fault of a gateway that knows no leases."""


@dataclass(frozen=True, slots=True)
class Control:
    """Where and to what the calls go."""

    url: str
    service: str


class Fault(ProtocolError):  # noqa: N818 - UPnP's word
    """The gateway refused a call; `code` is UPnP's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"it says {code} {text}".rstrip())
        self.code = code


def searches() -> list[bytes]:
    """What is said to the group: one for each kind of gateway."""
    return [
        f'M-SEARCH * HTTP/1.1\r\nHOST: {GROUP_HOST}:{GROUP_PORT}\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
        f"ST: urn:schemas-upnp-org:device:{device}\r\n\r\n".encode()
        for device in _DEVICES
    ]


def location_of(data: bytes, sender: str) -> str | None:
    """Where the device that answered a search describes itself; None where that is not on the device itself."""
    lines = data[:4096].decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1.1 200"):
        return None
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "location":
            return value.strip() if _leads_to(value.strip(), sender) else None
    return None


def _leads_to(url: str, host: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme.lower() == "http" and parts.hostname == host and (parts.port or 80) > 0
    except ValueError:
        return False


def find_control(description: bytes, location: str) -> Control | None:
    """The service that maps ports, of what a device says of itself; None where it has none. Raises ProtocolError."""
    services: list[dict[str, str]] = []
    base = location
    for path, text in _texts(description):
        if path[-1] == "URLBase" and text:
            base = text
        elif path[-1] == "serviceType":
            services.append({"type": text})
        elif path[-1] == "controlURL" and services:
            services[-1].setdefault("url", text)
    host = urlsplit(location).hostname or ""
    for kind in _SERVICES:
        for service in services:
            if service["type"] == f"urn:schemas-upnp-org:service:{kind}" and "url" in service:
                try:
                    url = urljoin(base, service["url"])
                except ValueError:
                    continue
                if _leads_to(url, host):
                    return Control(url, service["type"])
    return None


def _texts(document: bytes) -> list[tuple[list[str], str]]:
    """Each element with its path, and its text, in the order in which they end."""
    found: list[tuple[list[str], str]] = []
    path: list[str] = []
    texts: list[str] = []
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(path) >= _MAX_DEPTH or count > _MAX_ELEMENTS:
            raise ProtocolError("the gateway's XML is over-long or too deep")
        path.append(name.rpartition(":")[2])
        texts.append("")

    def text(data: str) -> None:
        if texts and len(texts[-1]) < _MAX_TEXT:
            texts[-1] += data

    def end(name: str) -> None:
        found.append((list(path), texts.pop()[:_MAX_TEXT].strip()))
        path.pop()

    def doctype(*_: object) -> None:
        raise ProtocolError("the gateway's XML has a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(document[:MAX_DESCRIPTION_BYTES], True)
    except expat.ExpatError:
        raise ProtocolError("what the gateway says is no XML") from None
    return found


# --- calls


def add(control: Control, transport: Transport, port: int, client: str, lease_s: int) -> tuple[dict[str, str], bytes]:
    """Headers and body of the call that maps `port` outside to the same of `client`."""
    return _call(
        control,
        "AddPortMapping",
        {
            "NewRemoteHost": "",
            "NewExternalPort": str(port),
            "NewProtocol": transport.name,
            "NewInternalPort": str(port),
            "NewInternalClient": client,
            "NewEnabled": "1",
            "NewPortMappingDescription": "kademlia-bt",
            "NewLeaseDuration": str(lease_s),
        },
    )


def delete(control: Control, transport: Transport, port: int) -> tuple[dict[str, str], bytes]:
    """The call that takes a mapping back."""
    fields = {"NewRemoteHost": "", "NewExternalPort": str(port), "NewProtocol": transport.name}
    return _call(control, "DeletePortMapping", fields)


def external_address(control: Control) -> tuple[dict[str, str], bytes]:
    """The call that asks for the gateway's address outside: `NewExternalIPAddress` in its answer."""
    return _call(control, "GetExternalIPAddress", {})


def _call(control: Control, action: str, fields: dict[str, str]) -> tuple[dict[str, str], bytes]:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    body = (
        '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{control.service}">{inner}</u:{action}></s:Body></s:Envelope>\r\n'
    )
    headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{control.service}#{action}"'}
    return headers, body.encode()


def answer_of(status: int, body: bytes) -> dict[str, str]:
    """The fields of an answer. Raises Fault for a refusal, ProtocolError for nonsense."""
    fields = {path[-1]: text for path, text in _texts(body)} if body else {}
    if status == 200:
        return fields
    code = fields.get("errorCode", "")
    if code.isascii() and code.isdigit() and len(code) < 6:
        raise Fault(int(code), printable(fields.get("errorDescription", ""), 80))
    raise ProtocolError(f"the gateway says {status}")
