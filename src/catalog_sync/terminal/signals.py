"""SIGINT, SIGTERM, SIGHUP: the command is cancelled, cleans up within a time limit, and reports that it was stopped."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from catalog_sync import exit_codes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from types import FrameType

T = TypeVar("T")

STOP_WITHIN: Final = 4.5
"""Seconds after which a stopped command that is still cleaning up is forced to exit."""
FINAL_OUTPUT_WITHIN: Final = 0.5
"""Seconds for what is printed before a forced exit, which may wait for a hanging import."""


class StopRequested(BaseException):  # not an error: the user asked for it
    """A signal asked this process to stop."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


class StopSignals:
    """Turns the first signal into a cancellation of the command's task, even if it has not started.

    Code outside the task is not interrupted: an import that is aborted half-way cannot be repeated. A second Ctrl-C
    ends the process immediately; anything else that hangs is ended after :data:`STOP_WITHIN`.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """The first signal."""
        self.on_forced_exit: Callable[[], object] | None = None
        """Called in a thread before the process is forced to exit: prints the result that is known so far. It may take
        :data:`FINAL_OUTPUT_WITHIN`."""
        self.on_run: Callable[[], object] | None = None
        """Called before the command's task starts: loads what it needs."""
        self.on_work: Callable[[], object] | None = None
        """Called by a command that takes long, once everything it needs is loaded."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def install(self) -> None:
        """Handles the signals from now on. Has no effect outside the main thread, where handlers cannot be set."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._handle)
            signal.signal(signal.SIGTERM, self._handle)
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup
                signal.signal(signal.SIGHUP, self._handle)

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """``asyncio.run`` with a task that the signals cancel. Raises :class:`StopRequested` if it was cancelled."""
        import asyncio

        if self.on_run is not None:
            self.on_run()

        async def body() -> T:
            task = asyncio.current_task()
            self._loop, self._task = asyncio.get_running_loop(), task
            if self.received is not None and task is not None:
                task.cancel()
            try:
                return await main()
            finally:
                self._task = None

        try:
            return asyncio.run(body())
        except asyncio.CancelledError:
            if self.received is None:
                raise
            raise StopRequested(self.received) from None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is not None:
            if number == signal.SIGINT:
                os._exit(exit_codes.of_signal(self.received))
            return
        self.received = signal.Signals(number)
        watchdog = threading.Timer(STOP_WITHIN, self._end)
        watchdog.daemon = True
        watchdog.start()
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    def _end(self) -> None:
        try:
            if self.on_forced_exit is not None:
                speaker = threading.Thread(target=self.on_forced_exit, daemon=True)
                speaker.start()
                speaker.join(FINAL_OUTPUT_WITHIN)
        finally:
            os._exit(exit_codes.of_signal(self.received or signal.SIGTERM))
