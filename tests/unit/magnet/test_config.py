"""Settings: what cannot be is refused when they are made, not when they are used."""

from __future__ import annotations

from pathlib import Path

import pytest

from magnet.config import Config, default_state_dir
from wire.errors import MisuseError


def test_defaults() -> None:
    config = Config()
    assert config.state_dir == default_state_dir()
    assert config.patience_s == 300
    assert config.deadline_s is None
    assert config.bootstrap is None


def test_the_state_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in default_state_dir().parents
    assert not default_state_dir().exists(), "asking for its name makes nothing"


@pytest.mark.parametrize(
    "wrong",
    [{"down_limit": -1}, {"up_limit": -1}, {"patience_s": -1.0}, {"patience_s": float("nan")}, {"deadline_s": 0.0}],
)
def test_values_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(MisuseError, match=next(iter(wrong))):
        Config(**wrong)  # type: ignore[arg-type]
