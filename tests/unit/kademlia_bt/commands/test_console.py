"""The console's promises: one line an error, the right exit code, no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Annotated

import pytest
from click.exceptions import Exit

from kademlia_bt.commands.console import endpoint, host_port, one_line, parse_size, run_app, size
from kademlia_bt.commands.front import App, Option
from wire.compact import Endpoint
from wire.errors import DiskError, MisuseError, NetworkError, ProtocolError


def app_of(action: Callable[[], int | None] = lambda: None) -> App:
    app = App()

    @app.command()
    def get(
        source: str,
        limit: Annotated[int, Option(parser=size)] = 0,
        listen: Annotated[list[Endpoint] | None, Option(parser=endpoint)] = None,
        bootstrap: Annotated[list[str] | None, Option(parser=host_port)] = None,
        count: int = 1,
    ) -> int | None:
        print(source, limit, listen, bootstrap)
        return action()

    @app.command()
    def other() -> None: ...

    return app


def test_values_arrive_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "get",
        "X",
        "--limit",
        "2M",
        "--listen",
        "127.0.0.1:1",
        "--listen",
        "[::1]:2",
        "--bootstrap",
        "a.example:3",
    ]
    assert run_app(app_of(), "prog", words) == 0
    shown = capsys.readouterr().out
    assert "2097152" in shown
    assert "('a.example', 3)" in shown
    assert "Endpoint(host='::1', port=2)" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("get", "SOURCE"),
        ("get X --nonsense", "--nonsense"),
        ("get X --limit 2X", "no size"),
        ("get X --listen nowhere:1", "not an IP address"),
        ("get X --bootstrap noport", "HOST:PORT"),
        ("get X --bootstrap a:70000", "65535"),
        ("get X --count x", "--count"),
        ("nonsense", "nonsense"),
        ("", "command"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app_of(), "prog", words.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert says.lower() in lines[0].lower()
    assert lines[0].startswith("prog: ")


def raiser(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("action", "code", "says"),
    [
        (lambda: 3, 3, None),
        (lambda: None, 0, None),
        (raiser(Exit(4)), 4, None),
        (raiser(KeyboardInterrupt()), 130, None),
        (raiser(ProtocolError("broken\nlink\x1b[31m")), 2, "broken link [31m"),
        (raiser(NetworkError("port 5 in use")), 2, "port 5 in use"),
        (raiser(DiskError("full")), 4, "full"),
        (raiser(OSError(28, "No space left")), 4, "No space left"),
        (raiser(ExceptionGroup("g", [ExceptionGroup("h", [NetworkError("deep")])])), 2, "deep"),
    ],
)
def test_exit_codes(
    action: Callable[[], int | None], code: int, says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(app_of(action), "prog", ["get", "X"]) == code
    shown = capsys.readouterr().err
    assert shown == "" if says is None else (says in shown and shown.count("\n") == 1)


def test_an_unforeseen_error_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        run_app(app_of(raiser(ZeroDivisionError())), "prog", ["get", "X"])
    mixed = ExceptionGroup("g", [NetworkError("a"), ZeroDivisionError()])
    with pytest.raises(ExceptionGroup):
        run_app(app_of(raiser(mixed)), "prog", ["get", "X"])


def test_sizes_and_lines() -> None:
    assert [parse_size(t) for t in ("0", "17", "1k", "1.5K", "2MiB", "1 g".replace(" ", ""), "3MB/s")] == [
        0,
        17,
        1024,
        1536,
        2 << 20,
        1 << 30,
        3 << 20,
    ]
    for bad in ("", "-1", "K", "1e9", "٣", "9" * 16, "nan"):
        with pytest.raises(MisuseError):
            parse_size(bad)
    assert one_line("a\r\n b\x00‮c") == "a b c"


PROGRAM = """
import sys, trio
from kademlia_bt.commands.console import hide_tracebacks, run_app, run_async
from kademlia_bt.commands.front import App
app = App()

@app.command()
def wait(code: int) -> int:
    async def main() -> int:
        try:
            print("ready", flush=True)
            await trio.sleep_forever()
        finally:
            print("cleaned", flush=True)
    return run_async(main, on_interrupt=code)

@app.command()
def crash() -> None:
    raise RuntimeError("why")

hide_tracebacks("prog")
sys.exit(run_app(app, "prog"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("code", [0, 130])
def test_a_signal_cleans_up_and_gives_the_exit_code(number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "wait", str(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "cleaned\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_second_interrupt_while_leaving_changes_nothing() -> None:
    program = PROGRAM.replace(
        "return run_async(main, on_interrupt=code)",
        "done = run_async(main, on_interrupt=code); print('left', flush=True); sys.stdin.read(); return done",
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "wait", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert [process.stdout.readline() for _ in range(2)] == ["cleaned\n", "left\n"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate("", timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_crash_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "crash"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "RuntimeError: why" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_leaves_is_no_error() -> None:
    program = PROGRAM.replace('print("ready", flush=True)', "[print('x' * 100, flush=True) for _ in range(10**5)]")
    with subprocess.Popen(
        [sys.executable, "-c", program, "wait", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 130


def test_help_and_errors_come_without_loading_a_node() -> None:
    program = (
        "import sys; from kademlia_bt.commands.console import run_app; from kademlia_bt.commands.cli import app\n"
        "assert run_app(app, 'kademlia-bt', ['run', '--nonsense']) == 2\n"
        "assert 'trio' not in sys.modules, 'trio was loaded'\n"
        "from kademlia_bt import Node\n"
        "assert 'trio' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
