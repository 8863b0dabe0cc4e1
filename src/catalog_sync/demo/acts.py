"""The four acts. Each runs, waits for its telemetry, and returns what to show."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Final

from catalog_sync.demo import figures
from catalog_sync.store.reader import Query
from catalog_sync.supplier.esim_go.policy import DEPENDENCY as SUPPLIER
from catalog_sync.terminal.output import error_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from catalog_sync.demo.inbox import Arrival
    from catalog_sync.demo.stage import Stage
    from catalog_sync.domain.models import SyncReport

GIVE_UP_AFTER: Final = 90.0
"""Seconds after which the recovery counts as failed."""

NOTIFIED_WITHIN: Final = 45.0
"""Seconds within which the message of an act must have arrived."""

READ: Final = Query(country="FR", limit=3)
"""What a shop reads while the supplier is down."""

_PAGES: Final = {"endpoint": "catalogue", "attempt": 1}
FAULTS: Final = {
    "name": "demo-faults",
    "rules": [
        {"fault": "hang", "when": {**_PAGES, "page": 3, "count": 2}},
        {
            "fault": "status",
            "status": 503,
            "retry_after": 1,
            "when": {**_PAGES, "group": 0, "page": 5, "attempt": [1, 2]},
        },
        {"fault": "status", "status": 500, "when": {**_PAGES, "page": 2, "count": 1}},
        {"fault": "status", "status": 502, "when": {**_PAGES, "page": 8, "count": 1}},
        {"fault": "reset", "when": {**_PAGES, "page": 7, "count": 1}},
        {"fault": "status", "status": 429, "when": {**_PAGES, "probability": 0.08, "count": 5}},
    ],
}
"""Each of them passes on a retry, and they are too few to open the circuit."""

_DEAD: Final = {"fault": "status", "status": 503, "message": "Service unavailable", "retry_after": "none"}
DYING: Final = {
    "name": "demo-dying",
    "rules": [
        {**_DEAD, "when": {"endpoint": "catalogue", "group": -1}},
        {"fault": "reset", "when": {"endpoint": "catalogue", "skip": 24, "every": 3}},
        {**_DEAD, "when": {"endpoint": "catalogue", "skip": 24}},
    ],
}
"""The supplier fails in the middle of a sync, after 24 pages."""


@dataclasses.dataclass(slots=True)
class Act:
    """What happened in an act."""

    number: int
    title: str
    intro: str
    reports: list[SyncReport] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    """Further notes for a person."""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The same for machines."""
    shortfalls: list[str] | None = None
    """What did not go as expected; ``None`` before the act has ended."""
    began: float = 0.0
    ended: float = 0.0
    """Seconds since the epoch."""
    worst: figures.Branch | None = None
    errors: list[figures.ErrorCount] = dataclasses.field(default_factory=list)
    changes: list[figures.Change] = dataclasses.field(default_factory=list)
    retries: figures.Retries = dataclasses.field(default_factory=figures.Retries)
    alerts: list[Arrival] = dataclasses.field(default_factory=list)
    alerts_suppressed: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def expected(self) -> bool:
        """Whether the act went as expected."""
        return self.shortfalls == []

    def judge(self, *reasons: str | None) -> None:
        """Records the reasons why the act fell short, in the given order; ``None`` is ignored."""
        self.shortfalls = [reason for reason in reasons if reason is not None]

    def to_json(self) -> dict[str, Any]:
        """The act for machines."""
        return {
            "act": self.number,
            "title": self.title,
            "as_expected": self.expected,
            "shortfalls": self.shortfalls,
            "duration_s": round(self.ended - self.began, 3),
            "runs": [_run_json(report) for report in self.reports],
            "errors": [
                {"type": e.type, "class": e.error_class, "severity": e.severity, "count": e.count} for e in self.errors
            ],
            "breaker": [
                {
                    "at_s": round(change.at - self.began, 3),
                    "from": change.source,
                    "to": change.target,
                    "reason": change.reason,
                    "error_type": change.error_type,
                    "open_for_s": change.open_for,
                }
                for change in self.changes
            ],
            "retries": {
                "needed": self.retries.needed,
                "succeeded": self.retries.succeeded,
                "rate": self.retries.rate,
                "suppressed": self.retries.suppressed,
            },
            "alerts": {
                "sent": [{"at_s": round(each.at - self.began, 3), **each.message} for each in self.alerts],
                "suppressed": self.alerts_suppressed,
            },
            "worst_call": None if self.worst is None else self.worst.to_json(),
            **self.facts,
        }


def _run_json(report: SyncReport) -> dict[str, Any]:
    keys = ("outcome", "correlation_id", "version", "bundles", "duration_s", "attempts", "retries", "error")
    full = report.to_json()
    return {key: full[key] for key in keys}


def programme() -> list[tuple[Act, Callable[[Stage, Act], Awaitable[None]]]]:
    """The acts in order, each with the function that runs it."""
    return [
        (
            Act(
                1,
                "A healthy sync",
                "The supplier is well. All groups are fetched, checked and published at one stroke.",
            ),
            healthy,
        ),
        (
            Act(
                2,
                "Rate limits, time-outs and 5xx",
                "The same sync while the supplier throttles, hangs, resets connections and answers 500, 502, 503.",
            ),
            faulty,
        ),
        (
            Act(
                3,
                "An outage",
                "The supplier dies in the middle of a sync. The circuit opens, nothing half-written is published,\n"
                "readers keep the last good catalogue, and a person is notified, once.",
            ),
            outage,
        ),
        (
            Act(
                4,
                "Recovery",
                "The supplier is back. The next probe closes the circuit, a sync goes through,\n"
                "and the person who was notified learns that it is resolved.",
            ),
            recovery,
        ),
    ]


