"""The sign of life of a step, and how it hears that it is to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from catalog_sync.domain.errors import CatalogSyncError

if TYPE_CHECKING:
    from catalog_sync.jobs.ledger import JobLedger
    from catalog_sync.jobs.port import GroupProgress

LONGEST_PAUSE: Final = 1.0
"""Seconds between two signs of life at most: so soon a cancelled job stops, and progress is seen."""

_log = logging.getLogger(__name__)


class StepStoppedError(Exception):
    """The step is not wanted any more: its job was cancelled or has failed, or another worker has the step."""

    def __init__(self, *, lost: bool) -> None:
        super().__init__("another worker has the step" if lost else "the job is to stop")
        self.lost = lost


class Heart:
    """``async with Heart(...)``: extends the claim in the background, stops the body that is not wanted any more.

    ``on_beat`` is called after every beat that Redis has confirmed.
    """

    def __init__(
        self,
        ledger: JobLedger,
        job_id: str,
        step: str,
        claim: str,
        lease: float,
        on_beat: Callable[[], object] | None = None,
    ) -> None:
        self._ledger = ledger
        self._job_id = job_id
        self._step = step
        self._claim = claim
        self._lease = lease
        self._on_beat = on_beat
        self._task: asyncio.Task[Any] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._cancelling = 0
        self._stopped: StepStoppedError | None = None
        self._progress: tuple[int, GroupProgress] | None = None
        self._concluding = False

    def conclude(self) -> None:
        """From here on nothing stops the body: its next write gives the claim back, and the ledger judges that write.

        A sign of life that reaches Redis after it would find no claim, and take that for a loss.
        """
        self._concluding = True

    def note(self, number: int, progress: GroupProgress) -> None:
        """Progress to be told with the next sign of life."""
        self._progress = (number, progress)

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self._beating = asyncio.create_task(self._beat(), name=f"heart of {self._step}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        if self._stopped is None or self._task is None:
            return
        ours = self._task.uncancel() <= self._cancelling
        if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise self._stopped from error

    async def _beat(self) -> None:
        while True:
            try:
                await self._tell_progress()
                answer = await self._ledger.beat(self._job_id, self._step, self._claim, self._lease)
            except CatalogSyncError as error:
                _log.warning("a sign of life of %s could not be given: %s", self._step, error)
            else:
                if answer != "ok" and self._concluding:
                    return
                if answer != "ok":
                    self._stopped = StepStoppedError(lost=answer == "lost")
                    if self._task is not None:
                        self._task.cancel()
                    return
                if self._on_beat is not None:
                    self._on_beat()
            await asyncio.sleep(min(LONGEST_PAUSE, self._lease / 3))

    async def _tell_progress(self) -> None:
        noted, self._progress = self._progress, None
        if noted is not None:
            await self._ledger.progress(self._job_id, *noted)
