"""Forks processes that publish one version after the other, and kills each with SIGKILL after a random time.

``python -m support.killed_writers URL DIRECTORY KILLS SIZE LIFE``: LIFE in seconds at most, from the first part that a
writer has staged; two writers at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from catalog_sync.domain.errors import LockLostError
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import LockHolder
from catalog_sync.store import CatalogStore, LockLease, StagingIncompleteError, open_store
from support.published import make_bundle, make_meta, quick_policy, store_settings

LEASE = 0.1


async def publish_for_ever(url: str, directory: Path, size: int, sign: Callable[[], object]) -> None:
    async with open_store(store_settings(directory, url), quick_policy(), lock_ttl=LEASE) as store:
        for number in itertools.count():
            lease = await store.lock.acquire("c" * 32)
            if isinstance(lease, LockHolder):
                await asyncio.sleep(0.002)
                continue
            try:
                async with lease.hold():
                    await publish_one(store, lease, f"v{lease.token}-{os.getpid()}-{number}", size, sign)
            except (LockLostError, StagingIncompleteError):
                continue


async def publish_one(
    store: CatalogStore, lease: LockLease, version: str, size: int, sign: Callable[[], object]
) -> None:
    staging = store.begin(version)
    index = CatalogueIndex()
    for start in range(0, size, 20):
        rows = [make_bundle(f"esim_{number}", description=version) for number in range(start, start + 20)]
        await staging.put([index.add(row) for row in rows])
        sign()
    meta = make_meta(version, index, fence=lease.token)
    await staging.seal(index, meta)
    await store.commit(staging, meta, lease)


def fork_writer(url: str, directory: Path, size: int) -> tuple[int, int]:
    """The process, and a descriptor that becomes readable once it has staged something."""
    staged, sign = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.set_blocking(sign, False)  # it is read once, and written all the time
            asyncio.run(publish_for_ever(url, directory, size, lambda: _write(sign)))
        finally:
            os._exit(1)
    os.close(sign)
    return pid, staged


def _write(sign: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.write(sign, b"!")


GIVEN_UP_AFTER = 30.0
"""Seconds."""


def main(url: str, directory: Path, kills: int, size: int, life: float) -> None:
    rng = random.Random(1)
    make_bundle("esim_0").to_json()  # what the first use loads would cost each writer half its life
    killed = 0
    running: list[tuple[int, int]] = []
    while killed < kills:
        while len(running) < min(2, kills - killed):
            running.append(fork_writer(url, directory, size))
        pid, staged = running.pop(0)
        select.select([staged], [], [], GIVEN_UP_AFTER)
        os.close(staged)
        time.sleep(rng.uniform(0, life))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed += os.WIFSIGNALED(status)
    for pid, _ in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(f"killed={killed}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
