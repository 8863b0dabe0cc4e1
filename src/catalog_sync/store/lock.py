"""The sync lock: a lease with an owner and a fencing token.

The lock keeps two runs from working concurrently. The commit checks that no run publishes out of turn: the lock must
still hold the owner and the token of this run, and no higher token may have published. Extending a lease never acquires
the lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal, cast

from catalog_sync.domain.cancellation import finished
from catalog_sync.domain.errors import CatalogSyncError, LockLostError
from catalog_sync.domain.models import LockHolder
from catalog_sync.domain.times import rfc3339
from catalog_sync.store import scripts
from catalog_sync.store.client import GuardedRedis
from catalog_sync.store.errors import CorruptEntryError, StaleFenceError, SyncEndedError
from catalog_sync.store.keys import CURRENT, FENCE, FENCE_SEQ, LOCK, VERSION_PREFIX, Key, receipt_key
from catalog_sync.store.lease import LeaseHeartbeat

LOCK_TTL = 30.0
"""Seconds after which an abandoned lock is free again."""
RELEASE_TIMEOUT = 2.0
"""Maximum seconds for releasing the lock; after that it expires by itself."""
_RENEWAL_PAUSE = 0.5

log = logging.getLogger(__name__)

AsyncSleep = Callable[[float], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class SharedOwner:
    """The owner of a lock that several processes share, as the steps of a job do."""

    owner: str
    since: str
    """RFC 3339; part of the owner's identity."""
    record: Key | None = None
    """Key of the job's record: the lock is granted and extended only while its status is queued or running."""
    receipt: str = ""
    """The job publishes at most once under it; after that, a lost lock may be re-acquired to report that."""
    token: int | None = None
    """The token that the job had before; ``None`` before its first step."""

    def claim(self, correlation_id: str) -> str:
        """The content of the lock, up to the token."""
        return _claim(self.owner, self.since, correlation_id)


def _claim(owner: str, since: str, correlation_id: str) -> str:
    who = {"owner": owner, "since": since, "correlation_id": correlation_id}
    return json.dumps(who)[:-1] + ', "token": '


