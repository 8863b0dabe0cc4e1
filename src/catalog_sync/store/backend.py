"""Which Redis holds the catalogue: the configured one, a private one, or one inside this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog_sync.domain.cancellation import finished
from catalog_sync.domain.errors import STORE
from catalog_sync.store.catalog_store import Backend, CatalogStore
from catalog_sync.store.client import SOCKET_TIMEOUT, GuardedRedis, connect_socket, connect_url
from catalog_sync.store.errors import PrivateRedisError
from catalog_sync.store.lock import LOCK_TTL, SyncLock
from catalog_sync.store.private import PrivateRedis
from otel_resilience import Policy, RetryConfig

if TYPE_CHECKING:
    import redis.asyncio as redis

    from catalog_sync.settings.settings import Settings

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Maximum seconds for closing the connections."""
_MAX_ATTEMPTS = 3


def redis_policy(settings: Settings) -> Policy:
    """The policy for Redis: it is close and answers in milliseconds, so it is retried sooner than a supplier, and
    readers have a snapshot to fall back on, so it is given up sooner."""
    attempt_timeout = min(settings.attempt_timeout, SOCKET_TIMEOUT, settings.breaker.monitoring_period / 2)
    attempts = min(settings.retry.max_attempts, _MAX_ATTEMPTS)
    return Policy(
        STORE,
        retry=RetryConfig(max_attempts=attempts, base_delay=0.05, max_delay=1.0, slow_base_delay=0.2),
        breaker=settings.breaker,
        attempt_timeout=attempt_timeout,
        deadline=3 * attempt_timeout,
    )


@contextlib.asynccontextmanager
async def open_store(
    settings: Settings,
    policy: Policy | None = None,
    *,
    instrument: Callable[[redis.Redis], None] | None = None,
    first_answer: float | None = None,
    lock_ttl: float = LOCK_TTL,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[CatalogStore]:
    """The store that the settings and the machine allow; see :attr:`CatalogStore.backend`.

    A configured server that does not answer is not an error here: the calls to it raise, within ``first_answer``
    seconds if given. ``instrument`` is called with the client before its first use. Raises :class:`ConfigurationError`
    if ``REDIS_URL`` is not usable.
    """
    guard = policy or redis_policy(settings)
    private = None if settings.redis_url else await _start_private(settings.state_dir, wall_clock)
    backend: Backend
    try:
        if settings.redis_url:
            client, backend = connect_url(settings.redis_url), "redis"
        elif private is not None:
            client, backend = connect_socket(private.socket_path), "private-redis"
        else:
            client, backend = _in_process(settings.state_dir), "in-process"
            log.warning("no Redis: the catalogue is kept in this process and in its snapshot")
        if instrument is not None:
            instrument(client)
        redis = GuardedRedis(client, guard, prefix=settings.key_prefix, first_answer=first_answer)
        try:
            lock = SyncLock(redis, ttl=lock_ttl, clock=clock, wall_clock=wall_clock, sleep=sleep)
            yield CatalogStore(redis, backend=backend, lock=lock)
        finally:
            await _close(redis)
    finally:
        if private is not None:
            await finished(asyncio.to_thread(private.stop))


async def _start_private(state_dir: Path, wall_clock: Callable[[], float]) -> PrivateRedis | None:
    program = shutil.which("redis-server")
    if program is None:
        return None
    private = PrivateRedis(state_dir / "redis", program, wall_clock=wall_clock)
    try:
        await finished(asyncio.to_thread(private.start))
    except asyncio.CancelledError:
        await asyncio.to_thread(private.stop)
        raise
    except (PrivateRedisError, OSError) as error:
        log.warning("a private redis-server could not be started: %s", error)
        return None
    return private


async def _close(redis: GuardedRedis) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await redis.aclose()
    except (OSError, TimeoutError) as error:
        log.debug("a connection to Redis did not close properly: %s", type(error).__name__)


_servers: dict[Path, Any] = {}


def _in_process(state_dir: Path) -> redis.Redis:
    """A client of a server inside this process; all with the same state directory share it."""
    import fakeredis  # takes 0.2 s, and most runs have a real server

    server = _servers.get(state_dir)
    if server is None:
        server = _servers[state_dir] = fakeredis.FakeServer()
    client: redis.Redis = fakeredis.FakeAsyncRedis(server=server)
    return client
