"""How fresh a catalogue is: pure, the same for readers, health checks and the command line."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final, Self

from catalog_sync.domain.times import epoch

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    from catalog_sync.domain.models import CatalogueMeta, GroupMeta, Source

TOLERATED_SKEW: Final = 30.0
"""Seconds by which another machine's clock may be ahead. Data from further in the future has no known age."""


def from_future(as_of: str, now: float) -> bool:
    """Whether data claims to have been fetched in the future: a clock is or was wrong.

    ``as_of`` is RFC 3339, ``now`` in seconds since the epoch.
    """
    return epoch(as_of) - now > TOLERATED_SKEW


def age_of(as_of: str, now: datetime.datetime) -> float | None:
    """Seconds at ``now`` since data was fetched, at least 0; ``None`` if it is :func:`from_future`."""
    seconds = now.timestamp()
    return None if from_future(as_of, seconds) else max(0.0, seconds - epoch(as_of))


@dataclasses.dataclass(frozen=True, slots=True)
class Freshness:
    """The verdict on the freshness of data."""

    source: Source
    as_of: str
    """When the data was fetched, RFC 3339."""
    age: float
    """Seconds since then, at least 0; also 0 if it is :attr:`from_future`."""
    stale_groups: tuple[str, ...] = ()
    """Groups that a sync could not renew, sorted."""
    from_future: bool = False
    """Whether ``as_of`` is in the future, so that the age is unknown."""

    @property
    def problem(self) -> str | None:
        """What is wrong with ``as_of``, for people; ``None`` if nothing is."""
        if not self.from_future:
            return None
        return f"as_of {self.as_of} is in the future: the clock of the machine that published it, or ours, is wrong"

    def older_than(self, max_age: float) -> bool:
        """Whether the data is older than ``max_age`` seconds, or its age is unknown."""
        return (math.inf if self.from_future else self.age) > max_age

    @property
    def stale(self) -> bool:
        """Whether readers should not assume that it is what the supplier sells today."""
        return self.source != "fresh"

    @classmethod
    def of(
        cls,
        meta: CatalogueMeta,
        source: Source,
        *,
        now: float,
        stale_after: float,
        groups: Mapping[str, GroupMeta] | None = None,
        stale_bundles: bool = False,
    ) -> Self:
        """The freshness of data with ``meta`` that was read from ``source``: data that is too old, from the future or
        partly stale is not "fresh".

        ``now`` in seconds since the epoch, ``stale_after`` in seconds. ``groups``: those that the answer covers, which
        is as old as the oldest of them; ``None``: all. ``stale_bundles``: whether the answer contains any. Raises
        ``ValueError`` if a time cannot be parsed.
        """
        times = [group.as_of for group in groups.values()] if groups else [meta.as_of]
        as_of = min(times, key=epoch)
        latest = max(times, key=epoch)
        future = from_future(latest, now)
        if future:
            as_of = latest
        stale_groups = {name for name, group in (meta.groups if groups is None else groups).items() if group.stale}
        age = max(0.0, now - epoch(as_of))
        if source == "fresh" and (stale_bundles or stale_groups or future or age > stale_after):
            source = "stale"
        return cls(source, as_of, age, tuple(sorted(stale_groups)), future)
