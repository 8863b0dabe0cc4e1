"""What the command lines of all programs share: kinds of options, examples in the help, versions, and wrong arguments.

Typer only parses the arguments: the function of a command returns an action, and that runs outside of Typer, so that
signals, errors and exit codes are handled in one place for all programs.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

import typer
import typer.main
from typer.models import CommandInfo

from catalog_sync import __version__
from catalog_sync.terminal import streams
from catalog_sync.terminal.output import CommandOutput, UsageError, wants_json

Function = TypeVar("Function", bound=Callable[..., Any])

SETTINGS: Final = {
    "help_option_names": ["-h", "--help"],
    # Typer lets pydantic check the missing defaults of its own flags, which takes longer than the rest of a help.
    "default_map": {"help": False, "install_completion": False, "show_completion": False},
}
"""Settings of every Typer application."""

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else, also on failure.")]
"""For the help and completion: its value is read before the arguments are parsed, since it applies to errors too."""


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo(f"{context.find_root().info_name} {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
]


def text(value: str) -> str:
    """An option parser: text that is not blank."""
    if not value.strip():
        raise typer.BadParameter("must not be empty")
    return value


def duration(value: str) -> float:
    """An option parser: seconds, from a number and a unit."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value)
    if match is None:
        raise typer.BadParameter(f"must be a number and one of s, m, h, d, as in 30m, not {value!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


def whole(lowest: int, highest: int) -> Callable[[object], int]:
    """An option parser: whole numbers within bounds, in plain digits."""

    def parse(value: object) -> int:
        digits = str(value)
        if not re.fullmatch(r"[0-9]{1,9}", digits) or not lowest <= int(digits) <= highest:
            raise typer.BadParameter(f"must be a whole number from {lowest} to {highest}, not {digits!r}")
        return int(digits)

    return parse


def examples(*commands: str) -> str:
    """The examples section of a help; its lines are not wrapped."""
    return "\n".join(("\b", "Examples:", *(f"  {command}" for command in commands)))


def command(app: typer.Typer, *shown: str, name: str | None = None) -> Callable[[Function], Function]:
    """Decorates the function of a command; ``shown`` are the examples in its help."""

    def add(function: Function) -> Function:
        # Given explicitly, the summary in the list of commands is wrapped; Typer's own would be truncated.
        summary = (inspect.getdoc(function) or "").partition("\n\n")[0]
        app.command(name, short_help=summary, epilog=examples(*shown))(function)
        return function

    return add


def parse(app: typer.Typer, program: str, arguments: Sequence[str]) -> Any:
    """What the function of the command returns, or an exit code if help or the version was printed.

    Raises :class:`UsageError`, and ``BrokenPipeError`` if the reader of the help has gone.
    """
    root: Any = typer.main.get_command(_called(app, arguments))
    try:
        return root.main(list(arguments), prog_name=program, standalone_mode=False)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # Typer ends with 1 if the reader of a help has gone
            raise BrokenPipeError from stop
        raise
    except typer.TyperException as error:
        raise UsageError(_command_path(root, program, arguments), _message(error)) from error


def _called(app: typer.Typer, arguments: Sequence[str]) -> typer.Typer:
    """``app`` with only the command that is called, if the first argument names one.

    Typer would create all commands with all their options before it looks at the arguments.
    """
    word = arguments[0] if arguments and app.registered_callback else None
    commands = [info for info in app.registered_commands if _command_name(info) == word]
    groups = [info for info in app.registered_groups if info.name == word]
    if not commands and not groups:
        return app
    called = copy.copy(app)
    called.registered_commands, called.registered_groups = commands, groups
    return called


def _command_name(info: CommandInfo) -> str | None:
    if info.name is not None or info.callback is None:
        return info.name
    return typer.main.get_command_name(info.callback.__name__)


def _command_path(root: Any, program: str, arguments: Sequence[str]) -> str:
    """The program and the commands that were named, as in ``catalog-sync alerts test``."""
    names, found = [program], root
    for word in arguments:
        found = getattr(found, "commands", {}).get(word)
        if found is None:
            break
        names.append(word)
    return " ".join(names)


def _message(error: typer.TyperException) -> str:
    similar = getattr(error, "possibilities", None)  # for an unknown option, the best first
    if similar:
        return f"{error.message}. Did you mean {similar[0]!r}?"
    return error.format_message().replace(": Value error, ", ": ")  # pydantic's wording for invalid choices


def run_single_command(
    program: str, function: Callable[..., Callable[[], int]], arguments: Sequence[str], *shown: str
) -> int:
    """Runs a program with a single command; returns its exit code.

    ``function`` has the options as parameters and returns an action; ``shown`` are the examples in the help.
    """
    from catalog_sync.programs import missing_extra, run_program

    output = CommandOutput(program=program, as_json=wants_json(arguments))

    def body() -> int:
        app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)
        command(app, *shown)(function)
        try:
            action = parse(app, program, arguments)
            return action if isinstance(action, int) else int(action())
        except UsageError as error:
            return output.usage_error(error)
        except BrokenPipeError:
            raise
        except Exception as error:
            if output.as_json:
                output.error_json(missing_extra(error) or error)
            raise

    streams.prepare_streams()
    return streams.with_output(lambda: run_program(program, body))
