"""What the processes that share one sync hand along."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING

from catalog_sync.domain.errors import LockLostError
from catalog_sync.domain.models import LockHolder
from catalog_sync.domain.times import parse_rfc3339
from catalog_sync.store.keys import Key
from catalog_sync.store.lock import SharedOwner

if TYPE_CHECKING:
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.store.lock import LockLease


@dataclasses.dataclass(frozen=True, slots=True)
class DistributedSync:
    """The identity of a sync whose steps run in several processes.

    No process lives as long as the sync, so the lock belongs to the sync itself: whichever step runs adopts the lease
    and extends it, and the fencing token travels with it.
    """

    job: str
    """Its ID; also the receipt under which one version at most is published."""
    correlation_id: str
    since: str
    """When it was asked for, RFC 3339: a part of the identity of the lock's owner."""
    started_at: str
    """When its first step began, RFC 3339."""
    token: int | None = None
    """The fencing token that the first step got; ``None`` before it has one."""
    attempt: str = ""
    """Distinguishes the versions that several attempts at the last step stage."""
    refused_by: LockHolder | None = None
    """Who held the lock when the first step asked for it."""

    elapsed: float = 0.0
    """Seconds since its first step began, by the clock that all share, when this step was claimed."""
    record: Key | None = None
    """Key of the record whose status says whether the sync is under way; the lock is given to no other."""

    @property
    def lock_owner(self) -> SharedOwner:
        """The owner of the lock, the same in every process."""
        return SharedOwner(f"job:{self.job}", self.since, self.record, self.job, self.token)

    def duration(self, now: datetime.datetime) -> float:
        """Seconds since it began, by the clocks of several machines: at least 0. For where there is no step."""
        return max(0.0, (now - parse_rfc3339(self.started_at)).total_seconds())


async def adopt_lease(store: CatalogStore, sync: DistributedSync) -> LockLease | LockHolder:
    """The lease of the sync, taken over from the step before. Before the first step: the lease, or who holds it.

    A lease that ran out while no step was running is taken anew where no other run has published meanwhile. Raises
    ``LockLostError`` where the sync owned the lock and another run owns it now, or has published since, and where the
    sync is over.
    """
    lease = await store.lock.acquire(sync.correlation_id, shared=sync.lock_owner)
    if sync.token is not None and isinstance(lease, LockHolder):
        raise _held_by_another(sync, lease.owner)
    return lease


async def keep_lease(store: CatalogStore, sync: DistributedSync) -> None:
    """Extend the lease while no step runs. A lock that is free stays free: the next step takes it, or learns why not.

    Raises ``LockLostError`` where another run holds the lock.
    """
    if await store.lock.renew(sync.correlation_id, sync.lock_owner) == "lost":
        holder = await store.lock.holder()
        raise _held_by_another(sync, "another run" if holder is None else holder.owner)


def _held_by_another(sync: DistributedSync, owner: str) -> LockLostError:
    return LockLostError(
        f"the lease ran out between two steps of the sync; {owner} holds the lock now",
        context={"token": sync.token},
    )
