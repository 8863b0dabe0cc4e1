"""Shared state as plain documents, and the steps on them: pure, told the time.

These are the semantics of every storage. The scripts of the Redis storage say the same in Lua, and a test holds the two
together. Calls are counted in ten buckets per monitoring period, so that a document stays small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from otel_resilience.circuitbreaker.states import BreakerState, TransitionReason
from otel_resilience.circuitbreaker.window import BUCKETS
from otel_resilience.storage.protocol import Action, BreakerStep, BreakerView, BudgetStep, BudgetView, Merge

Document = dict[str, Any]
"""A JSON object; empty for what was never used. Its times are seconds on the clock of its storage."""

MAX_DOUBLINGS = 60
"""Further doublings of the open time change nothing: a cap is reached long before."""

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def breaker(document: Document, step: BreakerStep, now: float) -> BreakerView:
    """One step of a circuit breaker. Changes the document."""
    return _Breaker(document, step, now).run()


def budget(document: Document, step: BudgetStep, now: float) -> BudgetView:
    """One step of a retry budget. Changes the document.

    What accrues is bounded by the time since the last step of anybody and by the time that the sender has run: the
    first keeps many senders from paying in many times, the second keeps an idle gap from filling the bucket.
    """
    capacity = step.config.capacity
    tokens = document.get("tokens")
    if tokens is None:
        tokens = capacity if step.claim is None else step.claim
    elif step.claim is not None and step.merge is Merge.REPLACE:
        tokens = step.claim
    else:
        tokens += max(0.0, min(now - document["at"], step.ran)) * step.config.refill_rate
        if step.claim is not None and step.merge is Merge.LOWER:
            tokens = min(tokens, step.claim)
    tokens = min(max(tokens + step.given, 0.0), capacity)
    granted = step.cost > 0 and tokens >= step.cost
    if granted:
        tokens -= step.cost
    document.update(tokens=tokens, at=now)
    return BudgetView(tokens, granted)


def pause(document: Document, seconds: float, now: float) -> float:
    """Seconds left of the longest pause that was asked for. Changes the document."""
    left: float = max(0.0, min(document.get("until", now) - now, document.get("seconds", 0.0)))
    if seconds > left:
        document.update(until=now + seconds, seconds=seconds)
        left = seconds
    return left


class _Breaker:
    def __init__(self, document: Document, step: BreakerStep, now: float) -> None:
        self.step = step
        self.now = now
        self.doc = document
        for name, empty in (("generation", 0), ("state", CLOSED.value), ("openings", 0), ("good", 0), ("run", 0)):
            document.setdefault(name, empty)
        document.setdefault("leases", {})
        for name in ("run_began", "run_last"):
            document.setdefault(name, 0.0)
        width = step.config.monitoring_period / BUCKETS
        if document.get("width") != width:
            document.update(width=width, window=[])
        self.moved = self.granted = self.stale = False
        self.expired = 0

    @property
    def state(self) -> BreakerState:
        return BreakerState(self.doc["state"])

    def run(self) -> BreakerView:
        self._merge()
        self._roll()
        self._count_successes()
        act = self._acts().get(self.step.action)
        if act is not None:
            act()
        return self._view()

    def _acts(self) -> dict[Action, Callable[[], object]]:
        return {
            Action.FAIL: self._fail,
            Action.SLOW: self._slow,
            Action.PROBE: self._probe,
            Action.SUCCEED: self._succeed,
            Action.RELEASE: lambda: self.doc["leases"].pop(self.step.lease, None),
            Action.FORCE_OPEN: self._force_open,
            Action.CLOSE: self._close,
            Action.RESET: self._reset,
        }

    def _merge(self) -> None:
        claim = self.step.claim
        if claim is None:
            return
        doc, now = self.doc, self.now
        if claim.state is self.state:
            doc["generation"] = max(doc["generation"], claim.generation)
            if claim.state is OPEN and claim.open_left > self._open_left():
                doc.update(open_until=now + claim.open_left, open_for=claim.open_left)
            doc["openings"] = max(doc["openings"], claim.openings)
            return
        age = now - doc["changed_at"] if "changed_at" in doc else math.inf
        if claim.age >= age:
            if claim.generation >= doc["generation"]:
                doc["generation"] = claim.generation + 1
            return
        doc.update(
            generation=max(doc["generation"] + 1, claim.generation),
            state=claim.state.value,
            changed_at=now - claim.age,
            open_until=now + claim.open_left,
            open_for=claim.open_left,
            openings=claim.openings,
            opened_at=now - claim.opened_age,
            reason=TransitionReason.SHARED.value,
            error_type="",
        )
        self._forget()

    def _count_successes(self) -> None:
        step = self.step
        if step.successes > 0 and self._is_current():
            self._bucket()[1] += step.successes
            begun = self.now - step.success_age
            if begun >= self.doc["run_last"]:
                self.doc["run"] = 0
            elif begun >= self.doc["run_began"]:
                self.doc.update(run=1, run_began=self.doc["run_last"])

    def _is_current(self) -> bool:
        return self.state is CLOSED and self.step.generation == self.doc["generation"]

    def _fail(self) -> None:
        if self.step.lease:
            if self._end_probe():
                self._open(TransitionReason.PROBE_FAILED)
            return
        if not self._is_current():
            self.stale = True
            return
        self._bucket()[2] += 1
        self.doc["run"] += 1
        self.doc["run_last"] = self.now
        if self.doc["run"] == 1:
            self.doc["run_began"] = self.now
        reason = self._tripped()
        if reason is not None:
            self._open(reason)
        elif self.step.slow:
            self._slow()

    def _slow(self) -> None:
        if not self._is_current():
            self.stale = True
            return
        self._bucket()[3] += 1
        config = self.step.config
        calls = self._sum(1) + self._sum(2)
        if calls >= config.minimum_calls and self._sum(3) >= config.slow_call_rate * calls:
            self._open(TransitionReason.SLOW_CALL_RATE)

    def _tripped(self) -> TransitionReason | None:
        config = self.step.config
        failures = self._sum(2)
        if config.failure_threshold is not None and failures >= config.failure_threshold:
            return TransitionReason.FAILURE_THRESHOLD
        if config.consecutive_failures is not None and self.doc["run"] >= config.consecutive_failures:
            return TransitionReason.CONSECUTIVE_FAILURES
        calls = failures + self._sum(1)
        rate = config.failure_rate
        if rate is not None and calls >= config.minimum_calls and failures >= rate * calls:
            return TransitionReason.FAILURE_RATE
        return None

    def _probe(self) -> None:
        if self.state is OPEN and self._open_left() <= 0:
            self._enter(HALF_OPEN, TransitionReason.OPEN_TIME_ENDED)
        if self.state is not HALF_OPEN:
            return
        leases, slots = self.doc["leases"], self.step.config.half_open_max_calls
        if len(leases) >= slots:
            over = [lease for lease, until in leases.items() if until <= self.now]
            for lease in over:
                del leases[lease]
            self.expired = len(over)
        if len(leases) < slots:
            leases[self.step.lease] = self.now + self.step.lease_for
            self.granted = True

    def _succeed(self) -> None:
        if not self._end_probe():
            return
        if self.step.slow:
            self._open(TransitionReason.SLOW_CALL_RATE)
            return
        self.doc["good"] += 1
        if self.doc["good"] >= self.step.config.half_open_max_calls:
            self._enter(CLOSED, TransitionReason.PROBE_SUCCEEDED)

    def _force_open(self) -> None:
        if self.state is not BreakerState.FORCED_OPEN:
            self._enter(BreakerState.FORCED_OPEN, TransitionReason.MANUAL)

    def _close(self) -> None:
        if self.state is not CLOSED:
            self._enter(CLOSED, TransitionReason.MANUAL)

    def _reset(self) -> None:
        if self.state is not CLOSED:
            self._enter(CLOSED, TransitionReason.MANUAL)
        else:
            self.doc["generation"] += 1
            self._forget()

    def _end_probe(self) -> bool:
        """Gives the slot back. An expired lease costs the slot, not the verdict: that counts as long as the half-open
        state lasts that granted the lease."""
        held = self.doc["leases"].pop(self.step.lease, None) is not None
        counts = held or (self.state is HALF_OPEN and self.step.generation == self.doc["generation"])
        self.stale = not counts
        return counts

    def _open(self, reason: TransitionReason) -> None:
        config, step = self.step.config, self.step
        bound = min(config.open_time_cap, config.reset_timeout * 2.0 ** min(self.doc["openings"], MAX_DOUBLINGS))
        open_for = bound / 2 + bound / 2 * step.fraction
        if step.hint is not None:
            open_for = max(open_for, min(step.hint, config.max_retry_after))
        self.doc.update(open_until=self.now + open_for, open_for=open_for)
        self._enter(OPEN, reason)

    def _enter(self, target: BreakerState, reason: TransitionReason) -> None:
        doc = self.doc
        if target in (OPEN, BreakerState.FORCED_OPEN):
            if self.state is CLOSED:
                doc["opened_at"] = self.now
            doc["openings"] += 1
        doc.update(
            generation=doc["generation"] + 1,
            state=target.value,
            changed_at=self.now,
            reason=reason.value,
            error_type=self.step.error_type if target is OPEN else "",
        )
        if target is CLOSED:
            doc["openings"] = 0
        self._forget()
        self.moved = True

    def _forget(self) -> None:
        self.doc.update(leases={}, good=0, run=0)
        if self.state is CLOSED:
            self.doc["window"] = []

    def _roll(self) -> None:
        first = int(self.now // self.doc["width"]) - BUCKETS
        self.doc["window"] = [bucket for bucket in self.doc["window"] if bucket[0] > first]

    def _bucket(self) -> list[int]:
        index = int(self.now // self.doc["width"])
        window: list[list[int]] = self.doc["window"]
        if not window or window[-1][0] < index:
            window.append([index, 0, 0, 0])
        return window[-1]  # of a clock that went back the last one, too

    def _sum(self, column: int) -> int:
        return sum(bucket[column] for bucket in self.doc["window"])

    def _open_left(self) -> float:
        """Bounded by the open time itself, so that a clock that goes back prolongs it by no more than that."""
        doc = self.doc
        left: float = min(doc.get("open_until", self.now) - self.now, doc.get("open_for", 0.0))
        return max(0.0, left)

    def _busy_for(self) -> float:
        leases = self.doc["leases"]
        if self.state is not HALF_OPEN or len(leases) < self.step.config.half_open_max_calls:
            return 0.0
        first: float = min(leases.values())
        return max(0.0, min(first - self.now, self.step.lease_for))

    def _view(self) -> BreakerView:
        doc, now = self.doc, self.now
        failures, successes = self._sum(2), self._sum(1)
        return BreakerView(
            generation=doc["generation"],
            state=self.state,
            age=max(0.0, now - doc["changed_at"]) if "changed_at" in doc else None,
            open_left=self._open_left() if self.state is OPEN else 0.0,
            openings=doc["openings"],
            opened_age=max(0.0, now - doc.get("opened_at", now)),
            reason=TransitionReason(doc.get("reason", TransitionReason.SHARED.value)),
            error_type=doc.get("error_type", ""),
            failures=failures,
            calls=failures + successes,
            slow=self._sum(3),
            run=doc["run"],
            moved=self.moved,
            granted=self.granted,
            stale=self.stale,
            expired=self.expired,
            busy_for=self._busy_for(),
        )
