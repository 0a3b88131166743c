"""Commands declared by functions: the types and defaults of their parameters become click's options and arguments.

    @app.command()
    def ping(node: Annotated[str, Argument(metavar="HOST:PORT")], count: Annotated[int, Option(min=1)] = 3) -> int: ...

What is not asked for is not made: `COMMAND --help` reads the annotations of that one command alone, and the names and
first lines of the others come from their functions. That, and no more imports than click's, is why this stands here:
a program that is started for a single answer has a fraction of a second for all of it.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

import click

from kademlia_bt.commands.completion import answer_shell, completion_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["App", "Argument", "Option"]

F = TypeVar("F", bound=Callable[..., Any])


class _Declared(NamedTuple):
    """What an annotation says of a parameter beside its type."""

    is_argument: bool
    names: tuple[str, ...] = ()
    parser: Callable[[str], Any] | None = None
    metavar: str | None = None
    help: str = ""
    min: int | None = None
    max: int | None = None
    show_default: bool | str = True
    is_eager: bool = False


def Option(  # noqa: N802 - written in annotations, where types stand
    *names: str,
    parser: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    help: str = "",  # noqa: A002 - click's word for it
    min: int | None = None,  # noqa: A002
    max: int | None = None,  # noqa: A002
    show_default: bool | str = True,
    is_eager: bool = False,
) -> Any:
    """An option, in `Annotated`. A list makes it repeatable, a bool a flag.

    Args:
        names: As typed; by default the parameter's own, with dashes.
        parser: Makes the value of the text, or raises `click.BadParameter`. It is given a default too, if that is text.
        metavar: Stands for the value in help.
        help: A sentence.
        min: Least whole number allowed.
        max: Greatest whole number allowed.
        show_default: Whether help shows the default; text is shown in its place.
        is_eager: Looked at before all others, whatever these say.
    """
    return _Declared(False, names, parser, metavar, help, min, max, show_default, is_eager)


def Argument(  # noqa: N802
    *,
    parser: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    help: str = "",  # noqa: A002
) -> Any:
    """An argument, in `Annotated`: one where the type is no list, else as many as come. See `Option`."""
    return _Declared(True, (), parser, metavar, help)


class App:
    """The commands of a program."""

    def __init__(self, name: str = "", *, help: str = "", epilog: str = "") -> None:  # noqa: A002
        """Makes one without commands.

        `help` and `epilog` are what its own `--help` shows around them. With `help`, that is also shown to who names no
        command; without, he is told so in one line.
        """
        self.name = name
        self._help = help
        self._epilog = epilog
        self._commands: dict[str, _Maker] = {}

    def command(self, name: str | None = None, *, shares: Callable[..., Any] | None = None) -> Callable[[F], F]:
        """Makes a function a command; its docstring is the help, its result the exit code.

        Args:
            name: Of the command; by default the function's.
            shares: Another function whose parameters this command has too; what it returns comes as the argument
                `settings`.
        """

        def register(function: F) -> F:
            self._commands[name or function.__name__] = _Maker(function, shares)
            return function

        return register

    @property
    def commands(self) -> list[str]:
        """Their names."""
        return list(self._commands)

    def include(self, other: App) -> None:
        """Takes in the commands of another."""
        self._commands.update(other._commands)

    def run(self, args: Sequence[str], name: str, version: Callable[[], str] | None = None) -> Any:
        """Runs what the words say and returns the command's result, or 2 after the help where there are no words.

        `version` gives what `--version` shows. Raises click's exceptions, and what the command raises.
        """
        group = _Group(self._commands, name=self.name or name, help=self._help, epilog=self._epilog)
        if version is not None:
            group.params += [_version_option(version), completion_option(group, name)]
            if (answered := answer_shell(group, name)) is not None:
                raise click.exceptions.Exit(answered)
        with group.make_context(name, list(args)) as context:  # `main` would write to stderr upon Ctrl-C
            return group.invoke(context)


class _Maker(NamedTuple):
    function: Callable[..., Any]
    shares: Callable[..., Any] | None

    def command(self, name: str) -> click.Command:
        own, shared = list(_parameters(self.function)), list(_parameters(self.shares)) if self.shares else []
        if self.shares:
            own = [parameter for parameter in own if parameter.name != "settings"]

        def call(**values: Any) -> Any:
            if self.shares is not None:
                values["settings"] = self.shares(**{parameter.name: values.pop(parameter.name) for parameter in shared})
            return self.function(**values)

        parameters = [_made(parameter) for parameter in (*own, *shared)]
        return _Command(
            name,
            callback=call,
            params=parameters,
            help=inspect.getdoc(self.function),
            context_settings=_CONTEXT,
        )


MAX_NAME = 255
"""Of a file or folder, in bytes (on Windows in characters); the systems of our time take no longer ones."""
_CONTEXT = {"help_option_names": ["-h", "--help"]}


def _parameters(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    return iter(inspect.signature(function, eval_str=True).parameters.values())


class _Text(click.ParamType):  # type: ignore[type-arg, unused-ignore] # as `_Member`
    """A value that a parser makes of text."""

    def __init__(self, parser: Callable[[str], Any]) -> None:
        self.name = "text"
        self._parser = parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parser(value)
        except click.BadParameter as error:
            self.fail(error.message, param, ctx)


def _size(name: str) -> int:
    return len(name) if sys.platform == "win32" else len(os.fsencode(name))


class _Place(click.Path):  # type: ignore[type-arg, unused-ignore] # as `_Member`
    """The path of a file or folder. An empty word, as an unset variable leaves it, is not the folder we are in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty, and names no file or folder", param, ctx)
        if isinstance(value, str) and ("\0" in value or any(_size(part) > MAX_NAME for part in value.split("/"))):
            self.fail(f"that is no file name: a name has at most {MAX_NAME} bytes, none of them zero", param, ctx)
        return super().convert(value, param, ctx)


