"""The status page in a real browser: its script runs under its own strict policy, and hostile texts do nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from kademlia_bt.dht.traffic import MessageStats
from kademlia_bt.status.app import serve_status
from kademlia_bt.status.views import StatusView
from wire.compact import Endpoint

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
)  # fmt: skip
ATTACK = '"><img src=x onerror="document.title=1"><script>document.title="owned"</script>'


async def test_the_page_stays_live_and_runs_nothing_of_others(tmp_path: Path) -> None:
    looks = 0

    def source() -> StatusView:
        nonlocal looks
        looks += 1
        return replace(view, facts=((ATTACK, f"look {looks}"),))

    view = StatusView(
        "A node", "good", ATTACK, (), messages=(MessageStats(ATTACK, 1, 0, 0, 0),), refused=((ATTACK, 1),)
    )
    async with trio.open_nursery() as nursery:
        at = await nursery.start(serve_status, source, Endpoint("127.0.0.1", 0))
        words = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path}", "--virtual-time-budget=4500", "--dump-dom"]
        with trio.fail_after(60):
            done = await trio.run_process(
                [*words, f"http://{at}/"], capture_stdout=True, capture_stderr=True, check=False
            )
        nursery.cancel_scope.cancel()
    page, said = done.stdout.decode(), done.stderr.decode()
    assert looks >= 3
    assert any(f"look {look}<" in page for look in range(2, looks + 1)), "the script did not refresh the page"
    assert "<title>A node</title>" in page
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "CONSOLE" not in said, said  # a breach of the policy would be told there
