"""Child processes that are restarted when they end, and that all end with their supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from catalog_sync import exit_codes
from catalog_sync.domain.errors import ConfigurationError

FIRST_PAUSE: Final = 1.0
"""Seconds before an ended process is restarted; doubled each time, up to the longest."""
LONGEST_PAUSE: Final = 30.0
STEADY_AFTER: Final = 30.0
"""Seconds after which a process counts as stable, so that the next pause is short again."""
READY_WITHIN: Final = 30.0
STOP_WITHIN: Final = 15.0
"""Seconds that processes are given to end by themselves: workers finish what they are doing."""

_log = logging.getLogger(__name__)


class NotReadyError(Exception):
    """A process ended, or reported nothing, before it was ready."""


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """A process to keep running."""

    name: str
    arguments: tuple[str, ...]
    """Arguments after ``python -m``."""
    env: Mapping[str, str]
    reports_ready: bool = False
    """Whether its first line on stdout is JSON that others need."""
    ends_last: bool = False
    """Whether the others use it until their end: a worker that finishes a sync needs the supplier."""


class Supervisor:
    """``async with Supervisor() as up: await up.start(program)``."""

    def __init__(self, private_redis: Path | None = None) -> None:
        """``private_redis`` is the folder of a private Redis that should end with the processes."""
        self._private_redis = private_redis
        self._guardian: subprocess.Popen[str] | None = None
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._last: set[str] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self._unusable: asyncio.Future[Program] = asyncio.get_running_loop().create_future()
        self._ending = False

    async def start(self, program: Program) -> dict[str, Any]:
        """Starts a process and keeps it running. Returns what it reports once it is ready, if anything.

        Raises :class:`NotReadyError`, or ``ConfigurationError`` if the process cannot use a setting.
        """
        process, report = await self._launch(program)
        self._keepers.append(asyncio.create_task(self._keep(program, process), name=program.name))
        return report

    async def _launch(self, program: Program) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
        # A separate session: Ctrl-C reaches only the supervisor, which ends the others in order.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *program.arguments),
            env=dict(program.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if program.reports_ready else sys.stderr.fileno(),
            start_new_session=True,
        )
        self._running[program.name] = process
        if program.ends_last:
            self._last.add(program.name)
        self._note(f"+{process.pid}")
        if not program.reports_ready or process.stdout is None:
            return process, {}
        try:
            async with asyncio.timeout(READY_WITHIN):
                line = await process.stdout.readline()
                report = json.loads(line) if line else {}
                if not report.get("ready") and await process.wait() == exit_codes.USAGE:
                    raise unusable(program)
        except (TimeoutError, ValueError) as error:
            raise NotReadyError(f"{program.name} did not become ready") from error
        if not report.get("ready"):
            raise NotReadyError(f"{program.name} did not become ready: {report.get('error', report)}")
        return process, dict(report)

    async def _keep(self, program: Program, process: asyncio.subprocess.Process) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            code = await process.wait()
            self._note(f"-{process.pid}")
            if self._ending:
                return
            if code == exit_codes.USAGE:
                self._give_up(program)
                return
            if time.monotonic() - began > STEADY_AFTER:
                pause = FIRST_PAUSE
            _log.warning("%s ended with %s; restarting it in %.0f s", program.name, code, pause)
            _end_group(process, signal.SIGKILL)  # what is left of it
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                process, _ = await self._launch(program)
            except ConfigurationError:
                self._give_up(program)
                return
            except NotReadyError as error:
                _log.error("%s", error)
                process = self._running[program.name]

    def _give_up(self, program: Program) -> None:
        if not self._unusable.done():
            self._unusable.set_result(program)

    async def first_unusable(self) -> Program:
        """Waits for the first program that ends with 2. It is not restarted: it would end the same way."""
        return await asyncio.shield(self._unusable)

    def _note(self, line: str) -> None:
        """Notifies the guardian, unless that has ended."""
        if self._guardian is not None and self._guardian.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guardian.stdin.write(f"{line}\n")
                self._guardian.stdin.flush()

    async def __aenter__(self) -> Supervisor:
        folder = () if self._private_redis is None else (str(self._private_redis),)
        self._guardian = subprocess.Popen(  # noqa: ASYNC220, S603  it returns immediately
            [sys.executable, "-m", "catalog_sync.up.guardian", *folder],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends all processes; those that do not end in time are killed with everything they started."""
        self._ending = True
        waiting: list[asyncio.Task[int]] = []
        try:
            for last in (False, True):
                ending = [process for name, process in self._running.items() if (name in self._last) is last]
                for process in ending:
                    if process.returncode is None:
                        with contextlib.suppress(ProcessLookupError):
                            process.terminate()
                tasks = [asyncio.create_task(process.wait()) for process in ending]
                waiting += tasks
                if tasks:
                    await asyncio.wait(tasks, timeout=STOP_WITHIN)
        finally:
            for process in self._running.values():
                _end_group(process, signal.SIGKILL)
            for keeper in self._keepers:
                keeper.cancel()
            await asyncio.gather(*waiting, *self._keepers, return_exceptions=True)
            if self._guardian is not None:
                await asyncio.to_thread(self._guardian.communicate)  # closes its pipe


def unusable(program: Program) -> ConfigurationError:
    """The error of a program that ended with 2; it printed which setting is the problem."""
    return ConfigurationError(f"{program.name} cannot use a setting; see its message")


def _end_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Sends a signal to a process and to everything it has started and left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
