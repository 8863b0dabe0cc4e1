"""The state of one sync, shared by its parts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import (
    AuthenticationError,
    CacheAuthenticationError,
    CacheConnectionError,
    CacheWritesPausedError,
    LockLostError,
    SyncDeadlineError,
    UnknownScopeError,
)
from catalog_sync.domain.models import ErrorInfo, GroupMeta, GroupReport, Outcome, Quarantined, SyncRequest
from catalog_sync.store.errors import CacheReplyError, CorruptEntryError, StagingIncompleteError, VersionGoneError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from catalog_sync.settings.settings import Settings
    from catalog_sync.supplier.port import Deadline, Rejected, Supplier
    from catalog_sync.sync.builder import CatalogueBuilder
    from catalog_sync.sync.previous import Previous
    from catalog_sync.sync.progress import ProgressTracker

MAX_REPORTED_ROWS: Final = 100

FATAL: Final = (
    AuthenticationError,
    SyncDeadlineError,
    UnknownScopeError,
    LockLostError,
    CacheConnectionError,
    CacheAuthenticationError,
    CacheWritesPausedError,
    CacheReplyError,
    CorruptEntryError,
    StagingIncompleteError,
    VersionGoneError,
)
"""Errors that end the whole run; any other error of the supplier only affects the group in which it happened."""


@contextlib.asynccontextmanager
async def within_deadline(left: float, whole: float) -> AsyncIterator[None]:
    """Raises ``SyncDeadlineError`` if the block takes longer than ``left`` of the ``whole`` seconds of a sync."""
    timeout = asyncio.timeout(max(0.0, left))
    try:
        async with timeout:
            yield
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise SyncDeadlineError(f"the sync did not end within {whole:g} s") from error


@dataclasses.dataclass(slots=True)
class Tally:
    """Row counts of one scope."""

    rows: int = 0
    """Rows that the supplier sent."""
    unique: int = 0
    """Different bundles among them, including quarantined ones."""
    rejected: list[Rejected] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, kw_only=True)
class Fetch:
    """What fetching needs, whether the rows go directly into a version or into a part of one."""

    supplier: Supplier
    progress: ProgressTracker
    deadline: Deadline
    tallies: dict[str, Tally] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True, kw_only=True)
class Run(Fetch):
    """One sync while it runs."""

    request: SyncRequest
    asked: SyncRequest
    """What was requested; differs from ``request`` if a full sync is done instead."""
    settings: Settings
    builder: CatalogueBuilder
    previous: Previous | None
    damage: str | None = None
    """Why the published catalogue is incomplete; see :class:`catalog_sync.sync.previous.Published`."""
    as_of: str
    """When the run started fetching, RFC 3339, UTC."""
    replayed: bool = False
    """The rows were fetched before, by other processes: here they are only merged."""
    groups: dict[str, GroupReport] = dataclasses.field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that the supplier sent."""
        return sum(tally.rows for tally in self.tallies.values())

    @property
    def quarantined(self) -> int:
        """Rows that were set aside."""
        return sum(len(tally.rejected) for tally in self.tallies.values())

    @property
    def unusable(self) -> int:
        """Different bundles among the quarantined rows: the supplier does have them."""
        rejected = [row.name for tally in self.tallies.values() for row in tally.rejected]
        return len({name for name in rejected if name is not None}) + rejected.count(None)

    def quarantined_rows(self) -> Sequence[Quarantined]:
        """The first quarantined rows."""
        rows = (
            Quarantined(scope, row.name, row.reason.value)
            for scope, tally in self.tallies.items()
            for row in tally.rejected
        )
        return [row for row, _ in zip(rows, range(MAX_REPORTED_ROWS), strict=False)]


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A staged version that passed its guards."""

    outcome: Outcome
    """COMPLETE or PARTIAL."""
    groups: dict[str, GroupMeta]
    as_of: str
    error: ErrorInfo | None = None
    """Why it is PARTIAL, if no single group shows it."""
