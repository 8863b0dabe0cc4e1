"""Every kind of incident opened by one process is ended by a later process that runs for two seconds."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.alerts import outcomes
from catalog_sync.domain.errors import (
    AuthenticationError,
    BundleNotFoundError,
    CacheConnectionError,
    CatalogSyncError,
    InvalidDataError,
    LockLostError,
    NotFoundError,
    PublishRefusedError,
    UnknownScopeError,
)
from catalog_sync.domain.models import GroupReport, Outcome, SyncKind
from otel_resilience import CircuitBreakerConfig, Severity
from otel_resilience.alerting import AlertConfig, DiskStore, Notification, Outbox, ResilienceSource, Route, sources
from otel_resilience.alerting.delivery.dispatch import DISABLED_KIND
from otel_resilience.alerting.model.book import OVERFLOW_KIND
from otel_resilience.testing import FakeClock
from support.alerting import EPOCH, Inbox, RevokedFault, World, alert
from support.resilience import PermanentFault, Script, TransientFault, make_policy
from support.sync_reports import raised, report

DOCUMENT = Path(__file__).parents[3] / "docs" / "alerting.md"
CONFIG = AlertConfig(service="catalog-sync", inhibitions=outcomes.INHIBITIONS, max_incidents=20)
FULL = report(Outcome.COMPLETE, groups=(GroupReport("Fixed", "ok", 5),))


class Job:
    """A process: its service, and what it does to the supplier."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.inbox, self.second = Inbox(clock), Inbox(clock, "second")
        self.world = World(
            [Route(self.inbox), Route(self.second)],
            CONFIG,
            clock=clock,
            store=DiskStore(folder / "incidents", wall_clock=clock),
            outbox=Outbox(folder, wall_clock=clock),
        )

    def call(self, outcome: Any, times: int = 1, *, name: str = "list", dependency: str = "esim-go") -> None:
        breaker = CircuitBreakerConfig(failure_threshold=3, reset_timeout=30, monitoring_period=60)
        policy = make_policy(self.clock, dependency=dependency, breaker=breaker, retry=None, deadline=None)
        self.policy = policy  # as long as its process lives
        for _ in range(times):
            with contextlib.suppress(Exception):
                policy.execute(Script(outcome).play, name=name)

    def sync(self, outcome: Outcome, error: CatalogSyncError | None = None, **changes: Any) -> None:
        self.sync_ended(report(outcome, error, **changes))

    def sync_ended(self, of: Any, age: float = 60.0) -> None:
        for ending in outcomes.ended(of, age=age, stale_after=3600):
            ending.end(self.world.service)
        for each in raised(of, age=age):
            self.world.service.report(each)

    def fill(self) -> None:
        for number in range(30):
            self.world.service.report(alert("errors", fingerprint_by=(str(number),), quiet_after=300.0))


def fault(error_type: str, severity: Severity) -> Exception:
    return PermanentFault(error_type=error_type, severity=severity)


def revoke(job: Job) -> None:
    job.inbox.fails = RevokedFault()
    job.world.report("errors", quiet_after=1.0)
    job.world.run(6)


def nothing(job: Job) -> None:
    """A job that has no reason to do anything."""


def succeeds(job: Job) -> None:
    job.call("value")


def completes(job: Job) -> None:
    job.sync_ended(FULL)


def five_errors(job: Job) -> None:
    for _ in range(5):
        job.world.report("errors", threshold=5, quiet_after=300.0)


def partial_twice(job: Job) -> None:
    for _ in range(2):
        job.sync(Outcome.PARTIAL)


Step = Callable[[Job], None]

