"""A home's gateway as it stands in millions of homes: miniupnpd, in a network namespace, with a machine outside."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.harness import (
    AWKWARD,
    REPOSITORY,
    Program,
    assert_same_tree,
    free_port,
    kademlia_bt,
    magnet,
    need_client,
    need_libtorrent,
    torrent_of,
)
from tests.interop.namespaces import Machine, behind_a_gateway

pytestmark = pytest.mark.interop

PORT = 47001
BOTH = {"tcp", "udp"}
CHILD = REPOSITORY / "tests" / "interop" / "portmap_child.py"
_IS_PCP, _IS_NAT_PMP = "udp dport 5351 @th,64,8 2", "udp dport 5351 @th,64,8 0"
"""The first byte of what is asked: the version."""


@dataclass
class Home:
    """A gateway with its daemon, a machine behind it, a machine outside."""

    gateway: Machine
    inside: Machine
    outside: Machine
    leases: Path

    def mapped(self, port: int = PORT) -> dict[str, int]:
        """Of what the daemon has noted: each transport by when its mapping ends (Unix time)."""
        found = {}
        for line in self.leases.read_text().splitlines() if self.leases.exists() else ():
            transport, outer, host, inner, ends, _ = line.split(":", 5)
            if int(outer) == port:
                assert (host, int(inner)) == (self.inside.address, port), line
                found[transport.lower()] = int(ends)
        return found

    def lets_in(self, port: int = PORT) -> int:
        """How many rules of the gateway's kernel lead this port inside."""
        command = [*self.gateway.prefix, "nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"]
        rules = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        return rules.count(f"dport {port} dnat ip to {self.inside.address}:{port}")

    def mapper(self) -> Program:
        return Program(
            [*self.inside.prefix, sys.executable, str(CHILD), str(PORT), self.inside.address, self.gateway.address]
        )


@contextmanager
def a_home(folder: Path, *, upnp: bool, port_control: bool, deaf_to: str | None = None) -> Iterator[Home]:
    """`port_control`: PCP and NAT-PMP, which miniupnpd cannot part; `deaf_to` is what of it never reaches it."""
    daemon = need_client("miniupnpd")
    if b"libnftnl" not in Path(daemon).read_bytes():
        pytest.skip("this miniupnpd is the one for iptables, not for nftables")
    ready = "Listening for NAT-PMP" if port_control else "HTTP listening on"
    leases, settings = folder / "leases", folder / "miniupnpd.conf"
    with behind_a_gateway() as (gateway, inside, outside):
        settings.write_text(
            f"ext_ifname=out\nlistening_ip=in\nhttp_port=0\nlease_file={leases}\n"
            f"enable_upnp={'yes' if upnp else 'no'}\nenable_natpmp={'yes' if port_control else 'no'}\n"
            "min_lifetime=2\nmax_lifetime=86400\nsecure_mode=yes\nnotify_interval=900\n"
            "uuid=8d7a1c38-0f4e-4d2a-9c0d-6b1b3f0c7f11\n"
            "allow 1024-65535 192.168.77.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
        )
        if deaf_to is not None:
            rule = [*gateway.prefix, "nft", f"add rule inet deaf in {deaf_to} drop"]
            subprocess.run(rule, check=True, timeout=60)
        command = [*gateway.prefix, daemon, "-d", "-f", str(settings), "-P", str(folder / "pid")]
        with Program(command) as program:
            program.wait_line(lambda line: ready in line, stderr=True)
            yield Home(gateway, inside, outside, leases)


def renewed(now: dict[str, int], first: dict[str, int]) -> bool:
    """Both end later than at first; while the daemon writes its file anew, it has none or one of them."""
    return set(now) == BOTH and all(end > first[transport] for transport, end in now.items())


@pytest.mark.parametrize(
    ("way", "upnp", "deaf_to"),
    [("PCP", False, _IS_NAT_PMP), ("NAT-PMP", False, _IS_PCP), ("UPnP", True, None)],
    ids=["PCP", "NAT-PMP", "UPnP"],
)
def test_mapped_renewed_and_taken_back(tmp_path: Path, way: str, upnp: bool, deaf_to: str | None) -> None:
    """Each way alone, by what the gateway's own files and kernel say."""
    with a_home(tmp_path, upnp=upnp, port_control=not upnp, deaf_to=deaf_to) as home:
        with home.mapper() as program:
            told = program.wait_event("mapped")
            assert told == {"event": "mapped", "port": PORT, "way": way, "host": "80.9.9.9"}
            first = home.mapped()
            assert set(first) == BOTH
            assert home.lets_in() == 2
            until = time.monotonic() + 60
            while not renewed(home.mapped(), first):
                assert time.monotonic() < until, f"not renewed\n{program.story()}"
                time.sleep(0.1)  # the daemon writes a file, it never calls
            program.ask("end", "taken back")
        assert home.mapped() == {}
        assert home.lets_in() == 0


def test_who_is_outside_downloads_from_who_is_behind_the_gateway(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD)
    with a_home(tmp_path, upnp=True, port_control=True) as home, ExitStack() as stack:
        seed = stack.enter_context(
            magnet(
                "seed", torrent, "--data", root.parent, "--no-dht", "--no-lsd", "--no-trackers", "-v",
                "--listen", f"0.0.0.0:{PORT}", state=tmp_path / "s1", prefix=home.inside.prefix,
            )
        )  # fmt: skip
        words = f"the gateway lets in port {PORT} of 80.9.9.9 (PCP)"
        seed.wait_line(lambda line: words in line, stderr=True)
        get = stack.enter_context(
            magnet(
                "get", f"magnet:?xt=urn:btih:{info_hash}", "-o", tmp_path / "got", "--no-dht", "--no-lsd",
                "--peer", f"80.9.9.9:{PORT}", "--listen", f"{home.outside.address}:{free_port()}",
                "--timeout", "20", "--json", state=tmp_path / "s2", prefix=home.outside.prefix,
            )
        )  # fmt: skip
        get.finish(0)
        assert home.lets_in() == 2
        seed.terminate()
        seed.finish(0)
        assert home.mapped() == {}, "taken back"
    assert_same_tree(root, tmp_path / "got" / "things")


@pytest.mark.parametrize(("upnp", "offers"), [(True, ["NAT-PMP", "UPnP"]), (False, ["NAT-PMP"])])
def test_the_doctor_says_what_the_gateway_offers(tmp_path: Path, upnp: bool, offers: list[str]) -> None:
    with a_home(tmp_path, upnp=upnp, port_control=True) as home, ExitStack() as stack:
        there = f"{home.outside.address}:{free_port()}"
        run = ("run", "--listen", there, "--bootstrap", there, "--json")  # who meets nobody waits until the deadline
        stack.enter_context(kademlia_bt(*run, prefix=home.outside.prefix)).wait_event("listening")
        doctor = stack.enter_context(
            magnet(
                "doctor", "--bootstrap", there, "--deadline", "50", "--json", "--state", tmp_path / "state",
                state=tmp_path / "state", prefix=home.inside.prefix,
            )
        )  # fmt: skip
        found = doctor.wait_event("finding", name="port mapping")
        assert found["offers"] == offers
        assert found["upnp"] == (None if upnp else "no gateway answers")
        assert home.mapped() == {}
