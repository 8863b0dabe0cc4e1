"""The bundle as stored in the catalogue, and objects that describe the result of a sync and the source of a read."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum, auto
from typing import Annotated, Final, Literal

from pydantic import Field, PlainSerializer, StringConstraints

from catalog_sync.domain.errors import UNKNOWN_SCOPE_TYPES
from catalog_sync.domain.json_form import JsonForm
from catalog_sync.domain.times import Moment

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle(JsonForm):
    """One eSIM plan, normalised."""

    name: str
    """The supplier's identifier; case-sensitive, unique in a catalogue."""
    description: str
    groups: tuple[str, ...]
    countries: tuple[str, ...]
    """Country codes as the supplier spells them, upper case; mostly ISO 3166-1 alpha-2, but also ``CYP``, ``US-HI``."""
    region: str | None
    """The most frequent region of its countries."""
    data_mb: Annotated[int, Field(ge=0)] | None
    """Decimal megabytes; ``None`` for unlimited, and if the supplier does not say."""
    unlimited: bool
    duration_days: Annotated[int, Field(ge=1)]
    price: Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?$")]
    """Decimal string in major units, exactly as sent: ``"6.90"``."""
    currency: str | None
    """ISO 4217; ``None`` if the supplier does not say."""
    speeds: tuple[str, ...]
    stale: bool = False
    """Kept from an earlier version because its group could not be fetched."""


class SyncKind(StrEnum):
    """What a sync covers."""

    FULL = auto()
    GROUP = auto()
    COUNTRY = auto()
    BUNDLE = auto()


@dataclasses.dataclass(frozen=True, slots=True)
class SyncRequest:
    """What to sync. ``scope`` names the group, country or bundle; a full sync has none."""

    kind: SyncKind = SyncKind.FULL
    scope: str | None = None
    force: bool = False
    """Publish even if a guard objects."""
    trigger: str = "cli"
    """Who asked, from a small set: ``cli``, ``schedule``, ``api``, ``demo``."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` if kind and scope do not fit."""
        if (self.kind is SyncKind.FULL) != (self.scope is None):
            raise ValueError("a full sync has no scope, every other kind needs one")

    def widened(self, obstacle: str | None) -> SyncRequest:
        """A full sync instead, if no complete catalogue is published.

        Renewing a part of it would publish that part as the whole. ``obstacle`` says what is wrong; ``None``: nothing.
        """
        if obstacle is None or self.kind is SyncKind.FULL:
            return self
        _log.warning("a full sync is done instead of one of %s %r: %s", self.kind.value, self.scope, obstacle)
        return dataclasses.replace(self, kind=SyncKind.FULL, scope=None)


class Outcome(StrEnum):
    """How a sync ended. A busy lock, a lost lock and success are always distinguishable."""

    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"
    SKIPPED_LOCKED = "SKIPPED_LOCKED"
    LOCK_UNAVAILABLE = "LOCK_UNAVAILABLE"
    FAILED = "FAILED"


FAILED_OUTCOMES: Final = frozenset({Outcome.PARTIAL, Outcome.LOCK_UNAVAILABLE, Outcome.FAILED})
"""Outcomes of syncs with a failure: their traces are kept."""

GroupStatus = Literal["ok", "stale", "failed"]
Source = Literal["fresh", "stale", "snapshot"]


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorInfo(JsonForm):
    """An error as reports show it: no traceback, no secret."""

    type: str
    error_class: Annotated[str, Field(serialization_alias="class")]
    severity: str
    message: str
    retry_after_s: float | None
    correlation_id: str
    dependency: Annotated[str | None, Field(exclude=True)] = None
    """The dependency that the error belongs to, if known; not part of reports."""


@dataclasses.dataclass(frozen=True, slots=True)
class GroupReport(JsonForm):
    """The result of one group. ``stale``: failed, the last good data is kept; ``failed``: there is nothing to keep."""

    name: str
    status: GroupStatus
    bundles: int
    error: ErrorInfo | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Quarantined(JsonForm):
    """A row that was set aside."""

    group: str
    name: str | None
    reason: str
    """From a closed set: see :mod:`catalog_sync.supplier.esim_go.rows`."""


@dataclasses.dataclass(frozen=True, slots=True)
class LockHolder(JsonForm):
    """Who holds the sync lock."""

    owner: str
    since: str
    """RFC 3339, UTC."""
    ttl_s: float
    correlation_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SyncReport(JsonForm):
    """The result of a sync: the same object from one process, from workers and on the command line."""

    outcome: Outcome
    kind: SyncKind
    scope: str | None
    """The group, country or bundle; ``None`` for a full sync."""
    correlation_id: str
    version: str | None
    """The version that readers see after the run."""
    bundles: int
    """Bundles in that version."""
    quarantined: int
    groups: Sequence[GroupReport]
    started_at: str
    """RFC 3339, UTC."""
    duration_s: Annotated[float, PlainSerializer(lambda seconds: round(seconds, 3))]
    attempts: int
    """Requests sent to the supplier."""
    retries: int
    """How many of them were retries."""
    quarantined_rows: Sequence[Quarantined] = ()
    """At most the first 100."""
    holder: LockHolder | None = None
    error: ErrorInfo | None = None
    trigger: str | None = None
    """Who asked, as in :class:`SyncRequest`; ``None`` if unknown."""
    warnings: Sequence[str] = ()
    """Problems that do not change the outcome, a sentence each, without secrets."""

    @property
    def unknown_scope(self) -> bool:
        """Whether it was asked for something that does not exist: an operator's mistake, not a failed sync."""
        return self.error is not None and self.error.type in UNKNOWN_SCOPE_TYPES


@dataclasses.dataclass(frozen=True, slots=True)
class GroupMeta(JsonForm):
    """A group inside a published version."""

    bundles: Annotated[int, Field(ge=0)]
    as_of: Moment
    """When its data was fetched, RFC 3339."""
    stale: bool


@dataclasses.dataclass(frozen=True, slots=True)
class CatalogueMeta(JsonForm):
    """The metadata of a published version."""

    version: str
    as_of: Moment
    """When the oldest of its non-stale data was fetched, RFC 3339, UTC."""
    bundles: Annotated[int, Field(ge=0)]
    names_sha256: str
    """SHA-256 over the sorted bundle names, each followed by a newline."""
    groups: Mapping[str, GroupMeta]
    fence: int
    """The fencing token of the run that published it."""
    correlation_id: str
    kind: SyncKind
    last_full_sync: Moment | None
    """When the last COMPLETE full sync ended; a PARTIAL one does not change it."""
