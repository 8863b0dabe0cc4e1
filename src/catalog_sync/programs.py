"""How every program ends: with an exit code, and on an error with one line without secrets."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from catalog_sync import exit_codes
from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.domain.text import printable
from catalog_sync.settings.secrets import register_secrets
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

EXTRAS: Final = {
    "api": ("fastapi", "sse_starlette", "starlette", "uvicorn", "httptools"),
    "demo": ("aiohttp",),
    "worker": ("celery", "kombu", "billiard"),
}
"""For each extra of the distribution, the packages that a program may find missing."""

_log = logging.getLogger(__name__)


def run_program(name: str, body: Callable[[], int]) -> int:
    """Runs ``body`` and returns the exit code: that of ``body``, 2 for a ``ConfigurationError``, 1 for any other error.

    The error line names the program; the traceback of an unexpected error goes to the log. ``BrokenPipeError`` is
    re-raised, because its output is no longer read.
    """
    register_environment_secrets()
    log_uncaught()
    try:
        return body()
    except ConfigurationError as error:
        complain(name, str(error))
        return exit_codes.USAGE
    except KeyboardInterrupt:
        return exit_codes.of_signal(2)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  the last stop of a program
        lacking = missing_extra(error)
        if lacking is not None:
            complain(name, str(lacking))
            return exit_codes.USAGE
        _log_uncaught(type(error), error, error.__traceback__)
        complain(name, f"unexpected error: {type(error).__name__}: {error}")
        return exit_codes.FAILED


def missing_extra(error: Exception) -> ConfigurationError | None:
    """The error that says what to install if ``error`` means that a package of an extra is missing; else ``None``."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    package = error.name.partition(".")[0]
    extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
    if extra is None:
        return None
    return ConfigurationError(f"{package} is not installed; pip install 'catalog-sync[{extra}]' brings it")


def register_environment_secrets() -> None:
    """Registers the secrets in this process's environment, and redacts what is logged before logs are set up."""
    from catalog_sync.observability.logs import HumanFormatter
    from catalog_sync.settings.settings import SECRET_NAMES

    register_secrets(os.environ, SECRET_NAMES)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(HumanFormatter())


def log_uncaught() -> None:
    """From now on uncaught exceptions go to the log, redacted; Python's own report could show the values of secrets.

    For programs: it applies to the whole process, including threads.
    """
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def complain(name: str, message: str) -> None:
    """Writes one redacted line to stderr that names the program."""
    line = printable(" ".join(redact(message).split()))
    sys.stderr.write(f"{name}: {line.removeprefix(f'{name}: ')}\n")
    sys.stderr.flush()


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    del traceback  # it is part of the error
    if error is None or issubclass(kind, SystemExit | KeyboardInterrupt):
        return
    if not logging.getLogger().handlers:  # before logs were set up
        from catalog_sync.observability.logs import setup_logging

        setup_logging(stream=sys.stderr, json_lines=not sys.stderr.isatty())
    _log.error("unexpected error: %s", kind.__name__, exc_info=error)
