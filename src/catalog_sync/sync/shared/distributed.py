"""What the processes of a shared sync pass on to each other."""

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

    No process lives as long as the sync, so the lock belongs to the sync itself: every step that runs adopts the lease
    and extends it, and passes on the fencing token.
    """

    job: str
    """Its ID; also the receipt under which at most one version is published."""
    correlation_id: str
    since: str
    """When it was requested, RFC 3339: part of the identity of the lock's owner."""
    started_at: str
    """When its first step started, RFC 3339."""
    token: int | None = None
    """The fencing token that the first step got; ``None`` before."""
    attempt: str = ""
    """Distinguishes the versions staged by several attempts at the last step."""
    refused_by: LockHolder | None = None
    """Who held the lock when the first step tried to acquire it."""

    elapsed: float = 0.0
    """Seconds since its first step began, by the clock that all share, when this step was claimed."""
    record: Key | None = None
    """Key of the record whose status says whether the sync is active; only then is the lock granted."""

    @property
    def lock_owner(self) -> SharedOwner:
        """The owner of the lock, the same in every process."""
        return SharedOwner(f"job:{self.job}", self.since, self.record, self.job, self.token)

    def duration(self, now: datetime.datetime) -> float:
        """Seconds since it started, by the clocks of several machines: at least 0. For use outside of a step."""
        return max(0.0, (now - parse_rfc3339(self.started_at)).total_seconds())


async def adopt_lease(store: CatalogStore, sync: DistributedSync) -> LockLease | LockHolder:
    """The lease of the sync, taken over from the previous step. Before the first step: the lease, or who holds it.

    A lease that expired while no step was running is re-acquired if no other run has published meanwhile. Raises
    ``LockLostError`` if another run has taken the lock from the sync or has published since, and if the sync has ended.
    """
    lease = await store.lock.acquire(sync.correlation_id, shared=sync.lock_owner)
    if sync.token is not None and isinstance(lease, LockHolder):
        raise _held_by_another(sync, lease.owner)
    return lease


async def keep_lease(store: CatalogStore, sync: DistributedSync) -> None:
    """Extends the lease while no step runs. A free lock stays free: the next step acquires it, or learns why it cannot.

    Raises ``LockLostError`` if another run holds the lock.
    """
    if await store.lock.renew(sync.correlation_id, sync.lock_owner) == "lost":
        holder = await store.lock.holder()
        raise _held_by_another(sync, "another run" if holder is None else holder.owner)


def _held_by_another(sync: DistributedSync, owner: str) -> LockLostError:
    return LockLostError(
        f"the lease ran out between two steps of the sync; {owner} holds the lock now",
        context={"token": sync.token},
    )
