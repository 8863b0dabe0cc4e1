"""``catalog-sync``: runs one command, and turns every error into an exit code, one line and one JSON object."""

from __future__ import annotations

import functools
import gc
import os
import sys
from typing import TYPE_CHECKING, Final

from catalog_sync import __version__, exit_codes
from catalog_sync.terminal import streams
from catalog_sync.terminal.output import CommandOutput, UsageError, wants_json
from catalog_sync.terminal.signals import StopRequested, StopSignals

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "catalog-sync"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Raises nothing but the ``SystemExit`` of a forced stop."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    streams.prepare_streams()
    if argv is None:
        return _own_process(arguments)
    return streams.with_output(functools.partial(_answer, arguments, own_process=False))


def _own_process(arguments: Sequence[str]) -> int:
    """The exit code of one command in its own process, without garbage collections and lookups that find nothing."""
    # Imports and a catalogue create objects that stay: collecting among them is skipped, both now and at exit, where
    # the interpreter would go through all of them, which takes a third of the time of a command that reads.
    gc.set_threshold(200_000, 20, 50)
    # Pydantic plugins are not used; looking for them reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        return streams.with_output(functools.partial(_answer, arguments, own_process=True))
    finally:
        gc.freeze()


def _collect_less() -> None:
    """Excludes everything loaded so far from garbage collection."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _collect_in_small_steps() -> None:
    """Garbage collection during a sync: it creates little garbage, and collecting 50,000 objects blocks the event loop
    for 15 ms, so that requests go out late. Older generations are collected rarely: the process is short-lived."""
    gc.freeze()
    gc.set_threshold(1_000, 5, 2_000)


def _answer(arguments: Sequence[str], *, own_process: bool) -> int:
    """The exit code of one command, its errors reported. Raises ``BrokenPipeError`` and ``OutputError``."""
    if arguments == ["--version"]:  # does not need Typer
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return exit_codes.OK
    output = CommandOutput(as_json=wants_json(arguments))
    try:
        return _run(arguments, output, own_process=own_process)
    except SystemExit as stop:  # shell completion
        return stop.code if isinstance(stop.code, int) else exit_codes.OK
    except StopRequested as stop:
        return output.stopped(stop.number)
    except KeyboardInterrupt:
        return output.stopped(2)
    except BrokenPipeError:
        raise
    except UsageError as error:
        return output.usage_error(error)
    except Exception as error:  # noqa: BLE001  # the last stop: classified, redacted, reported with its correlation ID
        from catalog_sync.programs import missing_extra

        return output.failed(missing_extra(error) or error)


def _run(arguments: Sequence[str], output: CommandOutput, *, own_process: bool) -> int:
    from catalog_sync.cli.commands import app
    from catalog_sync.terminal.arguments import parse
    from esim_go_simulator.command import Simulation

    action = parse(app, PROGRAM, arguments)
    if isinstance(action, int):
        return action
    if isinstance(action, Simulation):  # it handles signals itself
        return action()
    signals = StopSignals()
    signals.on_forced_exit = lambda: output.stopped(signals.received or 2)
    if own_process:
        signals.on_run, signals.on_work = _collect_less, _collect_in_small_steps
    # Before signals are handled, since their last messages are redacted.
    from catalog_sync.programs import log_uncaught, register_environment_secrets

    signals.install()
    register_environment_secrets()
    if own_process:
        log_uncaught()
    return int(action(output, signals))


if __name__ == "__main__":
    sys.exit(main())
