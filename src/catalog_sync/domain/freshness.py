"""How fresh a catalogue is: pure, the same for readers, health checks and the command line."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Self

from catalog_sync.domain.times import epoch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalog_sync.domain.models import CatalogueMeta, GroupMeta, Source


@dataclasses.dataclass(frozen=True, slots=True)
class Freshness:
    """The judgement."""

    source: Source
    as_of: str
    """When the data was fetched, RFC 3339."""
    age: float
    """Seconds since then, at least 0."""
    stale_groups: tuple[str, ...] = ()
    """Groups that a sync could not renew, sorted."""

    @property
    def stale(self) -> bool:
        """Whether readers should not take it for what the supplier sells today."""
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
        """Of data of ``meta`` that was read from ``source``: what is too old or partly stale is no longer "fresh".

        ``now`` in seconds since the epoch, ``stale_after`` in seconds. ``groups``: those that an answer is about, which
        is as old as the oldest of them; ``None``: all. ``stale_bundles``: whether the answer has some. Raises
        ``ValueError`` where a time cannot be read.
        """
        as_of = meta.as_of
        if groups:
            as_of = min((group.as_of for group in groups.values()), key=epoch)
        stale_groups = {name for name, group in (meta.groups if groups is None else groups).items() if group.stale}
        age = max(0.0, now - epoch(as_of))
        if source == "fresh" and (stale_bundles or stale_groups or age > stale_after):
            source = "stale"
        return cls(source, as_of, age, tuple(sorted(stale_groups)))
