"""Verdicts: each ending has one, and each says its counts on one line."""

from __future__ import annotations

import json

import pytest

from magnet.verdict import Counts, DownloadError, MagnetError, Phase, ResolveError, Verdict, decide, explain
from wire.errors import DiskError, MisuseError, NetworkError, ProtocolError
from wire.ids import InfoHash

META, LOAD = Phase.METADATA, Phase.DOWNLOADING
SILENT = Counts(routers_tried=4, nodes_asked=2)
ALONE = Counts(routers_tried=1, routers_answered=1, nodes_asked=80, nodes_answered=60)
FOUND = Counts(nodes_asked=80, nodes_answered=60, found={"dht": 3, "peer": 1}, dialled=4, refused=3, timed_out=1)
MET = Counts(nodes_answered=1, found={"dht": 2}, dialled=2, connected=2, without_metadata=1, metadata_rejected=3)
LIED = Counts(found={"dht": 1}, dialled=1, connected=1, metadata_hash_failures=1, banned=1)


@pytest.mark.parametrize(
    ("counts", "phase", "error", "verdict"),
    [
        (SILENT, META, None, Verdict.DHT_UNREACHABLE),
        (Counts(), META, None, Verdict.DHT_UNREACHABLE),
        (Counts(dht=False), META, None, Verdict.NO_PEERS),
        (ALONE, META, None, Verdict.NO_PEERS),
        (ALONE, LOAD, None, Verdict.NO_PEERS),
        (FOUND, META, None, Verdict.PEERS_UNREACHABLE),
        (FOUND, LOAD, None, Verdict.PEERS_UNREACHABLE),
        (MET, META, None, Verdict.NO_METADATA_PEERS),
        (LIED, META, None, Verdict.BAD_METADATA),
        (MET, LOAD, None, Verdict.STALLED),
        (LIED, LOAD, None, Verdict.STALLED),
        (MET, LOAD, DiskError("full"), Verdict.DISK),
        (MET, META, ProtocolError("no"), Verdict.BAD_INPUT),
        (MET, META, MisuseError("no"), Verdict.BAD_INPUT),
        (MET, META, NetworkError("port in use"), Verdict.BAD_INPUT),
        (MET, META, KeyboardInterrupt(), Verdict.CANCELLED),
        (MET, Phase.CANCELLED, None, Verdict.CANCELLED),
        (MET, LOAD, ResolveError(Verdict.NO_PEERS, MET), Verdict.NO_PEERS),
    ],
)
def test_the_first_stage_that_gave_nothing_decides(
    counts: Counts, phase: Phase, error: BaseException | None, verdict: Verdict
) -> None:
    assert decide(counts, phase, error) is verdict


@pytest.mark.parametrize(
    ("verdict", "counts", "says"),
    [
        (Verdict.DHT_UNREACHABLE, SILENT, ["4 routers", "2 nodes", "--bootstrap"]),
        (Verdict.DHT_UNREACHABLE, Counts(), ["no router", "--bootstrap"]),
        (Verdict.NO_PEERS, ALONE, ["60 of 80 DHT nodes", "info-hash"]),
        (Verdict.NO_PEERS, Counts(dht=False), ["not asked", "--peer"]),
        (Verdict.PEERS_UNREACHABLE, FOUND, ["4 peers found (3 by dht, 1 by peer)", "3 refused", "1 did not answer"]),
        (Verdict.NO_METADATA_PEERS, MET, ["2 connected", "1 have none", "3 requests rejected"]),
        (Verdict.BAD_METADATA, LIED, ["1 wrong copy", "1 banned"]),
        (Verdict.STALLED, MET, ["2 connected", "run the same command again"]),
    ],
)
def test_the_line_names_the_counts_and_what_to_do(verdict: Verdict, counts: Counts, says: list[str]) -> None:
    line = explain(verdict, counts)
    for words in says:
        assert words in line
    assert "\n" not in line


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_a_line(verdict: Verdict) -> None:
    assert 10 < len(explain(verdict, FOUND)) < 300


def test_errors_carry_the_verdict_the_counts_and_the_hash() -> None:
    info_hash = InfoHash(v1=bytes(20))
    for kind in (ResolveError, DownloadError):
        error = kind(Verdict.NO_PEERS, ALONE, info_hash)
        assert isinstance(error, MagnetError)
        assert (error.verdict, error.counts, error.info_hash) == (Verdict.NO_PEERS, ALONE, info_hash)
        assert str(error) == explain(Verdict.NO_PEERS, ALONE)
    assert str(DownloadError(Verdict.DISK, ALONE, info_hash, "cannot write x: full")) == "cannot write x: full"


def test_counts_are_json() -> None:
    row = json.loads(json.dumps(FOUND.as_dict()))
    assert row["found"] == {"dht": 3, "peer": 1}
    assert row["refused"] == 3
    assert Counts(**row) == FOUND
