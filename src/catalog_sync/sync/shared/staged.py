"""A sync in parts: what one process fetches and stages, and another makes a version of.

The last step runs the same functions as a sync in one process. Only its supplier differs: it returns what the parts
have staged, and raises the errors that they met.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from catalog_sync.domain.errors import CatalogSyncError, UnusableGroupsError
from catalog_sync.store.checksums import Total
from catalog_sync.store.errors import StagingIncompleteError
from catalog_sync.supplier.port import Page, QuarantineReason, Rejected, RequestCounts, Scope
from catalog_sync.sync.builder import chunked
from catalog_sync.sync.fetch import fetch_scope
from catalog_sync.sync.run import FATAL, Fetch
from catalog_sync.sync.shared.failures import error_from_json, error_to_json

if TYPE_CHECKING:
    from catalog_sync.domain.models import Bundle
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.store.staging import Staging
    from catalog_sync.supplier.port import Deadline, Supplier


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """The result of one step of a sync: of the plan, or of fetching one scope."""

    version: str | None = None
    """The version under which its bundles are staged."""
    bundles: int = 0
    checksum: str | None = None
    """The checksum of those bundles; ``None`` if they were staged by a release without checksums."""
    groups: tuple[str, ...] = ()
    """For the plan: the groups that the supplier lists; if its error is about some of them, the others."""
    rejected: tuple[Rejected, ...] = ()
    sent: int = 0
    """Requests sent to the supplier."""
    repeated: int = 0
    error: CatalogSyncError | None = None

    @property
    def fatal(self) -> bool:
        """Whether its error ends the whole sync."""
        return isinstance(self.error, FATAL)

    def to_json(self) -> dict[str, Any]:
        """The form in which it is passed to the last step."""
        return {
            "version": self.version,
            "bundles": self.bundles,
            "checksum": self.checksum,
            "groups": list(self.groups),
            "rejected": [[row.name, row.reason.value, row.field] for row in self.rejected],
            "sent": self.sent,
            "repeated": self.repeated,
            "error": None if self.error is None else error_to_json(self.error),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        """The inverse of :meth:`to_json`. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on anything else."""
        return cls(
            version=data["version"],
            bundles=data["bundles"],
            checksum=data.get("checksum"),
            groups=tuple(data["groups"]),
            rejected=tuple(Rejected(name, QuarantineReason(reason), field) for name, reason, field in data["rejected"]),
            sent=data["sent"],
            repeated=data["repeated"],
            error=None if data["error"] is None else error_from_json(data["error"]),
        )


async def fetch_part(fetch: Fetch, scope: Scope, staging: Staging) -> Part:
    """Fetches a scope and stages its rows unchanged, for the last step to merge. Raises ``CatalogSyncError``."""
    names: set[str] = set()
    withdrawn: set[str] = set()

    async def put(bundles: Sequence[Bundle]) -> int:
        before = len(names)
        names.update(bundle.name for bundle in bundles)
        await staging.put(bundles)
        return len(names) - before

    def start_again() -> None:
        withdrawn.update(names)
        names.clear()

    tally = await fetch_scope(fetch, scope, put, start_again)
    await staging.remove(sorted(withdrawn - names))
    return Part(version=staging.version, bundles=len(names), checksum=staging.total(), rejected=tuple(tally.rejected))


async def fetch_bundle_part(supplier: Supplier, name: str, deadline: Deadline, staging: Staging) -> Part:
    """Fetches and stages one bundle. Raises ``CatalogSyncError``, also if the supplier does not have it."""
    await staging.put([await supplier.get_bundle(name, deadline=deadline)])
    return Part(version=staging.version, bundles=1, checksum=staging.total())


@dataclasses.dataclass(eq=False)
class StagedSupplier:
    """The supplier of the last step: it repeats what the supplier answered to the processes that made the parts."""

    store: CatalogStore
    plan: Part
    parts: Mapping[str, Part]
    ended_by: CatalogSyncError | None = None
    counts: RequestCounts = dataclasses.field(default_factory=RequestCounts)
    """Zero before the first call, then the requests of all parts."""
    _counted: bool = False

    async def list_groups(self, *, deadline: Deadline) -> list[str]:
        """The groups of the plan, or its error."""
        del deadline
        self._begin()
        if isinstance(self.plan.error, UnusableGroupsError):
            self.plan.error.usable = self.plan.groups
        if self.plan.error is not None:
            raise self.plan.error
        return list(self.plan.groups)

    async def iter_pages(self, scope: Scope, *, deadline: Deadline) -> AsyncGenerator[Page, None]:
        """The rows of the part, or its error."""
        del deadline
        self._begin()
        part = self._part(str(scope))
        total = Total()
        bundles = self.store.iter_bundles(part.version or "", total)
        number = found = 0
        async for chunk in chunked(bundles):
            number += 1
            found += len(chunk)
            yield Page(number, None, None, chunk, part.rejected if number == 1 else ())
        if found != part.bundles:
            raise StagingIncompleteError(
                f"{part.bundles} bundles of {scope} were staged, {found} are still there",
                context={"scope": str(scope), "expected": part.bundles, "staged": found},
            )
        self._check(part, total, str(scope))
        if not number:
            yield Page(1, None, None, (), part.rejected)

    async def get_bundle(self, name: str, *, deadline: Deadline) -> Bundle:
        """The bundle of the part, or its error."""
        del deadline
        self._begin()
        part = self._part(name)
        total = Total()
        found = [bundle async for bundle in self.store.iter_bundles(part.version or "", total)]
        if [bundle.name for bundle in found] != [name]:
            raise StagingIncompleteError(f"bundle {name!r} was staged and is not there any more")
        self._check(part, total, name)
        return found[0]

    @staticmethod
    def _check(part: Part, total: Total, scope: str) -> None:
        if part.checksum not in {None, str(total)}:
            raise StagingIncompleteError(f"what was staged for {scope} is not as it was", context={"scope": scope})

    def _begin(self) -> None:
        if not self._counted:
            self._counted = True
            everything = (self.plan, *self.parts.values())
            self.counts.sent = sum(part.sent for part in everything)
            self.counts.repeated = sum(part.repeated for part in everything)
        if self.ended_by is not None:
            raise self.ended_by

    def _part(self, scope: str) -> Part:
        part = self.parts.get(scope)
        if part is None:
            raise StagingIncompleteError(f"nothing was staged for {scope}", context={"scope": scope})
        if part.error is not None:
            raise part.error
        return part