class _Member(click.Choice):  # type: ignore[type-arg, unused-ignore] # generic in newer versions only
    """A member of an enumeration, by its value."""

    def __init__(self, members: type[Enum]) -> None:
        super().__init__([str(member.value) for member in members])
        self._members = members

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._members(super().convert(value.value if isinstance(value, Enum) else value, param, ctx))


class _Listed(click.Argument):
    """An argument that help tells about. Where it is plain text it may be a file's path, and is completed so."""

    def __init__(self, names: list[str], told: str, **attributes: Any) -> None:
        super().__init__(names, **attributes)
        self.told = told  # not `help`, which newer versions of click show in a way of their own

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if self.type is not click.STRING:
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class _Command(click.Command):
    """A command whose help tells of its arguments as of its options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        arguments = [
            (
                param.make_metavar(ctx) if _METAVAR_OF_CONTEXT else param.make_metavar(),  # type: ignore[call-arg, unused-ignore]
                param.told + ("  [required]" if param.required else ""),
            )
            for param in self.params
            if isinstance(param, _Listed)
        ]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        super().format_options(ctx, formatter)


_METAVAR_OF_CONTEXT = "ctx" in inspect.signature(click.Parameter.make_metavar).parameters
"""Since click 8.2."""


def _made(parameter: inspect.Parameter) -> click.Parameter:
    """The parameter of a function as click's."""
    kind, declared = parameter.annotation, None
    if get_origin(kind) is Annotated:
        kind, declared = get_args(kind)[:2]
    required = parameter.default is inspect.Parameter.empty
    if declared is None:
        declared = _Declared(required)
    inner = [part for part in get_args(kind) if part is not type(None)]
    if type(None) in get_args(kind):
        kind = inner[0]
    is_list = get_origin(kind) is list
    if is_list:
        kind = get_args(kind)[0]
    default = None if required else parameter.default
    attributes: dict[str, Any] = {"type": _type(kind, declared), "metavar": declared.metavar, "required": required}
    if declared.is_argument:
        attributes |= {"nargs": -1} if is_list else {} if required else {"default": default}
        return _Listed([parameter.name], declared.help, **attributes)
    names = declared.names or (f"--{parameter.name.replace('_', '-')}",)
    if kind is bool:
        return click.Option([*names, parameter.name], is_flag=True, default=False, help=declared.help)
    if isinstance(default, Enum):
        default = default.value
    shown = declared.show_default if default not in (None, "") else False
    if not required:
        attributes["default"] = default
    return click.Option(
        [*names, parameter.name],
        multiple=is_list,
        help=declared.help,
        show_default=shown,
        **attributes,
    )


def _type(kind: Any, declared: _Declared) -> Any:
    if declared.parser is not None:
        return _Text(declared.parser)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _Member(kind)
    if kind is Path:
        return _Place(path_type=Path)
    if declared.min is not None or declared.max is not None:
        return click.IntRange(declared.min, declared.max)
    return {int: click.INT, float: click.FLOAT}.get(kind, click.STRING)


class _Group(click.Group):
    """A program whose commands are made when they are asked for."""

    def __init__(self, commands: dict[str, _Maker], **attributes: Any) -> None:
        super().__init__(
            invoke_without_command=True,
            subcommand_metavar="COMMAND [ARGS]...",
            context_settings=_CONTEXT,
            callback=self._without_command,
            **attributes,
        )
        self._makers = commands

    @staticmethod
    def _without_command() -> int:
        context = click.get_current_context()
        if context.invoked_subcommand is None:
            if not context.command.help:
                raise click.UsageError("a command is missing")
            click.echo(context.get_help())
            raise click.exceptions.Exit(2)
        return 0

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._makers)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        maker = self._makers.get(cmd_name)
        return None if maker is None else maker.command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        room = formatter.width - 6 - max(map(len, self._makers), default=0)
        rows = [
            (name, click.Command(name, help=inspect.getdoc(maker.function)).get_short_help_str(room))
            for name, maker in self._makers.items()
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _version_option(version: Callable[[], str]) -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(version())
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show the version and leave.",
    )
