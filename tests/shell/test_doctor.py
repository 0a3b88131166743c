"""`magnet doctor`: what it finds in virtual networks that work, half work and do not, within its time."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import trio

from kademlia_bt.commands.console import run_app
from magnet.cli import app
from magnet.config import Config
from magnet.doctor import examine
from magnet.findings import Finding, Sight, judge_nat
from magnet.gateways import Gateways, find_gateways
from magnet.mapping import default_gateway
from tests.shell.kit import ROUTER, a_world
from wire.compact import Endpoint
from wire.errors import NetworkError
from wire.portmap.upnp_words import Answer, Errand, Verb

DEAD = "80.0.0.99"


async def findings_of(
    world, host, *, deadline_s: float = 25.0, bootstrap=((ROUTER, 6881),), find_mappings: bool = False
) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    config = Config(
        listen=(Endpoint(host.addresses[0], 6881),), bootstrap=bootstrap, deadline_s=deadline_s, state_dir=None
    )
    began = trio.current_time()
    await examine(
        config,
        lambda finding: found.setdefault(finding.name, []).append(finding),
        network=host,
        rng=random.Random(1),
        find_mappings=find_mappings,
    )
    assert trio.current_time() - began <= deadline_s + 1
    return found


async def test_a_network_that_works(autojump_clock):
    async with a_world(dht_nodes=10) as world:
        host = world.host()
        found = await findings_of(world, host, bootstrap=((ROUTER, 6881), (DEAD, 6881)))
        assert [(row.state, row.facts["address"]) for row in found["router"]] == [
            ("ok", f"{ROUTER}:6881"),
            ("warning", f"{DEAD}:6881"),
        ]
        assert found["router"][0].facts["rtt_ms"] is not None
        assert found["dht"][0].state == "ok"
        assert found["IPv4"][0].facts == {"works": True}
        address = found["IPv4 address"][0]
        assert address.facts["address"] == host.addresses[0]
        assert address.facts["votes"] >= 5
        assert found["IPv4 NAT"][0].facts["kind"] == "none"
        assert found["IPv6"][0].state == "unknown"
        assert not any(row.state == "broken" for rows in found.values() for row in rows)


async def test_a_network_without_any_answer_is_told_in_time_with_the_mend(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        found = await findings_of(world, world.host(), deadline_s=12.0, bootstrap=((DEAD, 6881),))
        assert found["router"][0].state == "warning"
        assert found["dht"][0].state == "broken"
        assert "UDP is blocked" in (found["dht"][0].mend or "")
        assert found["IPv4"][0].facts == {"works": False}


async def test_a_place_for_which_there_is_no_time_is_told_too(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        places = ((DEAD, 6881), (DEAD, 6882))
        found = await findings_of(world, world.host(), deadline_s=1.0, bootstrap=places)
        assert [(row.state, row.facts["place"]) for row in found["router"]] == [
            ("warning", f"{DEAD}:6881"),
            ("warning", f"{DEAD}:6882"),
        ]
        assert "no answer in time" in found["router"][0].text
        assert found["dht"][0].state == "broken"


async def test_names_that_are_not_resolved_have_their_own_mend(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        found = await findings_of(world, world.host(), bootstrap=(("router.example", 6881),))
        assert "router.example" in found["router"][0].text
        assert "DNS" in (found["dht"][0].mend or "")


def sights(*seen: str) -> list[Sight]:
    return [Sight(Endpoint(f"9.9.{n}.1", 1), Endpoint.of(*_split(text))) for n, text in enumerate(seen)]


def _split(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


@pytest.mark.parametrize(
    ("seen", "kind", "state"),
    [
        ([], "unknown", "unknown"),
        (["5.5.5.5:6881"] * 5, "same port", "ok"),
        (["10.0.0.2:6881"] * 5, "none", "ok"),
        (["5.5.5.5:1024"] * 5, "one port", "ok"),
        (["5.5.5.5:1024"] * 9 + ["5.5.5.5:7"], "one port", "ok"),  # one liar is no symmetric NAT
        ([f"5.5.5.5:{port}" for port in range(1024, 1034)], "symmetric", "warning"),
        (["6.6.6.6:6881"] * 2 + ["5.5.5.5:6881"] * 5, "same port", "ok"),
    ],
)
def test_kinds_of_nat(seen, kind, state):
    assert judge_nat(6881, sights(*seen), ["10.0.0.2"])[:2] == (kind, state)


def test_many_voices_of_one_network_are_one():
    liars = [Sight(Endpoint(f"9.9.9.{n}", 1), Endpoint("6.6.6.6", 1)) for n in range(100)]
    assert "6.6.6.6" not in judge_nat(6881, liars + sights(*["5.5.5.5:6881"] * 5), ["6.6.6.6"])[2]


def test_the_gateway(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text(
        "Iface\tDestination\tGateway\tFlags\neth0\t000011AC\t00000000\t0001\neth0\t00000000\t010011AC\t0003\n"
    )
    assert default_gateway(routes) == "172.17.0.1"
    assert default_gateway(tmp_path / "none") is None


def test_the_command_says_it_as_json_and_by_its_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [
        "doctor",
        "--bootstrap",
        "127.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
        "--deadline",
        "6",
        "--state",
        str(tmp_path),
    ]
    assert run_app(app, "magnet", [*words, "--json"]) == 1
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert {row["event"] for row in rows[:-1]} == {"finding"}
    assert rows[-1] == {"event": "done", "broken": 1}
    assert {"state", "udp", "router", "dht", "IPv4", "IPv6", "port mapping", "reachability"} == {
        row["name"] for row in rows[:-1]
    }
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


@pytest.mark.parametrize("words", [["--deadline", "0"], ["--bootstrap", "x"], ["--listen", "name:1"], ["surplus"]])
def test_bad_usage_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, "magnet", ["doctor", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


async def test_who_offers_to_map_ports(monkeypatch):
    asked: list[Errand] = []

    async def offered(errand: Errand) -> Answer:
        asked.append(errand)
        return Answer("http://192.168.1.1/", None)

    async def broken(errand: Errand) -> Answer:
        raise NetworkError("what speaks UPnP for us does not start: no room")

    monkeypatch.setattr("magnet.gateways.default_gateway", lambda: None)
    assert await find_gateways(offered) == Gateways((), "there is no network")
    monkeypatch.setattr("magnet.gateways.source_towards", lambda to: "192.168.1.2")
    assert await find_gateways(offered) == Gateways(("UPnP",), None)
    assert asked == [Errand(Verb.LOOK, "192.168.1.2")]
    assert await find_gateways(broken) == Gateways((), "what speaks UPnP for us does not start: no room")


@pytest.mark.parametrize(
    ("gateways", "state", "text"),
    [
        (Gateways(("NAT-PMP", "UPnP"), None), "ok", "the gateway offers NAT-PMP and UPnP: a port is mapped while"),
        (Gateways((), "it says 501"), "unknown", "no gateway answered to NAT-PMP; UPnP: it says 501"),
    ],
)
async def test_what_is_said_of_gateways(autojump_clock, monkeypatch, gateways, state, text):
    async def find() -> Gateways:
        await trio.sleep(1)
        return gateways

    monkeypatch.setattr("magnet.doctor.find_gateways", find)
    async with a_world(dht_nodes=3) as world:
        finding = (await findings_of(world, world.host(), find_mappings=True))["port mapping"][0]
    assert finding.state == state
    assert finding.text.startswith(text)
    assert finding.facts == {"offers": list(gateways.offers), "upnp": gateways.upnp_trouble}
