"""docs/hardening.md names the test of each promise: those tests are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOKEN = re.compile(r"([\w/]+\.py)|`([\w-]+)`")


def named() -> list[tuple[str, str | None]]:
    """Each file in the last column, alone and with each word that stands behind it."""
    found: list[tuple[str, str | None]] = []
    for line in (ROOT / "docs" / "hardening.md").read_text(encoding="utf-8").splitlines():
        file = None
        for path, word in TOKEN.findall(line.rstrip("| ").rpartition("|")[2]) if line.startswith("|") else ():
            if path:
                file = path
                found.append((path, None))
            elif file is not None and not word.isupper():
                found.append((file, word))
    return found


def test_every_test_that_the_page_names_is_there() -> None:
    files = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert len(named()) > 80
    for name, word in named():
        hits = [path for path in files if path.as_posix().endswith("/" + name)]
        assert len(hits) == 1, f"{name}: {len(hits)} such files"
        if word is not None:
            tests = re.findall(r"def (test_\w+)", hits[0].read_text(encoding="utf-8"))
            assert any(word in test for test in tests), f"{name} has no test of {word!r}"


def test_all_of_libtorrents_cases_stand_on_the_page() -> None:
    text = (ROOT / "docs" / "hardening.md").read_text(encoding="utf-8")
    tests = (ROOT / "tests" / "unit" / "wire" / "swarm" / "test_libtorrents_cases.py").read_text(encoding="utf-8")
    cases = re.findall(r'^    "(\w+)": \(', tests, re.MULTILINE)
    cases += ["invalid_request", "disconnect_unknown_info_hash"]
    assert len(set(cases)) == 21
    short = {"alternate_have_all_have_none_seed"}  # "the same to a seed"
    assert [case for case in cases if case not in text and case not in short] == []
