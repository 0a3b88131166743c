"""A session of ours that is told of one peer and says how many others that peer named (BEP 11).

    pex_child.py TORRENT DIR LISTEN_HOST PEER_HOST PEER_PORT

It takes little of what it is offered, so that it stays for as long as it takes to be told, and then ends.
"""

from __future__ import annotations

import json
import sys

import trio

from magnet import Config, Session
from wire.compact import Endpoint

SLOW_BYTES_S = 10_000
PATIENCE_S = 130.0


async def main(torrent: str, directory: str, listen: str, host: str, port: str) -> None:
    config = Config(
        listen=(Endpoint(listen, 0),), peers=((host, int(port)),), dht=False, lsd=False, use_trackers=False,
        state_dir=None, down_limit=SLOW_BYTES_S,
    )  # fmt: skip
    async with Session(config) as session:
        handle = await session.add(torrent, directory=directory)
        with trio.move_on_after(PATIENCE_S):
            while "pex" not in handle.status().counts.found:
                await trio.sleep(0.1)
        print(json.dumps({"event": "found", **handle.status().counts.found}), flush=True)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
