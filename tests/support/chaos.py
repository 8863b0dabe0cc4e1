"""Chaos: syncs and readers while everything around them fails at random. ``python tests/support/chaos.py``.

Every accepted sync must end, none may be published twice, no reader may see half a version, a mix of two or a bundle
that the supplier does not have, and a second installation on the same Redis must stay unchanged. At the end, a killed
worker's step must be started again within its lease and five seconds. The speed of the machine is measured first, and
events and limits are scaled by it. Before Redis itself loses data (everything is deleted, an older replica is promoted)
the state is checked; a sync that was running then may be forgotten, and the next one repairs that.
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
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

if __name__ == "__main__":  # run as a program: the other helpers are next to this file
    sys.path.insert(0, str(Path(__file__).parents[1]))

from catalog_sync.domain.errors import CacheConnectionError, CatalogSyncError
from catalog_sync.domain.models import SyncKind, SyncRequest
from catalog_sync.jobs.keys import JobKeys
from catalog_sync.jobs.port import Job, JobNotFoundError
from catalog_sync.jobs.records import step_of
from catalog_sync.store.errors import VersionGoneError
from support.api_process import TOKEN, ApiProcess
from support.loopback_proxy import LoopbackProxy
from support.redis_server import RedisServer, free_port
from support.trouble import FAKETIME, Clock, Neighbour, fail_over, full_disk
from support.worker_world import PERSISTENT, WorkerWorld, process_environment, running_supplier, worker_world

WORKERS = 3
READERS = 3
SETTLE = 120.0
"""Seconds that the last syncs get to end once nothing is killed any more, on an idle machine."""
QUIET = 2.5
"""Seconds that a sync takes there. If it takes longer, events are further apart and all limits are longer."""
SLOWEST = 20.0
"""The factor by which a machine may be slower at most."""
NOTICED = 5.0
"""Seconds after the lease of a killed worker within which its work must be started again."""
SOMEWHAT_SLOW = {"name": "slow", "rules": [{"fault": "latency", "delay_s": 0.15, "when": {"endpoint": "catalogue"}}]}


VERY_SLOW = {"name": "slow", "rules": [{"fault": "latency", "delay_s": 1.5, "when": {"endpoint": "catalogue"}}]}
KILLS = {"worker": 6, "api": 2, "redis": 2}
"""Processes to kill, with their relative frequency."""
EVENTS = {**KILLS, "clock": 2, "disk": 2, "proxy": 2, "flushall": 1, "failover": 1}
"""All events, with their relative frequency."""
JUMPS = (-86_400, -3_600, -60, 0, 60, 3_600, 86_400)
"""Seconds by which the clocks of workers and API may be wrong."""


@dataclasses.dataclass
class Findings:
    """What happened."""

    events: Counter[str] = dataclasses.field(default_factory=Counter)
    accepted: dict[str, float] = dataclasses.field(default_factory=dict)
    """The time of the request of each job."""
    conflicts: int = 0
    refused: int = 0
    reads: int = 0
    reads_without_store: int = 0
    torn: list[str] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)
    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    lost: list[str] = dataclasses.field(default_factory=list)
    forgotten: int = 0
    """Jobs lost by Redis before they were seen to end: everything was deleted, or an older replica was promoted."""
    published_twice: list[str] = dataclasses.field(default_factory=list)
    unpublished: list[str] = dataclasses.field(default_factory=list)
    neighbour: list[str] = dataclasses.field(default_factory=list)
    """Keys of the second installation that changed."""
    late: list[str] = dataclasses.field(default_factory=list)
    """Steps of killed workers that were started again too late."""
    takeover: float | None = None
    """Seconds from the death of a worker until another one started its step again."""
    slowness: float = 1.0
    """Duration of a sync relative to an idle machine."""
    repeated_steps: int = 0
    dead_letters: int = 0
    seconds: float = 0.0

    @property
    def faults(self) -> dict[str, list[str]]:
        """The findings that must be empty, if they are not."""
        names = ("lost", "torn", "wrong", "published_twice", "unpublished", "neighbour", "late")
        return {name: found for name in names if (found := getattr(self, name))}

    def summary(self) -> dict[str, Any]:
        """The findings for a person to read."""
        shown = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**shown, "accepted": len(self.accepted)}


class Chaos:
    """One run in a world. ``seed`` decides what happens and when; ``events``: possible ones, with their frequency."""

    def __init__(
        self,
        world: WorkerWorld,
        seed: int,
        *,
        events: Mapping[str, float] = KILLS,
        clock: Clock | None = None,
        proxy: LoopbackProxy | None = None,
        neighbour: Neighbour | None = None,
    ) -> None:
        self._world = world
        self._events = dict(events)
        self._clock = clock
        self._proxy = proxy
        self._neighbour = neighbour
        self._random = random.Random(seed)
        self._port = free_port()
        self._api: ApiProcess
        self._done = asyncio.Event()
        self._truth: dict[bytes, bytes] = {}
        self._digests: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._judged: set[str] = set()
        """Jobs that were seen to end."""
        self._forgot = 0.0
        """When Redis lost something, last."""
        self._forgetting = False
        self.found = Findings()

    async def run(self, number: int, within: float) -> Findings:
        """Causes ``number`` events, none starting after ``within`` seconds; then lets everything settle and checks."""
        began = time.monotonic()
        for _ in range(WORKERS):
            self._world.start_worker()
        await self._start_api()
        self._truth = await self._complete_sync()
        asked = time.monotonic()
        await self._complete_sync()
        self.found.slowness = round(min(max((time.monotonic() - asked) / QUIET, 1.0), SLOWEST), 1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ask_for_syncs())
            for _ in range(READERS):
                tasks.create_task(self._read())
            await asyncio.sleep(3)
            first = time.monotonic()
            for _ in range(number):
                await asyncio.sleep(self._random.uniform(0.2, 3.0) * self.found.slowness)
                if time.monotonic() - first > within:
                    break
                await self._let_something_happen()
            self._done.set()
        await self._look()
        if await self._complete_sync() != self._truth:
            self.found.wrong.append("the last version")
        await self._measure_takeover()
        self._look_at_neighbour()
        await asyncio.to_thread(self._api.__exit__, None, None, None)
        self.found.seconds = round(time.monotonic() - began, 1)
        return self.found

    async def _start_api(self) -> None:
        env = {**process_environment(), **self._world.env}
        self._api = ApiProcess(self._world.directory, env, port=self._port)
        await asyncio.to_thread(self._api.__enter__)

    async def _let_something_happen(self) -> None:
        self._replace_ended_workers()
        what = self._random.choices([*self._events], [*self._events.values()])[0]
        self.found.events[what] += 1
        await {
            "worker": self._kill_worker,
            "api": self._kill_api,
            "redis": self._kill_redis,
            "clock": self._jump,
            "disk": self._fill_disk,
            "proxy": self._cut_proxy,
            "flushall": self._delete_everything,
            "failover": self._fail_over,
        }[what]()
        self._replace_ended_workers()

    def _replace_ended_workers(self) -> None:
        """Replaces workers that gave up while Redis was away, as a process manager does."""
        for worker in list(self._world.workers):
            if worker.process.poll() is not None and worker.process.returncode != -9:
                self._world.workers.remove(worker)
                self._world.start_worker()

    async def _kill_worker(self) -> None:
        worker = self._random.choice([one for one in self._world.workers if one.process.poll() is None])
        await asyncio.to_thread(worker.kill)
        self._world.start_worker()

    async def _kill_api(self) -> None:
        await asyncio.to_thread(self._api.kill)
        await self._start_api()

    async def _kill_redis(self) -> None:
        await asyncio.to_thread(self._world.redis.kill)
        await asyncio.sleep(self._random.uniform(0, 1))
        await asyncio.to_thread(self._world.redis.start)

    async def _jump(self) -> None:
        if self._clock is not None:
            self._clock.jump(self._random.choice(JUMPS))

    async def _fill_disk(self) -> None:
        living = [worker for worker in self._world.workers if worker.process.poll() is None]
        pids = [pid for worker in living for pid in (worker.process.pid, *worker.children)]
        with full_disk([*pids, self._api.process.pid]):
            await asyncio.sleep(self._random.uniform(0.5, 4))

    async def _cut_proxy(self) -> None:
        if self._proxy is not None:
            with self._proxy.cut():
                await asyncio.sleep(self._random.uniform(0, 2))

    async def _delete_everything(self) -> None:
        self._look_at_neighbour()
        await self._judge_ended()
        with self._redis_forgets():
            await asyncio.to_thread(self._world.redis.command, "FLUSHALL")
            if self._neighbour is not None:
                self._neighbour.restore()

    async def _fail_over(self) -> None:
        directory = self._world.directory / f"replica-{self.found.events['failover']}"
        await self._judge_ended()
        with self._redis_forgets():
            lag = self._random.uniform(0, 2)
            await asyncio.to_thread(fail_over, self._world.redis, directory, lag=lag)
        self._look_at_neighbour()

    @contextlib.contextmanager
    def _redis_forgets(self) -> Iterator[None]:
        self._forgetting = True
        try:
            yield
        finally:
            self._forgetting = False
            self._forgot = time.monotonic()

    def _look_at_neighbour(self) -> None:
        if self._neighbour is not None:
            self.found.neighbour += self._neighbour.damage()

    async def _ask_for_syncs(self) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            while not self._done.is_set():
                asked = time.monotonic()
                try:
                    answer = await client.post(
                        f"http://127.0.0.1:{self._port}/syncs", json={"kind": "full"}, headers=headers
                    )
                except httpx.HTTPError:
                    self.found.refused += 1
                else:
                    if answer.status_code == 202:
                        self.found.accepted[answer.json()["id"]] = asked
                    elif answer.status_code == 409:
                        self.found.conflicts += 1
                    else:
                        self.found.refused += 1
                await asyncio.sleep(0.2)

    async def _read(self) -> None:
        while not self._done.is_set():
            began = time.monotonic()
            try:
                await self._read_once()
            except CacheConnectionError:
                self.found.reads_without_store += 1
            except VersionGoneError as error:
                self._torn(began, str(error))
            await asyncio.sleep(0.02)

    def _torn(self, began: float, what: str) -> None:
        """Notes a torn read, unless Redis lost data meanwhile."""
        if not self._forgetting and began > self._forgot:
            self.found.torn.append(what)

    async def _read_once(self) -> None:
        """Reads all of one version: it must match its metadata, and every earlier read of it."""
        began = time.monotonic()
        store = self._world.store
        version = await store.current_version()
        if version is None:
            return
        meta = await store.meta(version)
        rows = await self._rows(version)
        names = hashlib.sha256("".join(f"{name.decode()}\n" for name in sorted(rows)).encode()).hexdigest()
        content = hashlib.sha256(b"".join(rows[name] for name in sorted(rows))).hexdigest()
        self.found.reads += 1
        if len(rows) != meta.bundles or names != meta.names_sha256:
            self._torn(began, f"{version}: {len(rows)} bundles of {meta.bundles}")
            return
        if self._digests.setdefault(version, content) != content:
            self.found.torn.append(f"{version} changed")
        self._sizes[version] = len(rows)
        others = [name.decode() for name, row in rows.items() if self._truth.get(name) != _fresh(row)]
        if others:
            self.found.wrong.append(f"{version}: {others[:3]}")

    async def _rows(self, version: str) -> dict[bytes, bytes]:
        rows: dict[bytes, bytes] = {}
        async for piece in self._world.store.iter_stored(version):
            rows.update((stored.name, stored.text) for stored in piece)
        return rows

    async def _complete_sync(self) -> dict[bytes, bytes]:
        """What an undisturbed sync publishes."""
        give_up = time.monotonic() + SETTLE * self.found.slowness
        while True:
            job = None
            with contextlib.suppress(CatalogSyncError):
                job = await self._ended((await self._world.jobs.submit(SyncRequest())).id, give_up)
            if job is not None and job.outcome == "COMPLETE":
                version = await self._world.store.current_version()
                return {name: _fresh(row) for name, row in (await self._rows(version or "")).items()}
            assert time.monotonic() < give_up, f"no sync completes: {job}\n{self._world.logs()}"
            await asyncio.sleep(0.2)

    async def _measure_takeover(self) -> None:
        """Kills a worker that waits for the supplier while two others are idle."""
        self._world.supplier.play(VERY_SLOW)
        group = json.loads(next(iter(self._truth.values())))["groups"][0]
        job = await self._world.jobs.submit(SyncRequest(SyncKind.GROUP, group))
        give_up = time.monotonic() + SETTLE * self.found.slowness
        step, steps = step_of(0), JobKeys(job.id).steps
        while (claim := self._world.redis.command("HGET", steps, f"{step}:claim")) is None:
            assert time.monotonic() < give_up, f"it is not fetched\n{self._world.logs()}"
            await asyncio.sleep(0.02)
        pid = int(claim.split(b":")[1])
        living = [worker for worker in self._world.workers if worker.process.poll() is None]
        await asyncio.to_thread(next(worker for worker in living if pid in worker.children).kill)
        died = time.monotonic()
        while int(self._world.redis.command("HGET", steps, f"{step}:starts")) < 2 and time.monotonic() < give_up:
            await asyncio.sleep(0.02)
        self.found.takeover = round(time.monotonic() - died, 1)
        self._world.supplier.play(SOMEWHAT_SLOW)
        await self._ended(job.id, give_up)
        if self.found.takeover > (self._world.settings.job_lease + NOTICED) * self.found.slowness:
            self.found.late.append(job.id)

    async def _ended(self, job_id: str, give_up: float) -> Job | None:
        """The job once it has ended, or its state when time is up; ``None`` if there is none."""
        while True:
            with contextlib.suppress(CacheConnectionError):
                job = await self._known(job_id)
                if job is None or job.status.ended or time.monotonic() > give_up:
                    return job
            await asyncio.sleep(0.1)

    async def _look(self) -> None:
        give_up = time.monotonic() + SETTLE * self.found.slowness
        jobs = {job_id: await self._ended(job_id, give_up) for job_id in self._left()}
        published = self._published()
        for job_id, job in jobs.items():
            if job is None and self.found.accepted[job_id] <= self._forgot:
                self.found.forgotten += 1
            elif job is None or not job.status.ended:
                self.found.lost.append(job_id)
            else:
                await self._judge(job, published[job_id[:8]])
        self.found.dead_letters, _ = await self._world.ledger.dead_letters()

    async def _judge_ended(self) -> None:
        """Judges the ended jobs, since Redis is about to lose them."""
        with contextlib.suppress(CacheConnectionError):
            jobs = [await self._known(job_id) for job_id in self._left()]
            published = self._published()
            for job in jobs:
                if job is not None and job.status.ended:
                    await self._judge(job, published[job.id[:8]])

    def _left(self) -> list[str]:
        return [job_id for job_id in self.found.accepted if job_id not in self._judged]

    async def _known(self, job_id: str) -> Job | None:
        try:
            return await self._world.jobs.get(job_id)
        except JobNotFoundError:
            return None

    async def _judge(self, job: Job, published: set[str]) -> None:
        steps = await self._world.ledger.steps(job.id)
        self._judged.add(job.id)
        self.found.outcomes[str(job.outcome)] += 1
        if not published and job.outcome in {"COMPLETE", "PARTIAL"}:
            self.found.unpublished.append(job.id)
        for version in published if job.outcome == "COMPLETE" else ():
            if self._sizes.get(version, len(self._truth)) != len(self._truth):
                self.found.wrong.append(f"{version}: complete with {self._sizes[version]} bundles")
        self.found.repeated_steps += sum(max(0, state.starts - 1) for state in steps.values())

    def _published(self) -> dict[str, set[str]]:
        """The versions that each job published, by the start of its ID: from receipts and from what is stored."""
        found: dict[str, set[str]] = defaultdict(set)
        with self._world.redis.client() as client:
            for key in client.scan_iter("{cat}:v:*:meta"):
                if client.hexists(key, "committed"):
                    version = key.decode().split(":")[2]
                    found[version.rsplit("-", 1)[1].partition(".")[0]].add(version)
            for key in client.scan_iter("{cat}:receipt:*"):
                found[key.decode().rsplit(":", 1)[1][:8]].add(client.get(key).decode())
        twice = {job_id for job_id in self.found.accepted if len(found[job_id[:8]]) > 1}
        self.found.published_twice = sorted(twice.union(self.found.published_twice))
        return found


def _fresh(row: bytes) -> bytes:
    """A bundle without the mark that it was kept from an earlier version."""
    return json.dumps({**json.loads(row), "stale": False}, sort_keys=True).encode()


async def rampage(world: WorkerWorld, number: int, seed: int, *, within: float = 3600.0, **options: Any) -> Findings:
    """A run in an opened world. ``options`` of :class:`Chaos`."""
    world.supplier.play(SOMEWHAT_SLOW)
    async with world.opened():
        return await Chaos(world, seed, **options).run(number, within)


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    if name not in EVENTS or not 0 <= float(number) < 1e6:
        raise ValueError
    return name, float(number)


def main() -> int:
    """Runs it as a program and prints the findings as JSON. Returns 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", "--events", type=int, default=30, help="how many events")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=float, default=900.0, help="seconds after which no further event begins")
    parser.add_argument(
        "--without", nargs="+", action="extend", choices=[*EVENTS, "neighbour"], default=[], help="leave out"
    )
    parser.add_argument(
        "--weight", nargs="+", action="extend", type=_weight, default=[], metavar="EVENT=N",
        help=f"relative frequency: {' '.join(f'{name}={often}' for name, often in EVENTS.items())}",
    )  # fmt: skip
    parser.add_argument("--faketime", type=Path, default=next(iter(FAKETIME), None), help="libfaketimeMT.so.1")
    args = parser.parse_args()
    without = set(args.without)
    if "clock" not in without and args.faketime is None:
        print("without jumps of the clock: libfaketime is not installed", file=sys.stderr)
        without.add("clock")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as held:
        directory = Path(name)
        redis = held.enter_context(RedisServer(directory / "redis", *PERSISTENT))
        supplier = held.enter_context(running_supplier(600))
        clock = None if "clock" in without else Clock(directory / "clock", args.faketime)
        proxy = None if "proxy" in without else held.enter_context(LoopbackProxy().serving())
        neighbour = None if "neighbour" in without else Neighbour(directory / "neighbour", redis, supplier)
        env = {**(clock.env if clock else {}), **({"ESIM_GO_PROXY": f"http://{proxy.address}"} if proxy else {})}
        world = held.enter_context(worker_world(directory, redis, supplier, **env))
        weights = {**EVENTS, **dict(args.weight)}
        events = {name: often for name, often in weights.items() if often and name not in without}
        options: dict[str, Any] = {"events": events, "clock": clock, "proxy": proxy, "neighbour": neighbour}
        found = asyncio.run(rampage(world, args.kills, args.seed, within=args.within, **options))
        if found.faults:
            print(world.logs(), file=sys.stderr)
    print(json.dumps(found.summary(), indent=2))
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
