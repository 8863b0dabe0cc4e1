"""What the processes that share one sync hand along."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING

from catalog_sync.errors import LockLostError
from catalog_sync.models import LockHolder

if TYPE_CHECKING:
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.store.lock import LockLease


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """The identity of a sync whose steps run in several processes.

    No process lives as long as the sync, so the lock belongs to the sync itself: whichever step runs adopts the lease
    and extends it, and the fencing token travels in the ticket.
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
    """Tells the versions apart that several attempts at the last step stage."""
    refused_by: LockHolder | None = None
    """Who held the lock when the first step asked for it."""

    @property
    def owner(self) -> str:
        """The owner of the lock, the same in every process."""
        return f"job:{self.job}"

    def duration(self, now: datetime.datetime) -> float:
        """Seconds since it began. Several processes share nothing but the wall clock, which may jump: at least 0."""
        return max(0.0, (now - datetime.datetime.fromisoformat(self.started_at)).total_seconds())


async def adopt_lease(store: CatalogStore, ticket: Ticket) -> LockLease | LockHolder:
    """The lease of the sync, taken over from the step before. Before the first step: the lease, or who holds it.

    A lease that ran out while no step was running is taken anew where nobody has published meanwhile. Raises
    ``LockLostError`` where the sync owned the lock and another run owns it now, or has published since.
    """
    lease = await store.acquire_lock(ticket.correlation_id, owner=ticket.owner, since=ticket.since)
    if ticket.token is None:
        return lease
    if isinstance(lease, LockHolder):
        raise LockLostError(
            f"the lease ran out between two steps of the sync; {lease.owner} holds the lock now",
            context={"token": ticket.token},
        )
    if lease.token > ticket.token and await store.receipt(ticket.job) is None:
        highest = await store.highest_fence()
        if highest > ticket.token:
            await lease.release()
            raise LockLostError(
                f"the lease ran out between two steps of the sync, and another run has published (token {highest})",
                context={"token": ticket.token, "highest": highest},
            )
    return lease
