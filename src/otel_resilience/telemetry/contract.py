"""The telemetry that this library emits: every name, unit and attribute.

Generated from ``telemetry/resilience`` by ``make docs``.
"""

from __future__ import annotations

from typing import Final

from otel_resilience.telemetry.definitions import Metric as Metric

SCOPE: Final = "otel_resilience"
"""Name of the tracer, the meter and the logger."""
SCHEMA_URL: Final = "https://otel-resilience.example/schemas/0.1.0"
"""The registry that defines the names, and its version."""
PREFIX: Final = "resilience."

DEPENDENCY: Final = "resilience.dependency"
"""What the call depends on; the unit of breakers, budgets and limits."""
OPERATION: Final = "resilience.operation"
"""What the dependency is asked to do."""
ATTEMPTS: Final = "resilience.attempts"
"""Attempts that the call sent; 0 if it was rejected before the first."""
OUTCOME: Final = "resilience.outcome"
"""How a protected call, or the delivery of a notification, ended."""
OUTCOMES: Final = ("ok", "ok_after_retry", "fallback", "failed", "rejected", "deadline", "cancelled")
"""Values of ``resilience.outcome``."""
ALERT_OUTCOMES: Final = ("delivered", "failed")
"""Values of ``resilience.outcome``."""
ATTEMPT_NUMBER: Final = "resilience.attempt.number"
"""Number of the attempt within its call, starting at 1."""
ATTEMPT_HEDGED: Final = "resilience.attempt.hedged"
"""Whether this is the hedge: the second of two concurrent attempts."""
ATTEMPT_DURATION: Final = "resilience.attempt.duration"
"""Seconds from the beginning of the attempt until it failed."""
RETRY_DELAY: Final = "resilience.retry.delay"
"""Seconds of the wait before this attempt."""
RETRY_SOURCE: Final = "resilience.retry.source"
"""Where the length of a wait comes from."""
RETRY_SOURCES: Final = ("backoff", "retry_after")
"""Values of ``resilience.retry.source``."""
SUPPRESS_REASON: Final = "resilience.retry.suppress_reason"
"""Why a retry was not made although there were attempts left."""
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
"""Values of ``resilience.retry.suppress_reason``."""
DISABLED: Final = "resilience.disabled"
"""Whether the off switch was on, so that the call was made once and unprotected."""
FAULT_INJECTED: Final = "resilience.fault.injected"
"""The fault that a test or an experiment injected into the attempt."""
FAULTS: Final = ("error", "latency")
"""Values of ``resilience.fault.injected``."""
ERROR_CLASS: Final = "resilience.error.class"
"""The kind of failure, which decides whether a retry can help."""
ERROR_SEVERITY: Final = "resilience.error.severity"
"""How urgently the error is reported."""
ERROR_UNCLASSIFIED: Final = "resilience.error.unclassified"
"""Whether no rule matched the exception."""
BREAKER_STATE: Final = "resilience.circuit_breaker.state"
"""A state of a circuit breaker."""
BREAKER_FROM: Final = "resilience.from"
"""The state before the transition."""
BREAKER_TO: Final = "resilience.to"
"""The state after the transition."""
BREAKER_REASON: Final = "resilience.reason"
"""Why a circuit breaker changed its state, or why an alert was not notified separately."""
ALERT_REASON: Final = "resilience.reason"
"""Why a circuit breaker changed its state, or why an alert was not notified separately."""
ALERT_SUPPRESS_REASONS: Final = (
    "below_severity",
    "cancelled",
    "cooldown",
    "dedup",
    "grouped",
    "inhibited",
    "overflow",
    "rate_limit",
    "silenced",
    "threshold",
)
"""Values of ``resilience.reason``."""
BREAKER_WINDOW_FAILURES: Final = "resilience.circuit_breaker.window.failures"
"""Failures in the window when the state changed."""
BREAKER_WINDOW_CALLS: Final = "resilience.circuit_breaker.window.calls"
"""Calls in the window when the state changed."""
BREAKER_OPEN_FOR: Final = "resilience.circuit_breaker.open_for"
"""Seconds until a probe may pass."""
BREAKER_PROBES: Final = "resilience.circuit_breaker.probes"
"""Half-open probes that did not end in time."""
LIMIT: Final = "resilience.limit"
"""Which limit it is."""
LIMITS: Final = ("rate", "concurrency")
"""Values of ``resilience.limit``."""
STORAGE: Final = "resilience.storage"
"""Kind of storage through which breakers and budgets are shared."""
STORAGES: Final = ("memory", "disk", "redis", "other")
"""Values of ``resilience.storage``."""
OUTAGE_DURATION: Final = "resilience.outage.duration"
"""Seconds for which shared state could not be reached."""
CHANNEL: Final = "resilience.channel"
"""Name of the channel to which notifications are sent."""
ALERT_SEVERITY: Final = "resilience.severity"
"""Severity of the incident that a notification is about."""
ALERT_STATUS: Final = "resilience.alert.status"
"""Whether the incident is ongoing."""
ALERT_FINGERPRINT: Final = "resilience.alert.fingerprint"
"""Identity of the incident; it stays the same while the incident lasts."""
ALERT_DELIVERY_SECONDS: Final = "resilience.alert.delivery.duration"
"""Seconds from the error until the channel accepted the notification."""
ALERT_ACTION: Final = "resilience.alert.action.name"
"""What a person did with an incident."""
ALERT_ACTION_BY: Final = "resilience.alert.action.by"
"""The name that the person gave; redacted."""
ALERT_ACTION_REASON: Final = "resilience.alert.action.reason"
"""The reason that the person gave; redacted."""
ALERT_INCIDENT: Final = "resilience.alert.incident"
"""Identity of the incident in its store."""
CORRELATION_ID: Final = "correlation.id"
"""The trace ID of the work that a record belongs to, 32 hex digits; also a member of the baggage."""
ERROR_TYPE: Final = "error.type"
"""Its values stand in ``classification.error_types``."""
OPERATION_DURATION: Final = Metric(
    "resilience.operation.duration",
    "histogram",
    "s",
    ("resilience.dependency", "resilience.operation", "resilience.outcome", "error.type"),
    "Duration of a protected call, waits included.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
OPERATION_ATTEMPTS: Final = Metric(
    "resilience.operation.attempts",
    "histogram",
    "{attempt}",
    ("resilience.dependency", "resilience.operation", "resilience.outcome"),
    "Attempts that a protected call sent.",
    (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0),
)
ERRORS: Final = Metric(
    "resilience.errors",
    "counter",
    "{error}",
    (
        "resilience.dependency",
        "resilience.operation",
        "error.type",
        "resilience.error.class",
        "resilience.error.severity",
    ),
    "Failed attempts by error.",
)
DELAY: Final = Metric(
    "resilience.retry.delay",
    "histogram",
    "s",
    ("resilience.dependency", "resilience.retry.source"),
    "Waits before retries.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
SUPPRESSED: Final = Metric(
    "resilience.retry.suppressed",
    "counter",
    "{retry}",
    ("resilience.dependency", "resilience.retry.suppress_reason"),
    "Retries that were not made although there were attempts left.",
)
BUDGET_UTILIZATION: Final = Metric(
    "resilience.retry.budget.utilization",
    "gauge",
    "1",
    ("resilience.dependency",),
    "Spent share of the retry budget; if a dependency has several, that of the emptiest one.",
)
LIMIT_WAIT: Final = Metric(
    "resilience.limit.wait.duration",
    "histogram",
    "s",
    ("resilience.dependency", "resilience.limit"),
    "Waits for a permit or a slot; calls that passed at once are not included.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
LIMIT_REJECTIONS: Final = Metric(
    "resilience.limit.rejections",
    "counter",
    "{call}",
    ("resilience.dependency", "resilience.limit"),
    "Calls that got no permit or slot in time; nothing was sent.",
)
LIMIT_SHADOW_EXCEEDED: Final = Metric(
    "resilience.limit.shadow_exceeded",
    "counter",
    "{call}",
    ("resilience.dependency", "resilience.limit"),
    "Calls that an enforcing limit would have delayed or rejected, but shadow mode let pass.",
)
CONCURRENCY_IN_FLIGHT: Final = Metric(
    "resilience.concurrency.in_flight",
    "updowncounter",
    "{call}",
    ("resilience.dependency",),
    "Calls in flight to a dependency with a concurrency limit.",
)
TIMEOUT_ABANDONED: Final = Metric(
    "resilience.timeout.abandoned",
    "updowncounter",
    "{thread}",
    ("resilience.dependency",),
    "Threads that are still running an attempt that was abandoned at its time limit.",
)
BREAKER_STATUS: Final = Metric(
    "resilience.circuit_breaker.status",
    "updowncounter",
    "1",
    ("resilience.dependency", "resilience.circuit_breaker.state"),
    "1 for the state of the circuit, 0 for the others; if a dependency has several breakers, the worst state counts.",
)
BREAKER_TRANSITIONS: Final = Metric(
    "resilience.circuit_breaker.transitions",
    "counter",
    "{transition}",
    ("resilience.dependency", "resilience.from", "resilience.to", "resilience.reason"),
    "State changes of circuit breakers.",
)
BREAKER_REJECTIONS: Final = Metric(
    "resilience.circuit_breaker.rejections",
    "counter",
    "{call}",
    ("resilience.dependency",),
    "Calls rejected by an open circuit.",
)
BREAKER_SHADOW_REJECTIONS: Final = Metric(
    "resilience.circuit_breaker.shadow_rejections",
    "counter",
    "{call}",
    ("resilience.dependency",),
    "Calls that an enforcing breaker would have rejected, but shadow mode let pass.",
)
BREAKER_RECOVERY: Final = Metric(
    "resilience.circuit_breaker.recovery.duration",
    "histogram",
    "s",
    ("resilience.dependency",),
    "Time from the opening of a circuit until it is closed again.",
    (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)
BREAKER_STALE: Final = Metric(
    "resilience.circuit_breaker.stale_results",
    "counter",
    "{call}",
    ("resilience.dependency",),
    "Results that arrived after the state had changed and were dropped.",
)
STORAGE_DEGRADED: Final = Metric(
    "resilience.storage.degraded",
    "updowncounter",
    "1",
    ("resilience.storage",),
    "1 while shared state cannot be reached and processes use local state instead, otherwise 0.",
)
STORAGE_DURATION: Final = Metric(
    "resilience.storage.step.duration",
    "histogram",
    "s",
    ("resilience.storage", "error.type"),
    "Duration of one step of shared state, waits for the storage included.",
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0),
)
ALERT_NOTIFICATIONS: Final = Metric(
    "resilience.alert.notifications",
    "counter",
    "{notification}",
    ("resilience.channel", "resilience.severity", "resilience.outcome", "error.type"),
    "Notifications that a channel accepted, or failed to deliver and gave up.",
)
ALERT_SUPPRESSED: Final = Metric(
    "resilience.alert.suppressed",
    "counter",
    "{alert}",
    ("resilience.reason",),
    "Alerts that were not notified separately; they are counted in the notifications of their incident.",
)
ALERT_DELIVERY_DURATION: Final = Metric(
    "resilience.alert.delivery.duration",
    "histogram",
    "s",
    ("resilience.channel", "resilience.outcome"),
    "Time from the error until the channel accepted the notification, or until it was given up.",
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
ALERT_QUEUE: Final = Metric(
    "resilience.alert.queue.size",
    "updowncounter",
    "{notification}",
    ("resilience.channel",),
    "Notifications waiting for a channel.",
)
ALERT_DEAD_LETTERS: Final = Metric(
    "resilience.alert.dead_letter.size",
    "updowncounter",
    "{notification}",
    (),
    "Notifications that no channel accepted.",
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

ATTEMPT_SPAN: Final = "attempt"
"""One attempt, current while it runs, so that client spans are nested in it. A hedge is marked."""
DELIVERY_SPAN: Final = "alert.deliver"
"""The delivery of one notification to a channel; linked to the trace that caused it."""
EVENT_ATTEMPT_FAILED: Final = "resilience.attempt.failed"
"""An attempt failed."""
EVENT_RETRY_SCHEDULED: Final = "resilience.retry.scheduled"
"""A retry will follow after a wait."""
EVENT_RETRY_SHADOWED: Final = "resilience.retry.shadowed"
"""Shadow mode: a retry would follow after a wait, but none is made."""
EVENT_RETRY_EXHAUSTED: Final = "resilience.retry.exhausted"
"""All attempts were used up."""
EVENT_BUDGET_EXHAUSTED: Final = "resilience.retry.budget_exhausted"
"""The retry budget became empty; reported once per episode."""
EVENT_STATE_CHANGED: Final = "resilience.circuit_breaker.state_changed"
"""A circuit breaker changed its state."""
EVENT_PROBE_EXPIRED: Final = "resilience.circuit_breaker.probe_expired"
"""A half-open probe did not end within its lease; its slot is free again."""
EVENT_STORAGE_DEGRADED: Final = "resilience.storage.degraded"
"""Shared state cannot be reached, or not in time, so processes use local state instead. Emitted once per outage."""
EVENT_STORAGE_RESTORED: Final = "resilience.storage.restored"
"""Shared state responds again, and the local changes made meanwhile were merged into it."""
EVENT_STORAGE_DAMAGED: Final = "resilience.storage.damaged"
"""A file of shared state is unusable. It was moved aside, and its state starts empty."""
EVENT_ERROR_CLASSIFIED: Final = "resilience.error.classified"
"""An error was classified."""
EVENT_DISABLED: Final = "resilience.disabled"
"""The off switch was used: from now on, calls are made once and unprotected."""
EVENT_ALERT_DELIVERED: Final = "resilience.alert.delivered"
"""A channel accepted a notification."""
EVENT_ALERT_FAILED: Final = "resilience.alert.delivery_failed"
"""A channel failed to deliver a notification and gave it up."""
EVENT_ALERT_HANDLED: Final = "resilience.alert.handled"
"""A person acknowledged, silenced, closed or resent an incident, from the command line, the status page or the API."""
