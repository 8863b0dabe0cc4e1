"""Forks processes that publish one version after the other, and kills each with SIGKILL after a random time.

``python -m support.killed_writers URL DIRECTORY KILLS SIZE LIFE``: LIFE in seconds at most, two writers at a time.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path

from catalog_sync.domain.errors import LockLostError
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import LockHolder
from catalog_sync.store import CatalogStore, LockLease, StagingIncompleteError, open_store
from support.published import StoreSettings, make_bundle, make_meta, quick_policy

LEASE = 0.05


async def publish_for_ever(url: str, directory: Path, size: int) -> None:
    async with open_store(StoreSettings(directory, url), quick_policy(), lock_ttl=LEASE) as store:
        for number in itertools.count():
            lease = await store.acquire_lock("c" * 32)
            if isinstance(lease, LockHolder):
                await asyncio.sleep(0.002)
                continue
            try:
                async with lease.hold():
                    await publish_one(store, lease, f"v{lease.token}-{os.getpid()}-{number}", size)
            except (LockLostError, StagingIncompleteError):
                continue


async def publish_one(store: CatalogStore, lease: LockLease, version: str, size: int) -> None:
    staging = store.begin(version)
    index = CatalogueIndex()
    for start in range(0, size, 20):
        rows = [make_bundle(f"esim_{number}", description=version) for number in range(start, start + 20)]
        await staging.put([index.add(row) for row in rows])
    meta = make_meta(version, index, fence=lease.token)
    await staging.seal(index, meta)
    await store.commit(staging, meta, lease)


def fork_writer(url: str, directory: Path, size: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(publish_for_ever(url, directory, size))
        finally:
            os._exit(1)
    return pid


def main(url: str, directory: Path, kills: int, size: int, life: float) -> None:
    rng = random.Random(1)
    make_bundle("esim_0").to_json()  # what the first use loads would cost each writer half its life
    killed = 0
    running: list[tuple[float, int]] = []
    while killed < kills:
        while len(running) < min(2, kills - killed):
            dies_at = time.monotonic() + rng.uniform(life / 2, life)
            running.append((dies_at, fork_writer(url, directory, size)))
        running.sort()
        dies_at, pid = running.pop(0)
        time.sleep(max(0.0, dies_at - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed += os.WIFSIGNALED(status)
    for _, pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(f"killed={killed}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
