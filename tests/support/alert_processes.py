"""Processes with an alert service each: some are killed with SIGKILL, others see the same outage.

``python -m support.alert_processes kill URL FOLDER KILLS SEED`` and ``... share URL FOLDER PROCESSES REDIS_URL``, where
the last may be ``-``. Forks from a process that has no threads, which is quicker than starting Python anew.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from otel_resilience import RetryConfig, Severity
from otel_resilience.alerting import (
    AlertConfig,
    AlertService,
    DeliveryConfig,
    DiskStore,
    FallbackStore,
    IncidentStore,
    Outbox,
    RedisStore,
    Route,
)
from otel_resilience.alerting.channels import WebhookChannel
from support.alerting import alert

CONFIG = AlertConfig(escalation=(), group_wait=0.05, keep_firing=0.2)
PATIENT = DeliveryConfig(retry=RetryConfig(max_attempts=10, base_delay=0.05))


def make(url: str, folder: Path, store: IncidentStore | None = None) -> AlertService:
    return AlertService(
        CONFIG,
        [Route(WebhookChannel(url))],
        outbox=Outbox(folder),
        store=store or DiskStore(folder / "incidents"),
        delivery=PATIENT,
    )


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            logging.getLogger("child").exception("a child failed")
            os._exit(1)
        os._exit(0)
    return pid


def kill_one(url: str, folder: Path, kind: str, rng: random.Random) -> bool:
    """A process reports one CRITICAL alert and is killed. Whether ``report`` had returned by then."""
    reading, writing = os.pipe()

    def work() -> None:
        service = make(url, folder).start()
        service.report(alert(kind, Severity.CRITICAL))
        os.write(writing, b"!")
        time.sleep(30)

    pid = fork(work)
    os.close(writing)
    if rng.random() < 0.7:
        select.select([reading], [], [], 20.0)
        time.sleep(rng.choice([0.0, rng.uniform(0.0, 0.06)]))
    else:
        time.sleep(rng.uniform(0.0, 0.1))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    reported = os.read(reading, 1) == b"!"
    os.close(reading)
    return reported


def kill(url: str, folder: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(kills):
        if kill_one(url, folder, f"kind-{number}", rng):
            print(f"kind-{number}", flush=True)
    service = make(url, folder).start()
    delivered = service.close(20.0)
    print("all delivered" if delivered else "not all delivered", flush=True)


def share(url: str, folder: Path, processes: int, redis_url: str) -> None:
    start = time.monotonic() + 0.3

    def work(number: int) -> None:
        store: IncidentStore | None = None
        if redis_url != "-":
            import redis

            client = redis.Redis.from_url(redis_url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=None)
            store = FallbackStore(RedisStore(client), DiskStore(folder / "incidents"))
        service = make(url, folder / str(number), store or DiskStore(folder / "incidents")).start()
        time.sleep(max(0.0, start - time.monotonic()))
        for _ in range(10):
            service.report(alert("outage", Severity.CRITICAL))
        time.sleep(0.6)
        service.resolve("outage", "supplier", certain=True)
        time.sleep(0.6)
        service.close(5.0)

    children = [fork(lambda number=number: work(number)) for number in range(processes)]  # type: ignore[misc]
    failed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(f"exit codes {sorted(set(failed))}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    if sys.argv[1] == "kill":
        kill(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        share(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