ENDS: dict[str, tuple[Step, Step]] = {
    sources.CIRCUIT_BREAKER: (lambda job: job.call(TransientFault(), 5), succeeds),
    sources.AUTHENTICATION: (lambda job: job.call(fault("401", Severity.CRITICAL)), succeeds),
    sources.CRITICAL_ERROR: (lambda job: job.call(fault("tls_certificate", Severity.CRITICAL)), succeeds),
    sources.CONTRACT_DRIFT: (lambda job: job.call(fault("schema_mismatch", Severity.HIGH)), succeeds),
    sources.ERRORS: (
        five_errors,
        nothing,
    ),
    DISABLED_KIND: (revoke, nothing),
    OVERFLOW_KIND: (Job.fill, nothing),
    outcomes.SYNC_FAILED: (lambda job: job.sync(Outcome.FAILED, InvalidDataError("no JSON")), completes),
    outcomes.SYNC_PARTIAL: (partial_twice, completes),
    outcomes.PUBLISH_REFUSED: (lambda job: job.sync(Outcome.FAILED, PublishRefusedError("bad rows")), completes),
    outcomes.LOCK_LOST: (lambda job: job.sync(Outcome.FAILED, LockLostError("gone")), completes),
    outcomes.STORE_UNAVAILABLE: (
        lambda job: job.sync(Outcome.LOCK_UNAVAILABLE, CacheConnectionError("refused")),
        completes,
    ),
    outcomes.STALE: (
        lambda job: job.sync_ended(report(Outcome.FAILED), 9999),
        completes,
    ),
}
"""By kind: what opens it, and what a later job that works does."""

