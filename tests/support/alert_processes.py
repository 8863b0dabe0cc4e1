"""Processes with an alert service each: some are killed with SIGKILL, others see the same outage.

``python -m support.alert_processes kill URL FOLDER KILLS SEED``, ``... share URL FOLDER PROCESSES REDIS_URL`` (the last
may be ``-``), ``... hand-over WEBHOOK PAGERDUTY FOLDER REDIS_URL``, ``... storm WEBHOOK FOLDER REDIS_URL KILLS SEED``.
Forks from a process that has no threads, which is faster than starting Python again.
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

import httpx  # noqa: F401  # loaded before the processes are forked, which are to be quick
import redis

from otel_resilience import RetryConfig, Severity
from otel_resilience.alerting import (
    AlertConfig,
    AlertService,
    DeliveryConfig,
    DiskStore,
    EscalationStep,
    FallbackStore,
    IncidentStore,
    Outbox,
    Receipt,
    RedisStore,
    Route,
    Status,
)
from otel_resilience.alerting.channels import PagerDutyChannel, WebhookChannel
from otel_resilience.alerting.service import SHARE_EVERY
from support.alert_receivers import ROUTING_KEY
from support.alerting import alert

CONFIG = AlertConfig(escalation=(), group_wait=0.05, keep_firing=0.2)
PATIENT = DeliveryConfig(retry=RetryConfig(max_attempts=10, base_delay=0.05))


def make(
    url: str,
    folder: Path,
    store: IncidentStore | None = None,
    on_receipt: Callable[[Receipt], None] | None = None,
) -> AlertService:
    return AlertService(
        CONFIG,
        [Route(WebhookChannel(url))],
        outbox=Outbox(folder),
        store=store or DiskStore(folder / "incidents"),
        delivery=PATIENT,
        on_receipt=on_receipt,
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
    def delivered(receipt: Receipt) -> None:
        if receipt.delivered:
            (folder / receipt.notification.status).touch()

    def together(what: str, number: int) -> None:
        """Wait until every process has come here."""
        (folder / f"{what} {number}").touch()
        for each in range(processes):
            wait_for(folder / f"{what} {each}")

    def work(number: int) -> None:
        store: IncidentStore | None = None
        if redis_url != "-":
            store = open_shared(redis_url, folder)
        service = make(url, folder / str(number), store or DiskStore(folder / "incidents"), delivered).start()
        together("started", number)
        for _ in range(10):
            service.report(alert("outage", Severity.CRITICAL))
        together("reported", number)
        wait_for(folder / Status.FIRING)
        service.resolve("outage", "supplier", certain=True)
        together("resolved", number)
        wait_for(folder / Status.RESOLVED)
        service.close(20.0)

    children = [fork(lambda number=number: work(number)) for number in range(processes)]  # type: ignore[misc]
    failed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(f"exit codes {sorted(set(failed))}", flush=True)


HAND_OVER = AlertConfig(
    service="catalogue",
    environment="test",
    group_wait=0.1,
    rate_limit=0.2,
    keep_firing=1.0,
    escalation=(EscalationStep(after=1.0),),
)


def open_shared(redis_url: str, folder: Path) -> IncidentStore:
    client = redis.Redis.from_url(redis_url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=None)
    return FallbackStore(RedisStore(client), DiskStore(folder / "incidents"))


def wait_for(path: Path) -> None:
    give_up_at = time.monotonic() + 60.0
    while not path.exists():
        if time.monotonic() > give_up_at:
            raise TimeoutError(path.name)
        time.sleep(0.02)


def hand_over(webhook: str, pagerduty: str, folder: Path, redis_url: str) -> None:
    """Four processes, each on a machine of its own: all see the outage, the last one sees its end."""

    def work(number: int) -> None:
        home = folder / str(number)
        service = AlertService(
            HAND_OVER,
            [Route(WebhookChannel(webhook)), Route(PagerDutyChannel(ROUTING_KEY, url=pagerduty, min_interval=0.0))],
            outbox=Outbox(home),
            store=open_shared(redis_url, home),
            delivery=PATIENT,
        )
        with service:
            time.sleep(0.1 * number)
            for _ in range(20 if number < 3 else 0):
                service.report(alert("sync_failed"))
                time.sleep(0.1)
            if number < 3:
                time.sleep(2 * SHARE_EVERY)
                (folder / f"seen by {number}").touch()
                wait_for(folder / "over")
            else:
                for other in range(3):
                    wait_for(folder / f"seen by {other}")
                service.resolve("sync_failed", "supplier", certain=True)
                time.sleep(1.0)
                (folder / "over").touch()

    children = [fork(lambda number=number: work(number)) for number in range(4)]  # type: ignore[misc]
    failed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(f"exit codes {sorted(set(failed))}", flush=True)


STORM = AlertConfig(
    service="catalogue", group_wait=0.1, rate_limit=0.2, keep_firing=0.6, escalation=(EscalationStep(after=0.8),)
)


def storm(webhook: str, folder: Path, redis_url: str, kills: int, seed: int) -> None:
    """Three machines with one process each, one of which is always being killed, during outages and recoveries."""
    rng = random.Random(seed)
    down = folder / "down"
    stop = folder / "stop"

    def make_one(machine: int) -> AlertService:
        home = folder / f"machine {machine}"
        store = open_shared(redis_url, home)
        return AlertService(STORM, [Route(WebhookChannel(webhook))], outbox=Outbox(home), store=store, delivery=PATIENT)

    def work(machine: int) -> None:
        with make_one(machine) as service:
            while not stop.exists():
                if down.exists():
                    service.report(alert("sync_failed", rng.choice([Severity.HIGH, Severity.CRITICAL])))
                else:
                    service.resolve("sync_failed", "supplier", certain=True)
                time.sleep(0.05)

    children = {machine: fork(lambda machine=machine: work(machine)) for machine in range(3)}  # type: ignore[misc]
    for number in range(kills):
        time.sleep(rng.uniform(0.1, 0.8))
        if number % 3 == 0:
            down.touch() if number % 2 == 0 else down.unlink(missing_ok=True)
        machine = rng.randrange(3)
        os.kill(children[machine], signal.SIGKILL)
        os.waitpid(children[machine], 0)
        rng.random()  # otherwise a forked process would continue with the same numbers
        children[machine] = fork(lambda machine=machine: work(machine))  # type: ignore[misc]
    down.unlink(missing_ok=True)
    time.sleep(2.0)
    stop.touch()
    failed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children.values()]
    for machine in range(3):
        with make_one(machine) as service:
            time.sleep(0.8)
        failed.append(len(service.incidents()))
    print(f"exit codes {sorted(set(failed))}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    if sys.argv[1] == "kill":
        kill(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    elif sys.argv[1] == "hand-over":
        hand_over(sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5])
    elif sys.argv[1] == "storm":
        storm(sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
    else:
        share(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
