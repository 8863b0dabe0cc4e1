"""The supplier port: what the sync needs from any supplier."""

from __future__ import annotations

import dataclasses
import time
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Final, Protocol

from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity, error_types

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from catalog_sync.domain.models import Bundle

SCHEMA_MISMATCH: Final = Classification(
    ErrorClass.PERMANENT, Severity.HIGH, error_types.SCHEMA_MISMATCH, BreakerEffect.FAILURE
)
"""The supplier changed its contract: a repetition gives the same result."""


class QuarantineReason(StrEnum):
    """Why a row was quarantined: the closed set of ``catalog.sync.quarantined``."""

    MISSING_FIELD = auto()
    """A required field (name, duration, price) is absent."""
    BAD_NAME = auto()
    BAD_PRICE = auto()
    """Not a number, not finite, not positive, or beyond any plausible price."""
    BAD_COUNTRY = auto()
    BAD_DURATION = auto()
    BAD_DATA_AMOUNT = auto()
    BAD_TEXT = auto()
    """A text that cannot be encoded, for example with half an emoji or bytes that are not UTF-8."""
    BAD_TYPE = auto()
    """Not an object, or another field is of the wrong type."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was quarantined."""

    name: str | None
    """Its name, as far as it can be shown."""
    reason: QuarantineReason
    field: str | None
    """The field that decided; ``None`` if the row is not an object."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """Which bundles are listed: one group, or one country. Exactly one of the two is set."""

    group: str | None = None
    country: str | None = None

    def __post_init__(self) -> None:
        if (self.group is None) == (self.country is None):
            raise ValueError("a scope names either a group or a country")

    def __str__(self) -> str:
        return self.group or self.country or ""


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One validated page of bundles."""

    number: int
    page_count: int | None
    """Pages of the scope; ``None`` if the supplier does not say."""
    rows: int | None
    """Rows of the scope; ``None`` if the supplier does not say."""
    bundles: Sequence[Bundle]
    rejected: Sequence[Rejected]

    @property
    def size(self) -> int:
        """Number of received rows, including quarantined ones."""
        return len(self.bundles) + len(self.rejected)


class Deadline:
    """A point in time after which nothing more is sent."""

    __slots__ = ("_at", "_clock", "paused_until")

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock() + seconds
        self.paused_until: float | None = None
        """Seconds since the epoch: the supplier requested a pause that is too long to wait for, so nothing more is
        sent. Callers with another deadline may try."""

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._at - self._clock())


@dataclasses.dataclass(slots=True)
class RequestCounts:
    """Requests on the wire since the client was created."""

    sent: int = 0
    repeated: int = 0
    """How many of them were retries."""


class Supplier(Protocol):
    """A supplier of bundles. All errors are :class:`catalog_sync.domain.errors.CatalogSyncError`, cause chained."""

    @property
    def counts(self) -> RequestCounts:
        """Requests sent so far."""
        ...

    async def list_groups(self, *, deadline: Deadline) -> list[str]:
        """The groups that the account can see, in the supplier's order.

        Raises :class:`catalog_sync.domain.errors.UnusableGroupsError`, which has the other groups, if some have no
        usable name.
        """
        ...

    def iter_pages(self, scope: Scope, *, deadline: Deadline) -> AsyncGenerator[Page, None]:
        """The pages of ``scope``, from the first to the last.

        Raises :class:`catalog_sync.domain.errors.CatalogueChangedError` if the catalogue changed while its pages were
        fetched: then the caller starts this scope again.
        """
        ...

    async def get_bundle(self, name: str, *, deadline: Deadline) -> Bundle:
        """One bundle. Raises ``NotFoundError`` if the supplier does not have it (any more)."""
        ...