async def play(stage: Stage, act: Act, body: Callable[[Stage, Act], Awaitable[None]]) -> None:
    """Runs one act and examines the telemetry that it left."""
    before = figures.baseline(stage.received)
    act.began = time.time()
    await body(stage, act)
    act.ended = time.time()
    traces = await stage.settle([report.correlation_id for report in act.reports])
    paths = [(figures.worst_call(spans, SUPPLIER), spans) for spans in traces]
    shown = max((each for each in paths if each[0]), key=lambda each: figures.badness(each[0][-1]), default=None)
    if shown is not None:
        act.worst = figures.tree(*shown)
    act.errors = figures.errors(stage.received, before, SUPPLIER)
    act.changes = figures.changes(stage.received, act.began, act.ended, SUPPLIER)
    act.retries = figures.retries(stage.received, before, SUPPLIER)
    act.alerts = stage.inbox.since(act.began)
    act.alerts_suppressed = figures.alerts_suppressed(stage.received, before)


async def healthy(stage: Stage, act: Act) -> None:
    """Act 1."""
    await stage.simulator.set_scenario("calm")
    report = await stage.sync()
    act.reports.append(report)
    act.judge(_not(report, "COMPLETE"))


async def faulty(stage: Stage, act: Act) -> None:
    """Act 2."""
    await stage.simulator.set_scenario(FAULTS)
    report = await stage.sync()
    act.reports.append(report)
    act.judge(_not(report, "COMPLETE"), None if report.retries else "no request was repeated")


async def outage(stage: Stage, act: Act) -> None:
    """Act 3: fails in the middle; then a run that is rejected unsent; then a probe that fails."""
    good = await stage.service.store.current()
    await stage.simulator.set_scenario(DYING)
    died = await stage.sync()
    await stage.simulator.set_scenario("outage")
    act.notes.append("Run 1: the supplier dies under way. Nothing of it is published.")
    rejected = await stage.sync()
    act.notes.append(
        f"Run 2, at once: rejected by the open circuit in {rejected.duration_s * 1000:.0f} ms,"
        f" {rejected.attempts} requests sent."
    )
    answer = await stage.reader.search(READ)
    now = await stage.service.store.current()
    await asyncio.sleep(_wait(rejected))
    probed = await stage.sync()
    act.notes.append(
        f"Run 3, when the open time is over: {probed.attempts} probe is sent, fails, and the circuit opens for longer."
    )
    act.notes.append(
        f"Readers meanwhile: {answer.total} bundles for {READ.country}, source {answer.source}, as of {answer.as_of}."
    )
    act.reports += [died, rejected, probed]
    unharmed = good is not None and now == good and answer.version == good.version
    act.notes.append(
        f"Published version before and after: {'the same' if unharmed else 'CHANGED'},"
        f" {now.version if now else 'none'}, {now.bundles if now else 0:,} bundles."
    )
    act.facts["readers"] = {
        "source": answer.source,
        "as_of": answer.as_of,
        "version": answer.version,
        "total": answer.total,
        "unharmed": unharmed,
    }
    act.judge(
        *(_not(report, "FAILED") for report in act.reports),
        None if unharmed else "the published catalogue changed",
        await _not_notified(stage, act, "firing"),
    )


async def recovery(stage: Stage, act: Act) -> None:
    """Act 4: runs like those of a scheduler, each as soon as the previous report allows it."""
    await stage.simulator.set_scenario("calm")
    back = time.time()
    while True:
        report = await stage.sync()
        act.reports.append(report)
        if report.outcome == "COMPLETE" or time.time() - back > GIVE_UP_AFTER:
            break
        await asyncio.sleep(_wait(report))
    complete = time.time()
    await stage.settle([report.correlation_id])
    closed = [c.at for c in figures.changes(stage.received, back, complete, SUPPLIER) if c.target == "closed"]
    act.facts["recovery"] = {
        "circuit_closed_after_s": round(closed[-1] - back, 3) if closed else None,
        "complete_after_s": round(complete - back, 3) if report.outcome == "COMPLETE" else None,
    }
    if closed:
        act.notes.append(f"Supplier back → circuit closed: {closed[-1] - back:.1f} s.")
    if report.outcome == "COMPLETE":
        act.notes.append(f"Supplier back → catalogue COMPLETE: {complete - back:.1f} s.")
    act.judge(
        _not(report, "COMPLETE"),
        None if closed else "the circuit did not close",
        await _not_notified(stage, act, "resolved"),
    )


def _not(report: SyncReport, outcome: str) -> str | None:
    """Why a sync did not end as expected."""
    if report.outcome == outcome:
        return None
    reason = "" if report.error is None else f": {error_line(report.error)}"
    return f"the sync of {report.duration_s:.1f} s ended {report.outcome.value}, not {outcome}{reason}"


async def _not_notified(stage: Stage, act: Act, status: str) -> str | None:
    """Why there was not exactly one message with this status."""
    await asyncio.to_thread(stage.inbox.wait, act.began, status, NOTIFIED_WITHIN)
    came = [each.message["status"] for each in stage.inbox.since(act.began)]
    if came == [status]:
        return None
    return f"the webhook got {', '.join(came) or 'nothing'} within {NOTIFIED_WITHIN:.0f} s, not one message: {status}"


def _wait(report: SyncReport) -> float:
    """How long to wait before the next run, according to the failed run's report."""
    hint = report.error.retry_after_s if report.error is not None else None
    return 0.5 if hint is None else hint + 0.05
