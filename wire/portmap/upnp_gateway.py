"""A UPnP gateway found, described and asked to map a port, by async-upnp-client. Loaded in a process of its own alone.

The library gets no more from a device than `_Bounded` lets through: answers of the device itself, 256 KiB at most, in
seconds, no redirect. What a gateway can do is not asked of it: the standard says it (`_ACTIONS`), and lists that
devices give are often broken. What the library raises is told as a reason.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp
from async_upnp_client.client import UpnpDevice, UpnpRequester, UpnpService
from async_upnp_client.client_factory import UpnpFactory
from async_upnp_client.const import HttpRequest, HttpResponse
from async_upnp_client.exceptions import UpnpActionError, UpnpResponseError
from async_upnp_client.search import SsdpSearchListener
from async_upnp_client.utils import CaseInsensitiveDict

from wire.portmap.upnp_words import Errand, Verb, answer_line, is_nearby, leads_to, refusal_line

__all__ = ["run"]

SEARCH_S = 1.5
"""For an answer, before the search is said once more."""
LATER_S = 0.3
"""For other devices, once one answered: the first may be none that maps ports."""
CALL_S = 5.0
MAX_DEVICES = 4
MAX_ANSWER_BYTES = 256 << 10
"""Of one answer. Descriptions of gateways have 2 to 20 KiB."""
MAX_SERVICES = 64
"""Of one device: gateways have a dozen, and each costs the library as much as its whole list of abilities."""
_SCHEMA = "urn:schemas-upnp-org"
_DEVICES = ("InternetGatewayDevice:1", "InternetGatewayDevice:2")
_SERVICES = ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1")
_TRANSPORTS = ("TCP", "UDP")
_ONLY_PERMANENT = 725
"""The fault of a gateway that knows no leases."""
_MAPPING = (("NewRemoteHost", "string"), ("NewExternalPort", "ui2"), ("NewProtocol", "string"))
_ACTIONS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "AddPortMapping": tuple(
        ("in", name, kind)
        for name, kind in (
            *_MAPPING,
            ("NewInternalPort", "ui2"),
            ("NewInternalClient", "string"),
            ("NewEnabled", "boolean"),
            ("NewPortMappingDescription", "string"),
            ("NewLeaseDuration", "ui4"),
        )
    ),
    "DeletePortMapping": tuple(("in", name, kind) for name, kind in _MAPPING),
    "GetExternalIPAddress": (("out", "NewExternalIPAddress", "string"),),
}
"""Of WANIPConnection:1 and :2 and WANPPPConnection:1, what is needed; the order is theirs."""
_STANDARD = "standard:"
"""In the place of the URL of a device's own list."""


class _Refused(Exception):  # noqa: N818 - what a gateway does
    pass


async def run(errand: Errand) -> bytes:
    """The line that is said of it. Raises nothing that a device could bring about."""
    reasons: list[str] = []
    try:
        locations = [errand.location] if errand.location else await _search(errand)
        async with _session() as session:
            for location in locations:
                try:
                    return answer_line(location, await _serve(await _service_at(session, location), errand))
                except Exception as error:  # a stranger's words in a library: it raises whatever it met
                    reasons.append(_reason(error))
    except OSError as error:
        reasons.append(f"nobody can be asked: {error.strerror or error}")
    return refusal_line(reasons[0] if reasons else "no gateway answers")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),  # gateways hang up after an answer without saying so
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _reason(error: Exception) -> str:
    match error:
        case _Refused():
            return str(error)
        case UpnpActionError():
            return f"it says {error.error_code} {error.error_desc or ''}".rstrip()
        case UpnpResponseError():
            return f"it says {error.status}"
        case MemoryError():
            return "what it says takes too much memory"
    return f"what it says cannot be read ({type(error).__name__})"


async def _search(errand: Errand) -> list[str]:
    found: dict[str, None] = {}
    some = asyncio.Event()

    def heard(headers: CaseInsensitiveDict) -> None:
        location = headers.get("location", "")
        if is_nearby(location) and leads_to(location, headers["_host"]) and len(found) < MAX_DEVICES:
            found[location] = None
            some.set()

    listeners = [
        SsdpSearchListener(
            callback=heard,
            source=(errand.own, 0),
            target=errand.group,
            timeout=1,
            search_target=f"{_SCHEMA}:device:{device}",
        )
        for device in _DEVICES
    ]
    try:
        for listener in listeners:
            await listener.async_start()
        for _ in range(2):  # datagrams get lost
            for listener in listeners:
                listener.async_search()
            with suppress(TimeoutError):
                await asyncio.wait_for(some.wait(), SEARCH_S)
                await asyncio.sleep(LATER_S)
                break
    finally:
        for listener in listeners:
            listener.async_stop()
    return list(found)


