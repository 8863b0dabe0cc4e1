"""Real workers, a real Redis and a real simulator in their own processes, which are always ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kombu.pools

from catalog_sync.jobs.keys import INDEX, JobKeys
from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.jobs.port import Job
from catalog_sync.jobs.redis import RedisJobs
from catalog_sync.settings.settings import Settings
from catalog_sync.store.backend import open_store
from catalog_sync.store.catalog_store import CatalogStore
from catalog_sync.worker.celery_app import app, configure
from catalog_sync.worker.celery_settings import QUEUE_KEY
from catalog_sync.worker.sender import CelerySender
from catalog_sync.worker.step_heartbeat import LONGEST_PAUSE
from support import prefork
from support.cli import API_KEY, Supplier, running_supplier
from support.redis_server import RedisServer

OWN_VARIABLES = ("ESIM_GO_", "REDIS_URL", "CATALOG_", "ERROR_", "OTEL_")
GIVEN_UP_AFTER = 100.0
"""Maximum seconds to wait for something, even on a busy machine."""
PROGRAM = ("-m", "catalog_sync.worker")
PERSISTENT = ("--appendonly", "yes", "--appendfsync", "everysec")
"""The options with which docker-compose starts Redis."""

__all__ = ["API_KEY", "PERSISTENT", "WorkerProcess", "WorkerWorld", "running_supplier", "worker_world"]


class WorkerProcess:
    """One ``python -m catalog_sync.worker``, or another program with its options, with its log."""

    def __init__(
        self,
        name: str,
        env: dict[str, str],
        log: Path,
        concurrency: int,
        health_file: Path | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        """Without ``program`` the worker is forked from a process that has the imports."""
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | prefork.Started
        options = ["--name", name, "--concurrency", str(concurrency)]
        options += [] if health_file is None else ["--health-file", str(health_file)]
        with log.open("ab") as output:
            if program is None:
                file = output.fileno()
                self.process = prefork.Started(prefork.WORKER, options, env, file, file, start_new_session=True)
            else:
                self.process = subprocess.Popen(
                    [sys.executable, *program, *options], env=env, stdout=output, stderr=output, start_new_session=True
                )

    @property
    def children(self) -> list[int]:
        """The processes of its pool."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def kill(self) -> None:
        """SIGKILL to the worker and its pool."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def terminate(self) -> None:
        """SIGTERM to the worker alone, as process managers do."""
        self.process.terminate()

    def lines(self) -> list[dict[str, Any]]:
        """Its log, without a line that is still being written."""
        complete = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in complete.splitlines() if line.startswith("{")]


class WorkerWorld:
    """Everything that a test of workers needs, with shorthand."""

    preloaded = False
    """Whether workers are forked from a process that has the imports; not for measurements."""

    def __init__(self, directory: Path, env: dict[str, str], redis: RedisServer, supplier: Supplier) -> None:
        self.directory = directory
        self.env = env
        self.redis = redis
        self.supplier = supplier
        self.settings = Settings.from_env(env)
        self.workers: list[WorkerProcess] = []
        self.store: CatalogStore
        self.ledger: JobLedger
        self.jobs: RedisJobs

    def start_worker(
        self,
        *,
        concurrency: int = 1,
        health_file: Path | None = None,
        program: Sequence[str] | None = None,
        **changes: str,
    ) -> WorkerProcess:
        name = f"w{len(self.workers)}"
        if program is None and not (self.preloaded and prefork.may_run({**self.env, **changes})):
            program = PROGRAM
        environment = {**process_environment(), **self.env, **changes}
        worker = WorkerProcess(name, environment, self.directory / f"{name}.log", concurrency, health_file, program)
        self.workers.append(worker)
        return worker

    async def ended(self, job_id: str) -> Job:
        """The job once it has ended."""
        return await self.until(job_id, lambda job: job.status.ended)

    async def until(self, job_id: str, condition: Callable[[Job], object]) -> Job:
        give_up = time.monotonic() + GIVEN_UP_AFTER
        while True:
            job = await self.jobs.get(job_id)
            if condition(job):
                return job
            assert time.monotonic() < give_up, f"it did not happen in time: {job}\n{self.logs()}"
            await asyncio.sleep(0.05)

    def clear(self) -> None:
        """Deletes catalogue and jobs; what workers and broker have agreed on stays."""
        with self.redis.client() as client:
            jobs = [JobKeys(job.decode()).record for job in client.zrange(INDEX, 0, -1)]
            if any(client.hget(job, "outcome") != b"COMPLETE" for job in jobs):
                time.sleep(LONGEST_PAUSE + 0.5)  # a step that still runs for it would take its record for lost
            for key in client.scan_iter("{cat}:*"):
                client.delete(key)
            client.delete(QUEUE_KEY)
        self.supplier.reset()

    def logs(self) -> str:
        """The end of the workers' logs, for the message of a failing test."""
        return "\n".join(f"--- {worker.name}\n" + worker.log.read_text()[-4000:] for worker in self.workers)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[WorkerWorld]:
        configure(self.settings)
        kombu.pools.reset()  # connections to the broker of an earlier world
        app._after_fork()
        async with open_store(self.settings) as store:
            self.store = store
            self.ledger = JobLedger(store.redis)
            self.jobs = RedisJobs(self.ledger, CelerySender(self.ledger), sync_deadline=self.settings.sync_deadline)
            yield self

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()


def process_environment() -> dict[str, str]:
    """This process's environment without what configures the application."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
    return {**others, "CATALOG_ENV_FILE": "none"}


@contextlib.contextmanager
def worker_world(directory: Path, redis: RedisServer, supplier: Supplier, **changes: str) -> Iterator[WorkerWorld]:
    """A world that ends all its workers. ``changes`` are made to the environment."""
    env = {
        "CATALOG_STATE_DIR": str(directory / "state"),
        "CATALOG_SUPPLIER_RATE_PER_S": "0",
        "CATALOG_ATTEMPT_TIMEOUT_MS": "2000",
        "CATALOG_JOB_LEASE_MS": "2000",
        "CATALOG_SYNC_DEADLINE_MS": "90000",
        "ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT": "1000",
        "ERROR_RETRY_BASE_DELAY": "10",
        "ERROR_RETRY_MAX_ATTEMPTS": "3",
        "ESIM_GO_API_KEY": API_KEY,
        "ESIM_GO_BASE_URL": supplier.base_url,
        "REDIS_URL": redis.url,
        **changes,
    }
    world = WorkerWorld(directory, {name: value for name, value in env.items() if value}, redis, supplier)
    try:
        yield world
    finally:
        world.close()
