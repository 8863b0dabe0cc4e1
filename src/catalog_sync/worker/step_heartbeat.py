"""The heartbeat of a step: it extends the claim, reports progress, and learns whether the step must stop."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.store.lease import LeaseHeartbeat

if TYPE_CHECKING:
    from catalog_sync.jobs.ledger import JobLedger
    from catalog_sync.sync.progress import GroupProgress

LONGEST_PAUSE: Final = 1.0
"""Maximum seconds between two heartbeats: this soon a cancelled job stops, and progress is visible."""

_log = logging.getLogger(__name__)


class StepStoppedError(Exception):
    """The step is no longer wanted: its job was cancelled or has failed, or another worker has the step."""

    def __init__(self, *, lost: bool) -> None:
        super().__init__("another worker has the step" if lost else "the job is to stop")
        self.lost = lost


@dataclasses.dataclass(eq=False)
class StepHeartbeat(LeaseHeartbeat):
    """``async with StepHeartbeat(...)``: extends the claim in the background, stops a body that is no longer wanted.

    ``on_beat`` is called after every heartbeat that Redis has confirmed. Raises :class:`StepStoppedError`.
    """

    ledger: JobLedger
    job_id: str
    step: str
    claim: str
    lease: float
    on_beat: Callable[[], object] | None = None
    _progress: tuple[int, GroupProgress] | None = None
    _concluding: bool = False

    def __post_init__(self) -> None:
        LeaseHeartbeat.__init__(self, self._beat_until_stopped, name=f"heartbeat of {self.step}")

    def conclude(self) -> None:
        """From here on nothing stops the body: its next write releases the claim, and the ledger judges that write.

        A later heartbeat would find no claim in Redis, and mistake that for a loss.
        """
        self._concluding = True

    def note(self, number: int, progress: GroupProgress) -> None:
        """Progress to report with the next heartbeat."""
        self._progress = (number, progress)

    async def _beat_until_stopped(self) -> StepStoppedError | None:
        while True:
            try:
                await self._report_progress()
                answer = await self.ledger.beat(self.job_id, self.step, self.claim, self.lease)
            except CatalogSyncError as error:
                _log.warning("the claim of %s could not be extended: %s", self.step, error)
            else:
                if answer != "ok":
                    return None if self._concluding else StepStoppedError(lost=answer == "lost")
                if self.on_beat is not None:
                    self.on_beat()
            await asyncio.sleep(min(LONGEST_PAUSE, self.lease / 3))

    async def _report_progress(self) -> None:
        noted, self._progress = self._progress, None
        if noted is not None:
            await self.ledger.progress(self.job_id, *noted)
