"""Chaos: syncs and readers while workers, the API and Redis are killed at random. ``python tests/support/chaos.py``.

Every accepted sync must end, none may be published twice, and no reader may see half of one version or a mix of two.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

if __name__ == "__main__":  # as a program: the other helpers lie beside this one
    sys.path.insert(0, str(Path(__file__).parents[1]))

from catalog_sync.domain.errors import CacheConnectionError
from catalog_sync.store.errors import VersionGoneError
from support.api_process import TOKEN, ApiProcess
from support.redis_server import RedisServer, free_port
from support.worker_world import PERSISTENT, WorkerWorld, process_environment, running_supplier, worker_world

WORKERS = 3
READERS = 3
SETTLE = 120.0
"""Seconds that the last syncs get to end once nothing is killed any more."""
SOMEWHAT_SLOW = {"name": "slow", "rules": [{"fault": "latency", "delay_s": 0.15, "when": {"endpoint": "catalogue"}}]}


@dataclasses.dataclass
class Findings:
    """What happened."""

    kills: Counter[str] = dataclasses.field(default_factory=Counter)
    accepted: list[str] = dataclasses.field(default_factory=list)
    conflicts: int = 0
    refused: int = 0
    reads: int = 0
    reads_without_store: int = 0
    torn: list[str] = dataclasses.field(default_factory=list)
    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    lost: list[str] = dataclasses.field(default_factory=list)
    published_twice: list[str] = dataclasses.field(default_factory=list)
    unpublished: list[str] = dataclasses.field(default_factory=list)
    repeated_steps: int = 0
    dead_letters: int = 0
    seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """For people and for assertions."""
        return {
            **dataclasses.asdict(self),
            "kills": dict(self.kills),
            "outcomes": dict(self.outcomes),
            "accepted": len(self.accepted),
        }


class Chaos:
    """One run over a world. ``seed`` decides what is killed and when."""

    def __init__(self, world: WorkerWorld, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._port = free_port()
        self._api: ApiProcess
        self._done = asyncio.Event()
        self._digests: dict[str, str] = {}
        self.found = Findings()

    async def run(self, kills: int) -> Findings:
        """Kill so many times; then let everything settle and look."""
        began = time.monotonic()
        for _ in range(WORKERS):
            self._world.start_worker()
        await self._start_api()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ask_for_syncs())
            for _ in range(READERS):
                tasks.create_task(self._read())
            await asyncio.sleep(3)
            for _ in range(kills):
                await asyncio.sleep(self._random.uniform(0.2, 3.0))
                await self._kill_something()
            self._done.set()
        await self._look()
        await asyncio.to_thread(self._api.__exit__, None, None, None)
        self.found.seconds = round(time.monotonic() - began, 1)
        return self.found

    async def _start_api(self) -> None:
        env = {**process_environment(), **self._world.env}
        self._api = ApiProcess(self._world.directory, env, port=self._port)
        await asyncio.to_thread(self._api.__enter__)

    async def _kill_something(self) -> None:
        what = self._random.choices(["worker", "api", "redis"], [6, 2, 2])[0]
        self.found.kills[what] += 1
        if what == "worker":
            worker = self._random.choice([one for one in self._world.workers if one.process.poll() is None])
            await asyncio.to_thread(worker.kill)
            self._world.start_worker()
        elif what == "api":
            await asyncio.to_thread(self._api.kill)
            await self._start_api()
        else:
            await asyncio.to_thread(self._world.redis.kill)
            await asyncio.sleep(self._random.uniform(0, 1))
            await asyncio.to_thread(self._world.redis.start)
        for worker in list(self._world.workers):
            # What a process manager does with a worker that gave up while Redis was away.
            if worker.process.poll() is not None and worker.process.returncode != -9:
                self._world.workers.remove(worker)
                self._world.start_worker()

    async def _ask_for_syncs(self) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            while not self._done.is_set():
                try:
                    answer = await client.post(
                        f"http://127.0.0.1:{self._port}/syncs", json={"kind": "full"}, headers=headers
                    )
                except httpx.HTTPError:
                    self.found.refused += 1
                else:
                    if answer.status_code == 202:
                        self.found.accepted.append(answer.json()["id"])
                    elif answer.status_code == 409:
                        self.found.conflicts += 1
                    else:
                        self.found.refused += 1
                await asyncio.sleep(0.2)

    async def _read(self) -> None:
        while not self._done.is_set():
            try:
                await self._read_once()
            except CacheConnectionError:
                self.found.reads_without_store += 1
            except VersionGoneError as error:
                self.found.torn.append(str(error))
            await asyncio.sleep(0.02)

    async def _read_once(self) -> None:
        """All of one version: as many bundles and the names that its meta says, and the same as any time before."""
        store = self._world.store
        version = await store.current_version()
        if version is None:
            return
        meta = await store.meta(version)
        rows: dict[bytes, bytes] = {}
        async for page in store.iter_raw(version):
            rows.update(page)
        names = hashlib.sha256("".join(f"{name.decode()}\n" for name in sorted(rows)).encode()).hexdigest()
        content = hashlib.sha256(b"".join(rows[name] for name in sorted(rows))).hexdigest()
        self.found.reads += 1
        if len(rows) != meta.bundles or names != meta.names_sha256:
            self.found.torn.append(f"{version}: {len(rows)} bundles of {meta.bundles}")
        if self._digests.setdefault(version, content) != content:
            self.found.torn.append(f"{version} changed")

    async def _look(self) -> None:
        give_up = time.monotonic() + SETTLE
        jobs = {}
        for job_id in self.found.accepted:
            while True:
                with contextlib.suppress(CacheConnectionError):
                    jobs[job_id] = await self._world.jobs.get(job_id)
                    if jobs[job_id].status.ended or time.monotonic() > give_up:
                        break
                await asyncio.sleep(0.1)
        published: Counter[str] = Counter()
        with self._world.redis.client() as client:
            for key in client.scan_iter("{cat}:v:*:meta"):
                if client.hexists(key, "committed"):
                    published[key.decode().split(":")[2].rsplit("-", 1)[1].partition(".")[0]] += 1
        for job_id, job in jobs.items():
            times = published[job_id[:8]]
            self.found.outcomes[str(job.outcome)] += 1
            if not job.status.ended:
                self.found.lost.append(job_id)
            if times > 1:
                self.found.published_twice.append(job_id)
            if times == 0 and job.outcome in {"COMPLETE", "PARTIAL"}:
                self.found.unpublished.append(job_id)
            steps = await self._world.ledger.steps(job_id)
            self.found.repeated_steps += sum(max(0, state.starts - 1) for state in steps.values())
        self.found.dead_letters, _ = await self._world.ledger.dead_letters()


async def rampage(world: WorkerWorld, kills: int, seed: int) -> Findings:
    """A run in an opened world."""
    world.supplier.play(SOMEWHAT_SLOW)
    async with world.opened():
        return await Chaos(world, seed).run(kills)


def main() -> int:
    """A run of its own; the findings as JSON. 1 where something was lost, torn or published twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with (
            RedisServer(directory / "redis", *PERSISTENT) as redis,
            running_supplier(600) as supplier,
            worker_world(directory, redis, supplier) as world,
        ):
            found = asyncio.run(rampage(world, args.kills, args.seed))
            if found.lost or found.torn or found.published_twice or found.unpublished:
                print(world.logs(), file=sys.stderr)
    print(json.dumps(found.summary(), indent=2))
    return 1 if found.lost or found.torn or found.published_twice or found.unpublished else 0


if __name__ == "__main__":
    sys.exit(main())