async def _service_at(session: aiohttp.ClientSession, location: str) -> UpnpService:
    base, services = location, 0

    def described(response: HttpResponse) -> HttpResponse:
        nonlocal base
        body = (response.body or "").rstrip(" \t\r\n\0")
        found = re.search(r"<URLBase>\s*([^<\s]{1,2000})\s*<", body)  # of UPnP 1.0, which the library does not read
        if found is not None:
            base = found[1]
        return HttpResponse(response.status_code, response.headers, body)

    def listed(_: HttpRequest) -> HttpRequest:
        nonlocal services
        services += 1
        if services > MAX_SERVICES:
            raise _Refused("it has too many services")
        return HttpRequest("GET", _STANDARD, {}, None)

    factory = UpnpFactory(
        _Bounded(session, urlsplit(location).hostname or ""),
        non_strict=True,
        on_pre_receive_service_spec=listed,
        on_post_receive_device_spec=described,
    )
    device = await factory.async_create_device(location)
    for part in device.all_devices:
        part.device_info = part.device_info._replace(url=base)
    return _that_maps(device)


def _that_maps(device: UpnpDevice) -> UpnpService:
    services = device.all_services
    for kind in _SERVICES:
        for service in services:
            if service.service_type == f"{_SCHEMA}:service:{kind}":
                return service
    raise _Refused("it maps no ports")


async def _serve(service: UpnpService, errand: Errand) -> object:
    """The address outside, as the gateway says it."""
    mapped: list[str] = []
    try:
        for transport in _TRANSPORTS:
            if errand.verb is Verb.MAP:
                await _add(service, transport, errand)
                mapped.append(transport)
            elif errand.verb is Verb.UNMAP:
                await _delete(service, transport, errand)
    except Exception:
        for transport in mapped:  # half of it is of no use
            with suppress(Exception):
                await _delete(service, transport, errand)
        raise
    if errand.verb is Verb.UNMAP:
        return None
    with suppress(Exception):  # it maps ports all the same
        return (await service.action("GetExternalIPAddress").async_call()).get("NewExternalIPAddress")
    return None


async def _add(service: UpnpService, transport: str, errand: Errand) -> None:
    for lease_s in (errand.lease_s, 0):
        try:
            await service.action("AddPortMapping").async_call(
                NewRemoteHost="",
                NewExternalPort=errand.port,
                NewProtocol=transport,
                NewInternalPort=errand.port,
                NewInternalClient=errand.own,
                NewEnabled=True,
                NewPortMappingDescription="kademlia-bt",
                NewLeaseDuration=lease_s,
            )
            return
        except UpnpActionError as error:
            if error.error_code != _ONLY_PERMANENT or not lease_s:
                raise


async def _delete(service: UpnpService, transport: str, errand: Errand) -> None:
    await service.action("DeletePortMapping").async_call(
        NewRemoteHost="", NewExternalPort=errand.port, NewProtocol=transport
    )


class _Bounded(UpnpRequester):
    """HTTP to one host."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        self._session = session
        self._host = host

    async def async_http_request(self, http_request: HttpRequest) -> HttpResponse:
        """Raises `_Refused` for whatever the device does but answer."""
        if http_request.url == _STANDARD:
            return HttpResponse(200, {}, _abilities())
        if not leads_to(http_request.url, self._host):
            raise _Refused("it leads elsewhere")
        try:
            async with self._session.request(
                http_request.method,
                http_request.url,
                headers={**http_request.headers, "Accept-Encoding": "identity"},
                data=http_request.body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=CALL_S),
            ) as response:
                try:
                    await response.content.readexactly(MAX_ANSWER_BYTES + 1)
                except asyncio.IncompleteReadError as end:
                    return HttpResponse(response.status, response.headers, end.partial.decode("utf-8", "replace"))
                raise _Refused("what it says is over-long")
        except TimeoutError:
            raise _Refused("it takes too long") from None
        except aiohttp.ClientError as error:
            raise _Refused(f"it cannot be asked ({type(error).__name__})") from None


def _abilities() -> str:
    """The list that each service is read with (SCPD of UPnP)."""
    actions, variables = [], []
    for action, arguments in _ACTIONS.items():
        told = "".join(
            f"<argument><name>{name}</name><direction>{direction}</direction>"
            f"<relatedStateVariable>{name}</relatedStateVariable></argument>"
            for direction, name, _ in arguments
        )
        actions.append(f"<action><name>{action}</name><argumentList>{told}</argumentList></action>")
        variables += [
            f'<stateVariable sendEvents="no"><name>{name}</name><dataType>{kind}</dataType></stateVariable>'
            for _, name, kind in arguments
        ]
    return (
        f'<scpd xmlns="{_SCHEMA}:service-1-0"><actionList>{"".join(actions)}</actionList>'
        f"<serviceStateTable>{''.join(variables)}</serviceStateTable></scpd>"
    )
