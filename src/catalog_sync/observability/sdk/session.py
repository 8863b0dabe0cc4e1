"""The telemetry of a running process, and its bounded shutdown. Imports nothing of the SDK."""

from __future__ import annotations

import atexit
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Self

from opentelemetry import trace

from otel_resilience.redaction import redact

SHUTDOWN_TIMEOUT: Final = 4.5
"""Maximum seconds for ending telemetry, whatever the collector does: with all other shutdowns, less than five."""

EXIT_TIMEOUT: Final = 1.0
"""Seconds that other parties' providers are given at process exit: the end of the session has flushed them before."""

_log = logging.getLogger(__name__)
_at_exit: Final[list[_AtExit]] = []


@dataclasses.dataclass(eq=False)
class Telemetry:
    """What :func:`~catalog_sync.observability.sdk.setup_telemetry` set up. A context manager that shuts it down."""

    shutdowns: Sequence[Callable[[], object]] = ()
    flushes: Sequence[Callable[[], object]] = ()
    _ended: bool = False

    @property
    def active(self) -> bool:
        """Whether telemetry goes anywhere."""
        return bool(self.shutdowns) and not self._ended

    def force_flush(self, timeout: float = SHUTDOWN_TIMEOUT) -> bool:
        """Sends what has been collected, for at most ``timeout`` seconds. Returns whether all of it was handled."""
        return _all_within(self.flushes, timeout) if self.active else True

    def shutdown(self, timeout: float = SHUTDOWN_TIMEOUT) -> bool:
        """Sends what is left and shuts down within ``timeout`` seconds in total. Returns whether it ended in time.

        The signals are shut down in parallel, since the SDK gives each of them half a minute. What an unreachable
        collector did not accept by then is lost. Repeated calls do nothing.
        """
        if self._ended:
            return True
        self._ended = True
        return _all_within(self.shutdowns, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


def end_at_exit(action: Callable[[], object]) -> None:
    """Runs ``action`` at process exit, in parallel with others, for at most :data:`EXIT_TIMEOUT` seconds."""
    if not _at_exit:
        atexit.register(_exit)
    _at_exit.append(_AtExit(action))


class _AtExit:
    """Its thread waits from the start, since Python starts no threads while a process exits."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._pid = os.getpid()
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._work, name="telemetry-exit", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        self._asked.wait()
        _quietly(self._action)

    def ask(self) -> None:
        """A forked child does not have our thread: there the actions run directly."""
        if self._pid == os.getpid():
            self._asked.set()
        else:
            _quietly(self._action)

    def wait(self, seconds: float) -> None:
        if self._pid == os.getpid():
            self._thread.join(seconds)


def _exit() -> None:
    deadline = time.monotonic() + EXIT_TIMEOUT
    for each in _at_exit:
        each.ask()
    for each in _at_exit:
        each.wait(max(0.0, deadline - time.monotonic()))


def tracing() -> bool:
    """Whether a tracer provider is set up in this process, by us or by a host application."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _all_within(actions: Sequence[Callable[[], object]], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    threads = [threading.Thread(target=_quietly, args=(action,), daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:  # noqa: BLE001  # shutting down telemetry must not become an error of the application
        _log.warning("telemetry did not end properly: %s", redact(repr(error)))
