"""Our port mapper alone, with a lease of seconds, for a gateway's test.

    portmap_child.py PORT OWN_ADDRESS GATEWAY

Says how the port was mapped, keeps it mapped until told a line, takes it back and says so.
"""

from __future__ import annotations

import json
import random
import sys

import trio

from wire.portmap import mapper
from wire.trio_net import TrioNetwork

mapper.LEASE_S, mapper.MIN_LEASE_S = 8, 2  # renewed after 4 s


async def main(port: str, own: str, gateway: str) -> None:
    one = mapper.PortMapper(TrioNetwork(), int(port), random.SystemRandom(), own=own, gateway=gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await one.news.wait()
        found = one.mapping
        facts = {"trouble": one.trouble} if found is None else {"way": found.way, "host": found.host}
        print(json.dumps({"event": "mapped", "port": int(port), **facts}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()
    print(json.dumps({"event": "taken back"}), flush=True)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
