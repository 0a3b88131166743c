"""The IPv6 address of a node on a real system, in a network namespace: which it takes, and that it moves (BEP 32)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.namespaces import two_machines

pytestmark = pytest.mark.interop

LASTING, LATER = "2a02:77::5", "2a02:99::9"
SCRIPT = f"""
import json, subprocess
import trio
import wire.roaming
from kademlia_bt import Node
from wire.routes import global_ipv6

wire.roaming._LOOK_AGAIN_S = 0.05

async def main():
    async with Node(bootstrap=[]) as node, Node(bootstrap=[]) as asker:
        seen = []
        for change in ([], ["del", "{LASTING}/64"], ["add", "{LATER}/64", "nodad"]):
            if change:
                subprocess.run(["ip", "address", *change, "dev", "wire"], check=True)
            with trio.fail_after(60):
                while node.endpoints[1].host != (global_ipv6() or "::"):
                    await trio.sleep(0.02)
            at = node.endpoints[1]
            answered = at.host == "::" or (await asker.ping(at)).endpoint == at
            seen.append([at.host, answered, at.port == node.endpoints[0].port])
        print(json.dumps(seen))

trio.run(main)
"""


def test_it_takes_the_lasting_address_and_moves_with_it() -> None:
    with two_machines(ipv6=True) as (here, _):
        make = f"""
            cd /proc/sys/net/ipv6/conf/wire; echo 2 > use_tempaddr; echo 0 > accept_dad
            ip address add {LASTING}/64 dev wire nodad mngtmpaddr valid_lft 9000 preferred_lft 900
            ip -6 route add default dev wire
        """
        subprocess.run([*here.prefix, "sh", "-ec", make], check=True, timeout=60)
        listed = subprocess.run([*here.prefix, "ip", "address"], capture_output=True, text=True, timeout=60, check=True)
        assert " temporary " in listed.stdout, "one for privacy, which the system would send from"
        done = subprocess.run(
            [*here.prefix, sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=100, check=False,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[LASTING, True, True], ["::", True, True], [LATER, True, True]]