MORE: dict[str, tuple[Step, Step]] = {
    "a circuit that a new process never uses": (ENDS[sources.CIRCUIT_BREAKER][0], lambda job: job.call("value", 0)),
    "a circuit, by a full sync": (ENDS[sources.CIRCUIT_BREAKER][0], completes),
    "the supplier's key": (lambda job: job.sync(Outcome.FAILED, AuthenticationError("no")), completes),
    "the supplier's key, by a partial sync": (
        lambda job: job.sync(Outcome.FAILED, AuthenticationError("no")),
        lambda job: job.sync(
            Outcome.PARTIAL, groups=(GroupReport("Fixed", "ok", 5), GroupReport("Unlimited", "stale", 5))
        ),
    ),
    "the supplier's key, by a sync of one group": (
        lambda job: job.sync(Outcome.FAILED, AuthenticationError("no")),
        lambda job: job.sync(Outcome.COMPLETE, kind=SyncKind.GROUP, scope="Fixed"),
    ),
    "a failed sync of one group, by a full one": (
        lambda job: job.sync(Outcome.FAILED, InvalidDataError("no JSON"), kind=SyncKind.GROUP, scope="Fixed"),
        completes,
    ),
    "a refused publication of one country, by a full sync": (
        lambda job: job.sync(Outcome.FAILED, PublishRefusedError("drop"), kind=SyncKind.COUNTRY, scope="PT"),
        completes,
    ),
    "no store, by a run that found another one at work": (
        ENDS[outcomes.STORE_UNAVAILABLE][0],
        lambda job: job.sync(Outcome.SKIPPED_LOCKED),
    ),
    "a stale catalogue, by another scope": (
        ENDS[outcomes.STALE][0],
        lambda job: job.sync(Outcome.COMPLETE, kind=SyncKind.COUNTRY, scope="PT"),
    ),
    "the credentials of Redis": (
        lambda job: job.call(fault("redis_auth", Severity.CRITICAL), dependency="redis"),
        lambda job: job.call("value", dependency="redis"),
    ),
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(EPOCH)


@contextlib.contextmanager
def process(folder: Path, clock: FakeClock, *, killed: bool = False) -> Iterator[Job]:
    """Runs for two seconds after its action; if it is killed, it has sent its messages before."""
    job = Job(folder, clock)
    with ResilienceSource(job.world.service):
        job.world.run()
        yield job
        job.world.run(10 if killed else 2)
    if killed:
        outbox = job.world.service._archive._outbox
        assert outbox is not None
        outbox.close()
    else:
        job.world.service.close()


def of_kind(kind: str | None, *jobs: Job) -> list[Notification]:
    return [
        message
        for job in jobs
        for message in (job.inbox.messages or job.second.messages)
        if kind in (None, message.kind)
    ]


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
@pytest.mark.parametrize("name", [*ENDS, *MORE])
@pytest.mark.fault("A3")
def test_a_good_job_of_two_seconds_ends_it(name: str, killed: bool, tmp_path: Path, clock: FakeClock) -> None:
    opens, works = {**ENDS, **MORE}[name]
    with process(tmp_path, clock, killed=killed) as first:
        opens(first)
    kind = name if name in ENDS else None
    assert [message.status.value for message in of_kind(kind, first)][:1] == ["firing"]
    del first  # with its circuit breaker
    gc.collect()
    clock.advance(7200)
    with process(tmp_path, clock) as second:
        works(second)
    assert {(message.status.value, message.reason) for message in of_kind(kind, second)} == {("resolved", "resolved")}
    with process(tmp_path, clock) as third:
        assert [each for each in third.world.service.incidents() if kind in (None, each.kind)] == []


@pytest.mark.fault("A3")
def test_all_kinds_are_here() -> None:
    of_the_library = {sources.CIRCUIT_BREAKER, sources.AUTHENTICATION, sources.CONTRACT_DRIFT, sources.ERRORS,
                      sources.CRITICAL_ERROR, DISABLED_KIND, OVERFLOW_KIND}  # fmt: skip
    assert set(ENDS) == of_the_library | set(outcomes.KINDS)


def test_all_kinds_are_in_the_documentation_with_their_end() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(ENDS)


@pytest.mark.parametrize(
    ("kind", "error_type", "last"),
    [("authentication", "401", "success"), ("critical_error", "tls_certificate", "success"),
     ("contract_drift", "schema_mismatch", "success"), ("contract_drift", "schema_mismatch", "another operation")],
)  # fmt: skip
@pytest.mark.fault("A3")
def test_in_a_process_that_goes_on_a_success_ends_it_after_a_while(
    kind: str, error_type: str, last: str, tmp_path: Path, clock: FakeClock
) -> None:
    severity = Severity.HIGH if kind == "contract_drift" else Severity.CRITICAL
    with process(tmp_path, clock) as job:
        job.call(fault(error_type, severity))
        job.world.run(30)
        job.call("value", name="list" if last == "success" else "other")
        job.world.run(299)
        assert [message.status.value for message in job.inbox.messages] == ["firing"]
        job.world.run(31)
        ended = ["firing", "resolved"] if last == "success" else ["firing"]
        assert [message.status.value for message in job.inbox.messages] == ended


def test_calls_cost_nothing_more_while_nothing_waits_for_their_success(tmp_path: Path, clock: FakeClock) -> None:
    from otel_resilience.telemetry import hooks

    with process(tmp_path, clock) as job:
        job.call("value")
        assert hooks.awaited == frozenset()
        job.call(fault("401", Severity.CRITICAL))
        job.world.run(30)
        assert hooks.awaited == {"esim-go"}
        job.call("value")
        assert hooks.awaited == frozenset()
    assert hooks.awaited == frozenset()


@pytest.mark.parametrize("error", [UnknownScopeError("no group 'NOPE'"), BundleNotFoundError("no bundle 'NOPE'")])
@pytest.mark.parametrize("kind", [SyncKind.GROUP, SyncKind.BUNDLE])
@pytest.mark.fault("A3")
def test_a_scope_that_does_not_exist_pages_no_one(
    error: CatalogSyncError, kind: SyncKind, tmp_path: Path, clock: FakeClock
) -> None:
    with process(tmp_path, clock) as job:
        job.sync(Outcome.FAILED, error, kind=kind, scope="NOPE")
        job.world.run(10_000)
    assert job.inbox.messages == []


def test_an_endpoint_that_does_not_exist_does(tmp_path: Path, clock: FakeClock) -> None:
    with process(tmp_path, clock) as job:
        job.sync(Outcome.FAILED, NotFoundError("/catalogue is gone"))
    assert [message.kind for message in job.inbox.messages] == ["sync_failed"]
