"""Words completed by the shells themselves: each runs our script in a process, and is asked as a pressed Tab asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.harness import REPOSITORY

MODULES = {"magnet": "magnet", "kademlia-bt": "kademlia_bt"}


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with our commands, as they are installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, module in MODULES.items():
        start = f"import sys; sys.argv[0] = {name!r}; from {module}.__main__ import main; main()"
        (folder / name).write_text(f"#!{sys.executable}\n{start}\n")
        (folder / name).chmod(0o755)
    return folder


def run(shell: str, script: str, commands: Path, cwd: Path) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    quiet = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [shell, *quiet, "-c", script],
        cwd=cwd,
        env={**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split("\n")[:-1]


def in_bash(words: list[str], commands: Path, cwd: Path) -> list[str]:
    name = words[0]
    function = f"_{name.replace('-', '_')}_completion"
    return run(
        "bash",
        f'eval "$({name} --completion bash)"; COMP_WORDS=({" ".join(words)!s} ""); COMP_CWORD={len(words)}; '
        f'COMPREPLY=(); {function} {name} 2>/dev/null; printf "%s\\n" "${{COMPREPLY[@]}}"',
        commands,
        cwd,
    )


def test_bash_is_told_commands_options_and_choices(commands: Path, tmp_path: Path) -> None:
    assert {"get", "resolve", "seed", "stream", "doctor"} <= set(in_bash(["magnet"], commands, tmp_path))
    assert set(in_bash(["magnet", "get", "--encryption"], commands, tmp_path)) == {"prefer", "require", "off"}
    assert {"run", "ping", "bootstrap"} <= set(in_bash(["kademlia-bt"], commands, tmp_path))


def test_fish_completes_a_command_and_a_file(commands: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday.torrent").touch()
    begin = "magnet --completion fish | source; "
    assert [line.split("\t")[0] for line in run("fish", f"{begin} complete -C 'magnet reso'", commands, tmp_path)] == [
        "resolve"
    ]
    assert run("fish", f"{begin} complete -C 'magnet get holi'", commands, tmp_path) == ["holiday.torrent"]


def test_zsh_takes_the_script(commands: Path, tmp_path: Path) -> None:
    script = 'autoload -Uz compinit; compinit -u -d ./dump; eval "$(magnet --completion zsh)"; print $_comps[magnet]'
    assert run("zsh", script, commands, tmp_path)[-1] == "_magnet_completion"


def test_another_shell_is_one_line(commands: Path, tmp_path: Path) -> None:
    done = subprocess.run([commands / "magnet", "--completion", "tcsh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