@dataclasses.dataclass(eq=False)
class SyncLock:
    """The single lock of the catalogue. ``ttl`` in seconds. Raises ``ValueError`` if that is not positive."""

    redis: GuardedRedis
    ttl: float = LOCK_TTL
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: AsyncSleep = asyncio.sleep

    def __post_init__(self) -> None:
        """Raises ``ValueError`` if ``ttl`` is not positive."""
        if not self.ttl > 0:
            raise ValueError(f"ttl must be positive, not {self.ttl!r}")

    @property
    def ttl_ms(self) -> int:
        """The lease in milliseconds."""
        return max(1, int(self.ttl * 1000))

    async def acquire(
        self, correlation_id: str, *, token_floor: int = 0, shared: SharedOwner | None = None
    ) -> LockLease | LockHolder:
        """Returns the lease, or who holds it. The token is higher than ``token_floor`` and every one known to Redis.

        Without ``shared`` the lease belongs to this call alone. Processes that name the same owner and the same
        correlation ID share one lease: each that asks extends it and gets its token.

        Raises :class:`LockLostError` if a shared owner must not have the lock any more, and
        :class:`CacheConnectionError` and its relatives if Redis cannot say.
        """
        claim = shared.claim(correlation_id) if shared else self._own_claim(correlation_id)
        record = shared.record if shared else None
        keys = [LOCK, FENCE_SEQ, FENCE, CURRENT]
        if shared is not None and record is not None:
            keys += [record, receipt_key(shared.receipt)]
        resumed = "" if shared is None or shared.token is None else str(shared.token)
        asked_at = self.clock()
        try:
            answer = await self.redis.script(
                "acquire lock",
                scripts.LOCK_ACQUIRE,
                keys=keys,
                args=[claim, self.ttl_ms, token_floor, VERSION_PREFIX, resumed],
            )
        except asyncio.CancelledError:
            if shared is None:
                await self._withdraw(claim)
            raise
        word, *details = answer
        if word == b"ok":
            return LockLease(self, claim, int(details[0]), asked_at, record=record)
        if word == b"busy":
            return _holder(details[0], int(details[1]))
        reason = bytes(details[0]).decode()
        if word == b"ended":
            raise SyncEndedError(f"the sync is {reason}: its steps no longer get the lock", context={"status": reason})
        raise StaleFenceError(
            f"the lease ran out between two steps of the sync, and another run has published (token {reason})",
            context={"highest": int(reason)},
        )

    async def renew(self, correlation_id: str, shared: SharedOwner) -> Literal["ok", "free", "lost", "ended"]:
        """Extends the lease of ``shared`` if it holds the lock and its job is active; otherwise changes nothing.

        ``free``: no run holds the lock; ``lost``: another run does; ``ended``: the job has ended.
        """
        return await self.extend(shared.claim(correlation_id), shared.record)

    async def extend(
        self, claim: str, record: Key | None, *, deadline: float | None = None
    ) -> Literal["ok", "free", "lost", "ended"]:
        """See :meth:`renew`; ``deadline`` in seconds."""
        keys = [LOCK] if record is None else [LOCK, record]
        answer = await self.redis.script(
            "renew lock", scripts.LOCK_RENEW, keys=keys, args=[claim, self.ttl_ms], deadline=deadline
        )
        return cast("Literal['ok', 'free', 'lost', 'ended']", bytes(answer).decode())

    def _own_claim(self, correlation_id: str) -> str:
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        return _claim(owner, rfc3339(self.wall_clock()), correlation_id)

    async def _withdraw(self, claim: str) -> None:
        """Releases what a cancelled request may have acquired."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self.redis.script("release lock", scripts.LOCK_RELEASE, keys=[LOCK], args=[claim])
        except (CatalogSyncError, TimeoutError) as error:
            log.warning("a cancelled request for the sync lock is left to expire: %s", error)

    async def holder(self) -> LockHolder | None:
        """Who holds the lock now."""
        value, ttl_ms = await self.redis.read_many("read lock", [("GET", LOCK), ("PTTL", LOCK)])
        return None if value is None else _holder(value, int(ttl_ms))


def lock_lost(token: int) -> LockLostError:
    """The error of a run whose lease is lost."""
    return LockLostError(
        "the lease of the sync lock was lost; another run may hold the lock now", context={"token": token}
    )


def _holder(value: bytes, ttl_ms: int) -> LockHolder:
    try:
        data = json.loads(value)
        shown = {name: data[name] for name in ("owner", "since", "correlation_id")}
        return LockHolder.from_json({**shown, "ttl_s": max(0, ttl_ms) / 1000})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptEntryError(
            f"the sync lock, {LOCK}, holds something that this program did not write; delete the key to go on"
        ) from error


class LockLease:
    """A held lock. Use :meth:`hold` around the work."""

    def __init__(self, lock: SyncLock, claim: str, token: int, leased_at: float, *, record: Key | None = None) -> None:
        self._lock = lock
        self._record = record
        self._leased_at = leased_at
        self.owner: str = json.loads(f"{claim}{token}}}")["owner"]
        self.claim = claim
        """The content of the lock, up to the token; the commit compares it."""
        self.token = token
        """The fencing token, for the commit."""
        self.lost = False
        """Whether another run may own the lock by now."""

    @contextlib.asynccontextmanager
    async def hold(self, *, release: bool = True) -> AsyncIterator[LockLease]:
        """``async with lease.hold():`` renews the lease in the background and releases the lock at the end.

        Without ``release`` the lock is kept for others who share it. When the lease is lost, the body is cancelled and
        :class:`LockLostError` raised.
        """
        try:
            async with LeaseHeartbeat(self._keep_until_lost, name="sync lock renewal"):
                yield self
        finally:
            if release:
                await finished(self._give_back())

    async def renew(self, *, deadline: float | None = None) -> bool:
        """Renews the lease; ``False`` if it is not ours any more."""
        asked_at = self._lock.clock()
        extended = await self._lock.extend(self.claim, self._record, deadline=deadline) == "ok"
        if extended:
            self._leased_at = asked_at
        return extended

    async def confirm(self) -> None:
        """Renews the lease. Raises :class:`LockLostError` if it is not ours any more."""
        if not await self.renew():
            raise lock_lost(self.token)

    async def release(self, *, deadline: float | None = None) -> bool:
        """Releases the lock; ``False``, and no effect, if it was not ours any more."""
        answer = await self._lock.redis.script(
            "release lock", scripts.LOCK_RELEASE, keys=[LOCK], args=[self.claim], deadline=deadline
        )
        return bool(answer == 1)

    def remaining(self) -> float:
        """Seconds until the lease ends, at least 0."""
        return max(0.0, self._leased_at + self._lock.ttl - self._lock.clock())

    async def keep(self) -> None:
        """Renews every third of the lease until it is lost; then returns. After an error of Redis it tries again."""
        await self._lock.sleep(self._lock.ttl / 3)
        while (left := self.remaining()) > 0:
            try:
                if not await self.renew(deadline=left):
                    return
                pause = self._lock.ttl / 3
            except CatalogSyncError as error:
                log.warning(
                    "the lease of the sync lock could not be renewed (%s); %.1f s are left", error, self.remaining()
                )
                pause = min(_RENEWAL_PAUSE, self.remaining())
            await self._lock.sleep(pause)

    async def _keep_until_lost(self) -> LockLostError:
        try:
            await self.keep()
        except Exception as error:  # noqa: BLE001  # whatever ended the renewal, the lease is not safe any more
            log.error("the renewal of the sync lock ended: %s", type(error).__name__)
        self.lost = True
        return lock_lost(self.token)

    async def _give_back(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                released = await self.release(deadline=RELEASE_TIMEOUT)
        except (CatalogSyncError, TimeoutError) as error:
            log.warning(
                "the sync lock could not be released (%s); it expires in at most %.0f s",
                type(error).__name__,
                self.remaining(),
            )
        else:
            if not released and not self.lost:
                log.warning("the sync lock was held by another run when it was to be released")
