"""Shared state as plain documents, and the steps on them: pure, the time is passed in.

The rules are those of the local machine, bucket and window; a step loads one, applies the action, and writes it back.
Every storage uses these functions.
"""

from __future__ import annotations

import math
from typing import Any

from otel_resilience.circuitbreaker.machine import BreakerMachine, Permit
from otel_resilience.circuitbreaker.states import BreakerState, Transition, TransitionReason
from otel_resilience.limits.sliding_log import SlidingLog
from otel_resilience.retries.bucket import TokenBucket
from otel_resilience.storage.protocol import (
    Action,
    BreakerStep,
    BreakerView,
    BudgetStep,
    BudgetView,
    Claim,
    Merge,
    RateStep,
    RateView,
)

Document = dict[str, Any]
"""A JSON object; empty if it was never used. Its times are seconds on the storage's clock."""

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
STALE: Permit = -1
"""The permit of a result that belongs to no call of the present state."""


def breaker(document: Document, step: BreakerStep, now: float) -> BreakerView:
    """One step of a circuit breaker. Changes the document."""
    machine = BreakerMachine.load(document, step.config, now, lease=step.lease_for, fraction=lambda: step.fraction)
    if step.claim is not None:
        _merge(machine, step.claim, now)
    machine.window.roll(now)
    if step.successes > 0 and _is_current(machine, step):
        machine.count_successes(step.successes, now, began=now - step.success_age)
    transition, granted = _apply(machine, step, now)
    document.update(machine.dump())
    left = machine.retry_after(now) or 0.0
    return BreakerView(
        generation=machine.generation,
        state=machine.state,
        age=max(0.0, now - machine.since) if math.isfinite(machine.since) else None,
        open_left=left if machine.state is OPEN else 0.0,
        openings=machine.openings,
        opened_age=max(0.0, now - machine.first_opened_at) if math.isfinite(machine.first_opened_at) else 0.0,
        reason=TransitionReason(document.get("reason", TransitionReason.SHARED.value)),
        error_type=document.get("error_type", ""),
        failures=machine.window.failures,
        calls=machine.window.calls,
        slow=machine.window.slow,
        run=machine.consecutive_failures,
        moved=transition is not None,
        granted=granted,
        stale=machine.stale_results > 0,
        expired=machine.expired_probes,
        busy_for=min(left, step.lease_for) if machine.state is HALF_OPEN else 0.0,
    )


def budget(document: Document, step: BudgetStep, now: float) -> BudgetView:
    """One step of a retry budget. Changes the document.

    Accrual is limited by the time since anyone's last step and by the running time of the sender: the first keeps many
    senders from adding several times, the second keeps an idle gap from filling the bucket.
    """
    claim, known = step.claim, "tokens" in document
    if known and (claim is None or step.merge is not Merge.REPLACE):
        bucket = TokenBucket.load(step.config, document["tokens"], max(document["at"], now - step.ran))
        bucket.refill(now)
        if claim is not None and step.merge is Merge.LOWER:
            bucket.set(min(bucket.tokens, claim), now)
    else:
        bucket = TokenBucket.load(step.config, step.config.capacity if claim is None else claim, now)
    bucket.set(bucket.tokens + step.given, now)
    granted = step.cost > 0 and bucket.take(step.cost, now)
    document.update(tokens=bucket.tokens, at=now)
    return BudgetView(bucket.tokens, granted)


def rate(document: Document, step: RateStep, now: float) -> RateView:
    """One step of a rate limit. Changes the document."""
    log = SlidingLog.load(document, step.limit, step.window)
    if step.pause > 0:
        log.pause(now + step.pause)
    ready = log.ready_at(now, max(step.cost, 1))
    granted = step.cost > 0 and ready <= now
    if granted:
        log.take(now, step.cost)
    document.update(log.dump())
    return RateView(ready - now, granted)


def pause(document: Document, seconds: float, now: float) -> float:
    """Seconds left of the longest requested pause. Changes the document."""
    left: float = max(0.0, min(document.get("until", now) - now, document.get("seconds", 0.0)))
    if seconds > left:
        document.update(until=now + seconds, seconds=seconds)
        left = seconds
    return left


def _merge(machine: BreakerMachine, claim: Claim, now: float) -> None:
    """The newer state wins, and no generation number is ever reused."""
    if claim.state is machine.state:
        if claim.state is OPEN and claim.open_left > (machine.retry_after(now) or 0.0):
            machine.extend_open_time(now, claim.open_left)
        machine.openings = max(machine.openings, claim.openings)
    elif claim.age < now - machine.since:
        machine.adopt(
            claim.state,
            now,
            reason=TransitionReason.SHARED,
            age=claim.age,
            open_left=claim.open_left,
            openings=claim.openings,
            opened_age=claim.opened_age,
        )
    elif claim.generation >= machine.generation:
        machine.skip_to(claim.generation + 1)
    machine.skip_to(claim.generation)


def _apply(machine: BreakerMachine, step: BreakerStep, now: float) -> tuple[Transition | None, bool]:
    """The change of state that the step caused, and whether its lease was granted."""
    match step.action:
        case Action.LOOK:
            return None, False
        case Action.SLOW if not _is_current(machine, step):
            machine.stale_results += 1
            return None, False
        case Action.SLOW:
            return machine.mark_slow(now), False
        case Action.PROBE:
            return machine.tick(now), machine.admit_probe(step.lease, now)
        case Action.SUCCEED:
            return machine.succeed(_permit(machine, step), now, slow=step.slow), False
        case Action.FAIL:
            permit, error_type = _permit(machine, step), step.error_type or None
            return machine.fail(permit, now, slow=step.slow, error_type=error_type, hint=step.hint), False
        case Action.RELEASE:
            machine.forget(step.lease)
            return None, False
        case Action.FORCE_OPEN:
            return machine.force_open(now), False
        case Action.CLOSE:
            return machine.close(now), False
        case Action.RESET:
            return machine.reset(now), False


def _is_current(machine: BreakerMachine, step: BreakerStep) -> bool:
    return machine.state is CLOSED and step.generation == machine.generation


def _permit(machine: BreakerMachine, step: BreakerStep) -> Permit:
    if not step.lease:
        return machine.generation if _is_current(machine, step) else STALE
    if machine.state is HALF_OPEN and step.generation == machine.generation and not machine.holds(step.lease):
        return machine.generation + 1  # a probe of this state whose lease expired: its verdict still counts
    return step.lease
