"""Catalogues for tests of the store and the reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import Bundle, CatalogueMeta, GroupMeta, SyncKind
from catalog_sync.settings.settings import Settings
from catalog_sync.store import CatalogStore, LockLease
from catalog_sync.store.staging import chunks, encode
from otel_resilience import Policy

AS_OF = "2026-11-24T02:00:00Z"


def store_settings(state_dir: Path, redis_url: str = "", **changes: Any) -> Settings:
    """The settings that the store reads."""
    settings = Settings.from_env({"CATALOG_STATE_DIR": str(state_dir), "REDIS_URL": redis_url})
    return settings.changed(attempt_timeout=5.0, **changes)


def quick_policy(attempt_timeout: float = 20.0) -> Policy:
    """One attempt, no breaker: faults appear immediately."""
    return Policy("redis", attempt_timeout=attempt_timeout)


def make_bundle(
    name: str,
    *,
    description: str = "",
    groups: tuple[str, ...] = ("Standard Fixed",),
    countries: tuple[str, ...] = ("PT",),
    region: str | None = "Europe",
    duration_days: int = 7,
    stale: bool = False,
) -> Bundle:
    return Bundle(
        name=name,
        description=description or f"eSIM {name}",
        groups=groups,
        countries=countries,
        region=region,
        data_mb=1000,
        unlimited=False,
        duration_days=duration_days,
        price="6.90",
        currency=None,
        speeds=("4G",),
        stale=stale,
    )


def make_meta(version: str, index: CatalogueIndex, *, fence: int = 1, as_of: str = AS_OF) -> CatalogueMeta:
    groups = {name: GroupMeta(bundles=count, as_of=as_of, stale=False) for name, count in index.group_counts().items()}
    return CatalogueMeta(
        version=version,
        as_of=as_of,
        bundles=len(index),
        names_sha256=index.names_sha256(),
        groups=groups,
        fence=fence,
        correlation_id="c" * 32,
        kind=SyncKind.FULL,
        last_full_sync=as_of,
    )


async def publish(
    store: CatalogStore,
    version: str,
    bundles: Iterable[Bundle],
    *,
    lease: LockLease | None = None,
    as_of: str = AS_OF,
) -> CatalogueMeta:
    """Stages, seals and commits, under ``lease`` or a new lease."""
    own = None if lease is not None else await lease_of(store)
    held = lease or own
    assert held is not None
    staging = store.begin(version)
    index = CatalogueIndex()
    await staging.put([index.add(bundle) for bundle in bundles])
    meta = make_meta(version, index, fence=held.token, as_of=as_of)
    await staging.seal(index, meta)
    await store.commit(staging, meta, held)
    if own is not None:
        await own.release()
    return meta


async def lines_of(bundles: Iterable[Bundle]) -> AsyncIterator[tuple[int, bytes]]:
    """The lines for writing a snapshot, as a store returns them."""
    for chunk in chunks(bundles, 1000):
        yield len(chunk), b"".join(encode(bundle) + b"\n" for bundle in chunk)


async def lease_of(store: CatalogStore, holder: str = "a" * 32, **options: Any) -> LockLease:
    """The sync lock, which must be free."""
    lease = await store.lock.acquire(holder, **options)
    assert isinstance(lease, LockLease)
    return lease
