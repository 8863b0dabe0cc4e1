"""Soak: many syncs through the API, done by workers; checks that memory, threads and descriptors stay flat.

``python tests/support/soak.py --syncs 1000``. Every process is measured after each sync. ``--log FILE`` gets a line of
JSON after every ``--every`` syncs, with the measurements and what each process holds open.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import httpx

if __name__ == "__main__":  # run as a program: the other helpers are next to this file
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.api_process import TOKEN, ApiProcess
from support.redis_server import RedisServer
from support.worker_world import PERSISTENT, WorkerWorld, process_environment, running_supplier, worker_world

WARM_UP = 0.4
"""Share of the samples that is ignored, while caches and pools fill."""
GROWTH = {"rss_kib": 0.05, "threads": 0.0, "descriptors": 0.0}
"""Allowed growth between the two halves of the rest, as a share of the first half."""
SLACK = {"rss_kib": 2048.0, "threads": 1.0, "descriptors": 8.0}
"""Growth allowed in any case: allocators take memory in steps, and a pool that opens a connection late adds four
descriptors at once. One descriptor leaked by each sync exceeds this after about thirty syncs."""
LONGEST = 120.0
"""Seconds that one sync may take."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One process at one moment."""

    rss_kib: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        """Measures a process. Raises ``OSError`` if it has ended."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(
            int(status["VmRSS"].split()[0]), int(status["Threads"]), len(list(Path(f"/proc/{pid}/fd").iterdir()))
        )


def held_open(pid: int) -> Counter[str]:
    """The descriptors of a process: connections by remote port, everything else by name."""
    peers = dict(_peers(pid))
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = str(entry.readlink())
            kind, _, inode = target.partition(":")
            found[peers.get(inode.strip("[]"), kind) if kind in {"socket", "pipe"} else target] += 1
    return found


def _peers(pid: int) -> Iterator[tuple[str, str]]:
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            _, local, remote, _, *rest = line.split()
            port = int(remote.rpartition(":")[2], 16)
            yield rest[5], f"to {port}" if port else f"listens on {int(local.rpartition(':')[2], 16)}"


def verdict(samples: Sequence[Sample]) -> dict[str, Any]:
    """Whether a process is flat: after the warm-up the median of the second half exceeds that of the first by at most
    what ``GROWTH`` and ``SLACK`` allow. With a leak in each sync, the difference grows with the length of the run.
    """
    rest = samples[int(len(samples) * WARM_UP) :]
    halves = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    found: dict[str, Any] = {"flat": True}
    for name, growth in GROWTH.items():
        first, second = (statistics.median(getattr(sample, name) for sample in half) for half in halves)
        found[name] = [first, second]
        found["flat"] &= second <= first + max(growth * first, SLACK[name])
    return found


class Soak:
    """One run in a world."""

    def __init__(self, world: WorkerWorld, api: ApiProcess, log: TextIO | None = None, every: int = 10) -> None:
        self._world = world
        self._api = api
        self._log = log
        self._every = every
        self._samples: dict[str, list[Sample]] = defaultdict(list)

    def run(self, syncs: int, within: float) -> dict[str, Any]:
        """Runs ``syncs`` syncs one after the other, none starting after ``within`` seconds."""
        began = time.monotonic()
        outcomes: dict[str, int] = defaultdict(int)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=self._api.base_url, headers=headers, trust_env=False, timeout=30) as client:
            for _ in range(syncs):
                if time.monotonic() - began > within:
                    break
                outcomes[self._sync(client)] += 1
                self._sample()
                if self._log is not None and sum(outcomes.values()) % self._every == 0:
                    print(json.dumps(self._state(outcomes, began)), file=self._log, flush=True)
        judged = {name: verdict(samples) for name, samples in self._samples.items()}
        return {
            "syncs": sum(outcomes.values()),
            "outcomes": dict(outcomes),
            "seconds": round(time.monotonic() - began, 1),
            "redis_keys": self._world.redis.command("DBSIZE"),
            "state_files": sum(1 for path in (self._world.directory / "state").rglob("*") if path.is_file()),
            "processes": judged,
            "flat": set(outcomes) == {"COMPLETE"} and all(each["flat"] for each in judged.values()),
        }

    def _sync(self, client: httpx.Client) -> str:
        """Requests a sync, and reads the catalogue once while it waits for the end."""
        accepted = client.post("/syncs", json={"kind": "full"}).raise_for_status().json()
        give_up = time.monotonic() + LONGEST
        while time.monotonic() < give_up:
            job = client.get(f"/syncs/{accepted['id']}").raise_for_status().json()
            if job["outcome"] is not None:
                client.get("/bundles").raise_for_status()
                return str(job["outcome"])
            time.sleep(0.05)
        raise TimeoutError(f"no end of {accepted['id']}\n{self._world.logs()}")

    def _pids(self) -> dict[str, int]:
        pids = {"api": self._api.process.pid}
        for worker in self._world.workers:
            pids[worker.name] = worker.process.pid
            pids.update({f"{worker.name} pool {pid}": pid for pid in worker.children})
        return pids

    def _sample(self) -> None:
        for name, pid in self._pids().items():
            with contextlib.suppress(FileNotFoundError):
                self._samples[name].append(Sample.of(pid))

    def _state(self, outcomes: dict[str, int], began: float) -> dict[str, Any]:
        open_files = {}
        for name, pid in self._pids().items():
            with contextlib.suppress(FileNotFoundError):
                open_files[name] = dict(held_open(pid))
        return {
            "syncs": sum(outcomes.values()),
            "outcomes": dict(outcomes),
            "seconds": round(time.monotonic() - began, 1),
            "redis_keys": self._world.redis.command("DBSIZE"),
            "processes": {name: dataclasses.asdict(samples[-1]) for name, samples in self._samples.items()},
            "held_open": open_files,
        }


def main() -> int:
    """Runs it as a program and prints the measurements as JSON. Returns 1 if something grew, or a sync failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--syncs", type=int, default=1000)
    parser.add_argument("--bundles", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--within", type=float, default=7200.0, help="seconds after which no further sync begins")
    parser.add_argument("--log", type=Path, help="file to which the state is added while it runs")
    parser.add_argument("--every", type=int, default=10, help="syncs between two lines of the log")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as held:
        directory = Path(name)
        redis = held.enter_context(RedisServer(directory / "redis", *PERSISTENT))
        supplier = held.enter_context(running_supplier(args.bundles))
        world = held.enter_context(worker_world(directory, redis, supplier))
        for _ in range(args.workers):
            world.start_worker()
        api = held.enter_context(ApiProcess(directory, {**process_environment(), **world.env}))
        log = None if args.log is None else held.enter_context(args.log.open("a"))
        found = Soak(world, api, log, args.every).run(args.syncs, args.within)
    print(json.dumps(found, indent=2))
    return 0 if found["flat"] else 1


if __name__ == "__main__":
    sys.exit(main())
