"""What a shell completes of our commands: click's own answers, asked for by an environment variable.

`magnet --completion bash` prints what the shell is to run; that calls `magnet` again with `_MAGNET_COMPLETE` set, which
is answered here before anything else is looked at.
"""

from __future__ import annotations

import os

import click

__all__ = ["SHELLS", "answer_shell", "completion_option"]

SHELLS = ("bash", "zsh", "fish")


def variable_of(name: str) -> str:
    """The environment variable by which a shell asks."""
    return f"_{name.upper().replace('-', '_')}_COMPLETE"


def answer_shell(group: click.Group, name: str) -> int | None:
    """Answers a shell that asks, and gives the exit code; None where none does."""
    asked = os.environ.get(variable_of(name))
    if not asked:
        return None
    from click.shell_completion import shell_complete

    return shell_complete(group, {}, name, variable_of(name), asked)


def completion_option(group: click.Group, name: str) -> click.Option:
    """`--completion SHELL`."""

    def show(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is not None and not ctx.resilient_parsing:
            from click.shell_completion import shell_complete

            ctx.exit(shell_complete(group, {}, name, variable_of(name), f"{value}_source"))

    return click.Option(
        ["--completion"],
        type=click.Choice(SHELLS),
        expose_value=False,
        is_eager=True,
        callback=show,
        help=f'Complete words in that shell: eval "$({name} --completion bash)" in its startup file.',
    )
