"""The bundle as the catalogue holds it, and the objects that say how a sync went and where a read came from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

from catalog_sync.domain.errors import UNKNOWN_SCOPE_TYPES

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle:
    """One eSIM plan, normalised."""

    name: str
    """The supplier's identifier; case-sensitive, unique in a catalogue."""
    description: str
    groups: tuple[str, ...]
    countries: tuple[str, ...]
    """Country codes as the supplier spells them, upper case; mostly ISO 3166-1 alpha-2, but also ``CYP``, ``US-HI``."""
    region: str | None
    """The most frequent region of its countries."""
    data_mb: int | None
    """Decimal megabytes; ``None`` for unlimited, and where the supplier does not say."""
    unlimited: bool
    duration_days: int
    price: str
    """Decimal string in major units, exact as sent: ``"6.90"``."""
    currency: str | None
    """ISO 4217; ``None`` where the supplier does not say."""
    speeds: tuple[str, ...]
    stale: bool = False
    """Kept from an earlier version because its group could not be fetched."""

    def to_json(self) -> dict[str, Any]:
        """The object of the command line and of the store."""
        return {
            "name": self.name,
            "description": self.description,
            "groups": list(self.groups),
            "countries": list(self.countries),
            "region": self.region,
            "data_mb": self.data_mb,
            "unlimited": self.unlimited,
            "duration_days": self.duration_days,
            "price": self.price,
            "currency": self.currency,
            "speeds": list(self.speeds),
            "stale": self.stale,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bundle:
        """The inverse of :meth:`to_json`. Raises ``KeyError`` or ``TypeError`` on anything else."""
        return cls(
            name=data["name"],
            description=data["description"],
            groups=tuple(data["groups"]),
            countries=tuple(data["countries"]),
            region=data["region"],
            data_mb=data["data_mb"],
            unlimited=data["unlimited"],
            duration_days=data["duration_days"],
            price=data["price"],
            currency=data["currency"],
            speeds=tuple(data["speeds"]),
            stale=data["stale"],
        )


class SyncKind(StrEnum):
    """What a sync covers."""

    FULL = "full"
    GROUP = "group"
    COUNTRY = "country"
    BUNDLE = "bundle"


@dataclasses.dataclass(frozen=True, slots=True)
class SyncRequest:
    """What is to be synced. ``scope`` names the group, country or bundle; a full sync has none."""

    kind: SyncKind = SyncKind.FULL
    scope: str | None = None
    force: bool = False
    """Publish although a guard objects."""
    trigger: str = "cli"
    """Who asked, from a small set: ``cli``, ``schedule``, ``api``, ``demo``."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` where kind and scope do not fit."""
        if (self.kind is SyncKind.FULL) != (self.scope is None):
            raise ValueError("a full sync has no scope, every other kind needs one")

    def widened(self, obstacle: str | None) -> SyncRequest:
        """The sync that is done instead where no whole catalogue is published: a full one.

        To renew a part of it would publish that part as the whole. ``obstacle`` says what is wrong; ``None``: nothing.
        """
        if obstacle is None or self.kind is SyncKind.FULL:
            return self
        _log.warning("a full sync is done instead of one of %s %r: %s", self.kind.value, self.scope, obstacle)
        return dataclasses.replace(self, kind=SyncKind.FULL, scope=None)


class Outcome(StrEnum):
    """How a sync ended. Lock busy, lock broken and work done never look alike."""

    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"
    SKIPPED_LOCKED = "SKIPPED_LOCKED"
    LOCK_UNAVAILABLE = "LOCK_UNAVAILABLE"
    FAILED = "FAILED"


GroupStatus = Literal["ok", "stale", "failed"]
Source = Literal["fresh", "stale", "snapshot"]


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as reports show it: no traceback, no secret."""

    type: str
    error_class: str
    severity: str
    message: str
    retry_after_s: float | None
    correlation_id: str
    dependency: str | None = None
    """Whose error it is, where that is known; not part of reports."""

    def to_json(self) -> dict[str, Any]:
        """The ``error`` object of the command line."""
        return {
            "type": self.type,
            "class": self.error_class,
            "severity": self.severity,
            "message": self.message,
            "retry_after_s": self.retry_after_s,
            "correlation_id": self.correlation_id,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class GroupReport:
    """How one group fared. ``stale``: failed, the last good data stays; ``failed``: there is nothing to keep."""

    name: str
    status: GroupStatus
    bundles: int
    error: ErrorInfo | None = None

    def to_json(self) -> dict[str, Any]:
        """An entry of ``groups`` in the report."""
        return {
            "name": self.name,
            "status": self.status,
            "bundles": self.bundles,
            "error": self.error.to_json() if self.error else None,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that was set aside."""

    group: str
    name: str | None
    reason: str
    """From a closed set: see :mod:`catalog_sync.supplier.esim_go.rows`."""

    def to_json(self) -> dict[str, Any]:
        """An entry of ``quarantined_rows`` in the report."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds the sync lock."""

    owner: str
    since: str
    """RFC 3339, UTC."""
    ttl_s: float
    correlation_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The ``holder`` of a skipped run."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class SyncReport:
    """The result of a sync: the same object in one process, from a worker and on the command line."""

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
    duration_s: float
    attempts: int
    """Requests sent to the supplier."""
    retries: int
    """How many of them were repetitions."""
    quarantined_rows: Sequence[Quarantined] = ()
    """At most the first 100."""
    holder: LockHolder | None = None
    error: ErrorInfo | None = None

    @property
    def unknown_scope(self) -> bool:
        """Whether it was asked for something that does not exist: an operator's mistake, and no failed sync."""
        return self.error is not None and self.error.type in UNKNOWN_SCOPE_TYPES

    def to_json(self) -> dict[str, Any]:
        """The object of ``catalog-sync run --json``."""
        return {
            "outcome": self.outcome.value,
            "kind": self.kind.value,
            "scope": self.scope,
            "correlation_id": self.correlation_id,
            "version": self.version,
            "bundles": self.bundles,
            "quarantined": self.quarantined,
            "quarantined_rows": [row.to_json() for row in self.quarantined_rows],
            "groups": [group.to_json() for group in self.groups],
            "started_at": self.started_at,
            "duration_s": round(self.duration_s, 3),
            "attempts": self.attempts,
            "retries": self.retries,
            "holder": self.holder.to_json() if self.holder else None,
            "error": self.error.to_json() if self.error else None,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class GroupMeta:
    """A group inside a published version."""

    bundles: int
    as_of: str
    """When its data was fetched, RFC 3339."""
    stale: bool

    def to_json(self) -> dict[str, Any]:
        """As stored in the version's meta."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class CatalogueMeta:
    """What a published version says about itself."""

    version: str
    as_of: str
    """When the oldest of its non-stale data was fetched, RFC 3339, UTC."""
    bundles: int
    names_sha256: str
    """SHA-256 over the sorted bundle names, each followed by a newline."""
    groups: Mapping[str, GroupMeta]
    fence: int
    """The fencing token of the run that published it."""
    correlation_id: str
    kind: SyncKind
    last_full_sync: str | None
    """When the last COMPLETE full sync ended; a PARTIAL one does not move it."""

    def to_json(self) -> dict[str, Any]:
        """As stored, and as ``status`` shows it."""
        return {
            "version": self.version,
            "as_of": self.as_of,
            "bundles": self.bundles,
            "names_sha256": self.names_sha256,
            "groups": {name: group.to_json() for name, group in self.groups.items()},
            "fence": self.fence,
            "correlation_id": self.correlation_id,
            "kind": self.kind.value,
            "last_full_sync": self.last_full_sync,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CatalogueMeta:
        """The inverse of :meth:`to_json`."""
        return cls(
            version=data["version"],
            as_of=data["as_of"],
            bundles=data["bundles"],
            names_sha256=data["names_sha256"],
            groups={name: GroupMeta(**group) for name, group in data["groups"].items()},
            fence=data["fence"],
            correlation_id=data["correlation_id"],
            kind=SyncKind(data["kind"]),
            last_full_sync=data["last_full_sync"],
        )
