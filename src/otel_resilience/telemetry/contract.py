"""The telemetry that this library emits: every name, unit and attribute. Documentation is generated from here."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

SCOPE: Final = "otel_resilience"
"""Name of the tracer, the meter and the logger."""
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

PREFIX: Final = "resilience."
DEPENDENCY: Final = PREFIX + "dependency"
OPERATION: Final = PREFIX + "operation"
ATTEMPTS: Final = PREFIX + "attempts"
OUTCOME: Final = PREFIX + "outcome"
ATTEMPT_NUMBER: Final = PREFIX + "attempt.number"
ATTEMPT_HEDGED: Final = PREFIX + "attempt.hedged"
RETRY_DELAY: Final = PREFIX + "retry.delay"
RETRY_SOURCE: Final = PREFIX + "retry.source"
SUPPRESS_REASON: Final = PREFIX + "retry.suppress_reason"
ERROR_CLASS: Final = PREFIX + "error.class"
ERROR_SEVERITY: Final = PREFIX + "error.severity"
BREAKER_STATE: Final = PREFIX + "circuit_breaker.state"
BREAKER_FROM: Final = PREFIX + "from"
BREAKER_TO: Final = PREFIX + "to"
BREAKER_REASON: Final = PREFIX + "reason"
LIMIT: Final = PREFIX + "limit"
CHANNEL: Final = PREFIX + "channel"
ALERT_SEVERITY: Final = PREFIX + "severity"
ALERT_REASON: Final = PREFIX + "reason"
ALERT_FINGERPRINT: Final = PREFIX + "alert.fingerprint"
ALERT_STATUS: Final = PREFIX + "alert.status"
STORAGE: Final = PREFIX + "storage"
DISABLED: Final = PREFIX + "disabled"
FAULT_INJECTED: Final = PREFIX + "fault.injected"
ERROR_TYPE: Final = "error.type"

ATTEMPT_SPAN: Final = "attempt"
DELIVERY_SPAN: Final = "alert.deliver"

OUTCOMES: Final = ("ok", "ok_after_retry", "fallback", "failed", "rejected", "deadline", "cancelled")
RETRY_SOURCES: Final = ("backoff", "retry_after")
SUPPRESS_REASONS: Final = (
    "budget",
    "deadline",
    "idempotency_unknown",
    "not_idempotent",
    "not_retryable",
    "retry_after_too_long",
    "breaker_open",
    "rate_limited",
    "exhausted_below",
    "shadow",
)
FAULTS: Final = ("error", "latency")
"""Of :data:`FAULT_INJECTED`: what :mod:`otel_resilience.testing.faults` did to an attempt."""
LIMITS: Final = ("rate", "concurrency")
STORAGES: Final = ("memory", "disk", "redis", "other")
"""Kinds of storage that breakers and budgets are shared through."""

EVENT_ATTEMPT_FAILED: Final = PREFIX + "attempt.failed"
EVENT_RETRY_SCHEDULED: Final = PREFIX + "retry.scheduled"
EVENT_RETRY_SHADOWED: Final = PREFIX + "retry.shadowed"
EVENT_RETRY_EXHAUSTED: Final = PREFIX + "retry.exhausted"
EVENT_BUDGET_EXHAUSTED: Final = PREFIX + "retry.budget_exhausted"
EVENT_STATE_CHANGED: Final = PREFIX + "circuit_breaker.state_changed"
EVENT_PROBE_EXPIRED: Final = PREFIX + "circuit_breaker.probe_expired"
EVENT_ERROR_CLASSIFIED: Final = PREFIX + "error.classified"
EVENT_STORAGE_DEGRADED: Final = PREFIX + "storage.degraded"
EVENT_STORAGE_RESTORED: Final = PREFIX + "storage.restored"
EVENT_STORAGE_DAMAGED: Final = PREFIX + "storage.damaged"
ALERT_OUTCOMES: Final = ("delivered", "failed")
"""Of one notification at one channel; ``failed`` once it is given up there."""
ALERT_SUPPRESS_REASONS: Final = (
    "below_severity",
    "cancelled",
    "cooldown",
    "dedup",
    "grouped",
    "inhibited",
    "overflow",
    "silenced",
    "threshold",
)

EVENT_DISABLED: Final = PREFIX + "disabled"
EVENT_ALERT_DELIVERED: Final = PREFIX + "alert.delivered"
EVENT_ALERT_FAILED: Final = PREFIX + "alert.delivery_failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One instrument of the contract."""

    name: str
    kind: Literal["counter", "histogram", "gauge", "updowncounter"]
    unit: str
    attributes: tuple[str, ...]
    description: str
    boundaries: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """One span of the contract."""

    name: str
    kind: str
    attributes: tuple[str, ...]
    description: str


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One event of the contract: a log record with this event name."""

    name: str
    severity: str
    attributes: tuple[str, ...]
    description: str


DURATION_BOUNDARIES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
RECOVERY_BOUNDARIES: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
DELIVERY_BOUNDARIES: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

OPERATION_DURATION: Final = Metric(
    PREFIX + "operation.duration",
    "histogram",
    "s",
    (DEPENDENCY, OPERATION, OUTCOME, ERROR_TYPE),
    "Time of a protected call, waits included.",
    DURATION_BOUNDARIES,
)
OPERATION_ATTEMPTS: Final = Metric(
    PREFIX + "operation.attempts",
    "histogram",
    "{attempt}",
    (DEPENDENCY, OPERATION, OUTCOME),
    "Attempts that a protected call sent.",
    (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0),
)
ERRORS: Final = Metric(
    PREFIX + "errors",
    "counter",
    "{error}",
    (DEPENDENCY, OPERATION, ERROR_TYPE, ERROR_CLASS, ERROR_SEVERITY),
    "Failed attempts by what they failed with.",
)
DELAY: Final = Metric(
    PREFIX + "retry.delay",
    "histogram",
    "s",
    (DEPENDENCY, RETRY_SOURCE),
    "Waits before retries.",
    DURATION_BOUNDARIES,
)
SUPPRESSED: Final = Metric(
    PREFIX + "retry.suppressed",
    "counter",
    "{retry}",
    (DEPENDENCY, SUPPRESS_REASON),
    "Retries that were not made although attempts remained.",
)
BUDGET_UTILIZATION: Final = Metric(
    PREFIX + "retry.budget.utilization",
    "gauge",
    "1",
    (DEPENDENCY,),
    "Share of the retry budget that is spent; of the emptiest where a dependency has several.",
)
LIMIT_WAIT: Final = Metric(
    PREFIX + "limit.wait.duration",
    "histogram",
    "s",
    (DEPENDENCY, LIMIT),
    "Waits for a permit or a slot; what passed at once is not in it.",
    DURATION_BOUNDARIES,
)
LIMIT_REJECTIONS: Final = Metric(
    PREFIX + "limit.rejections",
    "counter",
    "{call}",
    (DEPENDENCY, LIMIT),
    "Calls that a limit could not let pass in time; nothing was sent.",
)
LIMIT_SHADOW_EXCEEDED: Final = Metric(
    PREFIX + "limit.shadow_exceeded",
    "counter",
    "{call}",
    (DEPENDENCY, LIMIT),
    "Calls that shadow mode let pass and an enforcing limit would have made wait or rejected.",
)
CONCURRENCY_IN_FLIGHT: Final = Metric(
    PREFIX + "concurrency.in_flight",
    "updowncounter",
    "{call}",
    (DEPENDENCY,),
    "Calls under way to a dependency whose calls at a time are limited.",
)
TIMEOUT_ABANDONED: Final = Metric(
    PREFIX + "timeout.abandoned",
    "updowncounter",
    "{thread}",
    (DEPENDENCY,),
    "Threads that still run an attempt which was given up at its time limit.",
)
BREAKER_STATUS: Final = Metric(
    PREFIX + "circuit_breaker.status",
    "updowncounter",
    "1",
    (DEPENDENCY, BREAKER_STATE),
    "1 for the state of the circuit, 0 for the others; the worst state where a dependency has several breakers.",
)
BREAKER_TRANSITIONS: Final = Metric(
    PREFIX + "circuit_breaker.transitions",
    "counter",
    "{transition}",
    (DEPENDENCY, BREAKER_FROM, BREAKER_TO, BREAKER_REASON),
    "Changes of state.",
)
BREAKER_REJECTIONS: Final = Metric(
    PREFIX + "circuit_breaker.rejections",
    "counter",
    "{call}",
    (DEPENDENCY,),
    "Calls rejected by an open circuit.",
)
BREAKER_SHADOW_REJECTIONS: Final = Metric(
    PREFIX + "circuit_breaker.shadow_rejections",
    "counter",
    "{call}",
    (DEPENDENCY,),
    "Calls that shadow mode let pass and an enforcing breaker would have rejected.",
)
BREAKER_RECOVERY: Final = Metric(
    PREFIX + "circuit_breaker.recovery.duration",
    "histogram",
    "s",
    (DEPENDENCY,),
    "Time from opening until closed again.",
    RECOVERY_BOUNDARIES,
)
BREAKER_STALE: Final = Metric(
    PREFIX + "circuit_breaker.stale_results",
    "counter",
    "{call}",
    (DEPENDENCY,),
    "Results that arrived after the state had changed and were dropped.",
)
STORAGE_DEGRADED: Final = Metric(
    PREFIX + "storage.degraded",
    "updowncounter",
    "1",
    (STORAGE,),
    "1 while shared state cannot be reached and processes fall back to local state, else 0.",
)
STORAGE_DURATION: Final = Metric(
    PREFIX + "storage.step.duration",
    "histogram",
    "s",
    (STORAGE, ERROR_TYPE),
    "Time of one step of shared state, waits for the storage included.",
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0),
)

ALERT_NOTIFICATIONS: Final = Metric(
    PREFIX + "alert.notifications",
    "counter",
    "{notification}",
    (CHANNEL, ALERT_SEVERITY, OUTCOME, ERROR_TYPE),
    "Notifications that a channel accepted, or that were given up there.",
)
ALERT_SUPPRESSED: Final = Metric(
    PREFIX + "alert.suppressed",
    "counter",
    "{alert}",
    (ALERT_REASON,),
    "Alerts that got no notification of their own; they are counted in the notifications of their incident.",
)
ALERT_DELIVERY_DURATION: Final = Metric(
    PREFIX + "alert.delivery.duration",
    "histogram",
    "s",
    (CHANNEL, OUTCOME),
    "Time from the error until the channel accepted the notification, or until it was given up.",
    DELIVERY_BOUNDARIES,
)
ALERT_QUEUE: Final = Metric(
    PREFIX + "alert.queue.size", "updowncounter", "{notification}", (CHANNEL,), "Notifications that wait for a channel."
)
ALERT_DEAD_LETTERS: Final = Metric(
    PREFIX + "alert.dead_letter.size", "updowncounter", "{notification}", (), "Notifications that no channel took."
)

METRICS: Final = (
    OPERATION_DURATION,
    OPERATION_ATTEMPTS,
    ERRORS,
    DELAY,
    SUPPRESSED,
    BUDGET_UTILIZATION,
    LIMIT_WAIT,
    LIMIT_REJECTIONS,
    LIMIT_SHADOW_EXCEEDED,
    CONCURRENCY_IN_FLIGHT,
    TIMEOUT_ABANDONED,
    BREAKER_STATUS,
    BREAKER_TRANSITIONS,
    BREAKER_REJECTIONS,
    BREAKER_SHADOW_REJECTIONS,
    BREAKER_RECOVERY,
    BREAKER_STALE,
    STORAGE_DEGRADED,
    STORAGE_DURATION,
    ALERT_NOTIFICATIONS,
    ALERT_SUPPRESSED,
    ALERT_DELIVERY_DURATION,
    ALERT_QUEUE,
    ALERT_DEAD_LETTERS,
)

SPANS: Final = (
    Span(
        "{dependency} {operation}",
        "INTERNAL",
        (DEPENDENCY, OPERATION, ATTEMPTS, OUTCOME, ERROR_TYPE, DISABLED),
        "One protected call. ERROR only where it finally failed and no fallback took its place.",
    ),
    Span(
        ATTEMPT_SPAN,
        "INTERNAL",
        (
            DEPENDENCY,
            ATTEMPT_NUMBER,
            ATTEMPT_HEDGED,
            RETRY_DELAY,
            ERROR_TYPE,
            ERROR_CLASS,
            ERROR_SEVERITY,
            FAULT_INJECTED,
        ),
        "One attempt; current while it runs, so that client spans lie inside it. The second of two at once is hedged.",
    ),
    Span(
        DELIVERY_SPAN,
        "INTERNAL",
        (CHANNEL, ALERT_SEVERITY, ALERT_STATUS, ALERT_FINGERPRINT, OUTCOME, ERROR_TYPE),
        "One notification on its way to a channel; linked to the trace that caused it.",
    ),
)

_FAILURE = (DEPENDENCY, OPERATION, ERROR_TYPE)
EVENTS: Final = (
    Event(
        EVENT_ATTEMPT_FAILED,
        "INFO",
        (
            *_FAILURE,
            ERROR_CLASS,
            ERROR_SEVERITY,
            ATTEMPT_NUMBER,
            PREFIX + "attempt.duration",
            "exception.type",
            "exception.message",
        ),
        "An attempt failed.",
    ),
    Event(
        EVENT_RETRY_SCHEDULED,
        "INFO",
        (*_FAILURE, ATTEMPT_NUMBER, RETRY_DELAY, RETRY_SOURCE),
        "A retry will follow after a wait.",
    ),
    Event(
        EVENT_RETRY_SHADOWED,
        "INFO",
        (*_FAILURE, ATTEMPT_NUMBER, RETRY_DELAY, RETRY_SOURCE),
        "Shadow mode: a retry would follow after a wait. None is made.",
    ),
    Event(EVENT_RETRY_EXHAUSTED, "WARN", (*_FAILURE, ATTEMPTS), "All attempts were used up."),
    Event(EVENT_BUDGET_EXHAUSTED, "WARN", (DEPENDENCY,), "The retry budget ran dry; reported once per episode."),
    Event(
        EVENT_STATE_CHANGED,
        "WARN on opening, else INFO",
        (
            DEPENDENCY,
            BREAKER_FROM,
            BREAKER_TO,
            BREAKER_REASON,
            ERROR_TYPE,
            PREFIX + "circuit_breaker.window.failures",
            PREFIX + "circuit_breaker.window.calls",
            PREFIX + "circuit_breaker.open_for",
        ),
        "A circuit breaker changed its state.",
    ),
    Event(
        EVENT_PROBE_EXPIRED,
        "WARN",
        (DEPENDENCY, PREFIX + "circuit_breaker.probes"),
        "A half-open probe did not answer within its lease; its slot is free again.",
    ),
    Event(
        EVENT_STORAGE_DEGRADED,
        "WARN",
        (STORAGE, ERROR_TYPE),
        "Shared state cannot be reached, or not in time: processes fall back to local state. Emitted once per outage.",
    ),
    Event(
        EVENT_STORAGE_RESTORED,
        "INFO",
        (STORAGE, PREFIX + "storage.outage.duration"),
        "Shared state answers again, and what was found out meanwhile was merged.",
    ),
    Event(
        EVENT_STORAGE_DAMAGED,
        "WARN",
        (STORAGE,),
        "A file of shared state cannot be used. It was set aside, and its state starts empty.",
    ),
    Event(
        EVENT_ERROR_CLASSIFIED,
        "INFO for LOW and MEDIUM, WARN for HIGH, ERROR for CRITICAL",
        (*_FAILURE, ERROR_CLASS, ERROR_SEVERITY, PREFIX + "error.unclassified"),
        "An error was classified.",
    ),
    Event(
        EVENT_DISABLED,
        "WARN",
        (),
        "The off switch was used: calls are made once and unprotected from here on.",
    ),
    Event(
        EVENT_ALERT_DELIVERED,
        "INFO",
        (CHANNEL, ALERT_SEVERITY, ALERT_STATUS, ALERT_FINGERPRINT, DEPENDENCY, PREFIX + "alert.delivery.duration"),
        "A channel accepted a notification.",
    ),
    Event(
        EVENT_ALERT_FAILED,
        "ERROR for HIGH and CRITICAL, else WARN",
        (CHANNEL, ALERT_SEVERITY, ALERT_STATUS, ALERT_FINGERPRINT, DEPENDENCY, ERROR_TYPE),
        "A notification was given up at a channel.",
    ),
)
