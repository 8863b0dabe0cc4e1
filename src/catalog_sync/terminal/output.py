"""The output of a command: one JSON object for machines or text for people, and its errors in both forms."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

from catalog_sync import exit_codes
from catalog_sync.domain.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from catalog_sync.domain.models import ErrorInfo

PLAIN_WIDTH: Final = 100
"""Columns if the output is not a terminal."""

_log = logging.getLogger(__name__)


class UsageError(Exception):
    """Wrong arguments."""

    def __init__(self, command: str, message: str) -> None:
        super().__init__(message)
        self.command = command


class CommandOutput:
    """The output of one command."""

    def __init__(self, *, as_json: bool, program: str = "catalog-sync") -> None:
        self.as_json = as_json
        self.program = program
        self.answered = False
        """Whether the JSON object was printed."""

    def json(self, data: dict[str, Any]) -> None:
        """Prints the one JSON object, once."""
        if self.answered:
            return
        self.answered = True
        line = json.dumps(data, ensure_ascii=False)
        try:
            line.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:  # an ASCII terminal; the same object, escaped
            line = json.dumps(data)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def result(
        self, data: dict[str, Any], print_for_a_person: Callable[[], object], error: dict[str, Any] | None = None
    ) -> None:
        """Prints what the command found: as the JSON object, or for a person. ``error``: why the command fails."""
        if self.as_json:
            self.json(data if error is None else {**data, "error": error})
        else:
            print_for_a_person()

    def text(self, line: str) -> None:
        """Prints a line for a person on stdout; nothing if JSON was requested."""
        if not self.as_json:
            sys.stdout.write(line + "\n")

    def notice(self, message: str) -> None:
        """Shows a message on the terminal, or logs it if stderr is not a terminal."""
        if sys.stderr.isatty():
            sys.stderr.write(message + "\n")
        else:
            _log.warning("%s", message)

    def complain(self, message: str) -> None:
        """Prints one redacted line on stderr that names the program."""
        from catalog_sync.programs import complain

        complain(self.program, message)

    def error_json(self, error: BaseException) -> None:
        """Prints an error as the one JSON object."""
        from catalog_sync.sync.reporting import error_info

        self.json({"error": error_info(error).to_json()})

    def usage_error(self, error: UsageError) -> int:
        """Wrong arguments: one line."""
        from catalog_sync.programs import complain, register_environment_secrets
        from otel_resilience.redaction import redact

        register_environment_secrets()
        message = redact(str(error))
        sentence = message if message.endswith(("?", ".")) else f"{message}."
        complain(error.command, f"{sentence} See {error.command} --help")
        if self.as_json:
            self.json({"error": failure("usage", message)})
        return exit_codes.USAGE

    def stopped(self, number: int) -> int:
        """Reports that a signal ended the command before it had anything to undo."""
        message = f"stopped by {signal.Signals(number).name}"
        self.complain(message)
        if self.as_json:
            self.json({"error": failure("cancelled", message, "cancelled", "LOW")})
        return exit_codes.of_signal(number)

    def failed(self, error: BaseException) -> int:
        """Reports an error that the command did not handle: one redacted line, the traceback in the JSON log."""
        from catalog_sync.domain.errors import (
            CatalogSyncError,
            CatalogUnavailableError,
            ConfigurationError,
            UnknownScopeError,
        )
        from catalog_sync.sync.reporting import error_info

        info = error_info(error)
        users_mistake = isinstance(error, ConfigurationError | UnknownScopeError)
        if users_mistake:
            self.complain(info.message)
        elif isinstance(error, CatalogSyncError):
            self.complain(f"{info.message} (correlation ID {info.correlation_id})")
        else:
            _log_unexpected(error, info)
            self.complain(f"unexpected error: {info.message} (correlation ID {info.correlation_id})")
        if self.as_json:
            self.json({"error": info.to_json()})
        if users_mistake:
            return exit_codes.USAGE
        return exit_codes.NO_CATALOGUE if isinstance(error, CatalogUnavailableError) else exit_codes.FAILED


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` is among the arguments: checked before they are parsed, since it applies to wrong ones too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end]


def console(stream: TextIO | None = None) -> Console:
    """A console for people: colours and the real width on a terminal, plain text of 100 columns elsewhere."""
    from rich.console import Console, ConsoleDimensions
    from rich.table import Table

    class Plain(Console):
        def on_broken_pipe(self) -> NoReturn:
            """Replaces rich's own exit: ``with_output`` handles it for all output alike."""
            raise BrokenPipeError

        def print(self, *objects: Any, **options: Any) -> None:
            """As usual, except that a table which is too wide wraps its values: rich would truncate them."""
            for table in objects:
                if isinstance(table, Table):
                    for column in table.columns:
                        column.overflow, column.no_wrap = "fold", False
            super().print(*objects, **options)

    file = sys.stdout if stream is None else stream
    made = Plain(file=file, width=None if file.isatty() else PLAIN_WIDTH, highlight=False, emoji=False)
    if made.is_dumb_terminal:  # rich would use 80 columns, whatever there are
        made.size = ConsoleDimensions(*shutil.get_terminal_size())
    return made


def pasteable(command: str) -> str:
    """``command`` as it works in this shell: with the path of our program if that is not on the PATH."""
    name, _, rest = command.partition(" ")
    beside = Path(sys.executable).with_name(name)  # not resolved: a virtual environment's interpreter is a link
    if shutil.which(name) is not None or not beside.is_file():
        return command
    with contextlib.suppress(ValueError, OSError):  # it is elsewhere, or the working folder was deleted
        beside = beside.relative_to(Path.cwd())
    return f"{shlex.quote(str(beside))} {rest}"


def error_line(error: ErrorInfo) -> str:
    """An error for a person, on one line."""
    message = printable(" ".join(error.message.split()))
    text = f"{error.type} ({error.error_class}, {error.severity}): {message}"
    return text if error.retry_after_s is None else f"{text}; try again in {error.retry_after_s:.1f} s"


def _log_unexpected(error: BaseException, info: ErrorInfo) -> None:
    """Logs the redacted traceback as a line of the JSON log, but not on a terminal."""
    if sys.stderr.isatty():
        return
    from catalog_sync.observability.logs import setup_logging
    from otel_resilience import correlation_scope

    if not logging.getLogger().handlers:  # before logs were set up
        setup_logging(stream=sys.stderr, json_lines=True)
    with correlation_scope(info.correlation_id):
        _log.error("unexpected error: %s", info.message, exc_info=error)


def failure(kind: str, message: str, error_class: str = "permanent", severity: str = "HIGH") -> dict[str, Any]:
    """The ``error`` of a command that fails without an exception."""
    from catalog_sync.domain.models import ErrorInfo
    from otel_resilience import correlation_id

    return ErrorInfo(kind, error_class, severity, message, None, correlation_id()).to_json()
