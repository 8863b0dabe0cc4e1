"""The telemetry that the application adds: every name, unit and attribute. Documentation is generated from here."""

from __future__ import annotations

from typing import Final

from otel_resilience.telemetry.contract import ERROR_TYPE, Event, Metric, Span

SCOPE: Final = "catalog_sync"
"""Name of the tracer, the meter and the logger."""
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

SERVICE_SYNC: Final = "catalog-sync"
SERVICE_API: Final = "catalog-api"
SERVICE_WORKER: Final = "catalog-worker"
SERVICE_SIMULATOR: Final = "esim-go-simulator"
SERVICES: Final = (SERVICE_SYNC, SERVICE_API, SERVICE_WORKER, SERVICE_SIMULATOR)
"""Values of ``service.name``."""

PREFIX: Final = "catalog."
KIND: Final = PREFIX + "kind"
TRIGGER: Final = PREFIX + "trigger"
OUTCOME: Final = PREFIX + "outcome"
VERSION: Final = PREFIX + "version"
BUNDLES: Final = PREFIX + "bundles"
QUARANTINED: Final = PREFIX + "quarantined"
GROUP: Final = PREFIX + "group"
GROUP_STATUS: Final = PREFIX + "group.status"
GROUPS_OK: Final = PREFIX + "groups.ok"
GROUPS_STALE: Final = PREFIX + "groups.stale"
GROUPS_FAILED: Final = PREFIX + "groups.failed"
REASON: Final = PREFIX + "reason"
SOURCE: Final = PREFIX + "source"
ATTEMPTS: Final = PREFIX + "sync.attempts"
RETRIES: Final = PREFIX + "sync.retries"
DURATION: Final = PREFIX + "sync.duration"
CORRELATION_ID: Final = "correlation.id"

ERROR_TYPES: Final = (
    "already_published",
    "bundle_not_found",
    "catalog_too_old",
    "catalog_unavailable",
    "configuration",
    "incident_not_found",
    "job_abandoned",
    "job_not_found",
    "job_poisoned",
    "lock_lost",
    "not_durable",
    "publish_refused",
    "staging_incomplete",
    "sync_conflict",
    "unknown_scope",
    "version_gone",
)
"""What the application adds to the vocabulary of ``error.type``."""

SYNC_SPAN: Final = "catalog.sync"
GROUP_SPAN: Final = "catalog.sync.group"
PUBLISH_SPAN: Final = "catalog.publish"

EVENT_SYNC_FINISHED: Final = "catalog.sync.finished"

SYNC_BOUNDARIES: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)

SYNC_DURATION: Final = Metric(
    PREFIX + "sync.duration", "histogram", "s", (KIND, OUTCOME), "Time of a sync, by how it ended.", SYNC_BOUNDARIES
)
SYNC_BUNDLES: Final = Metric(
    PREFIX + "sync.bundles", "gauge", "{bundle}", (GROUP,), "Bundles of a group in the last sync."
)
SYNC_QUARANTINED: Final = Metric(
    PREFIX + "sync.quarantined", "counter", "{bundle}", (GROUP, REASON), "Rows that were set aside."
)
AGE: Final = Metric(PREFIX + "age", "gauge", "s", (), "Age of the published catalogue.")
READS: Final = Metric(PREFIX + "reads", "counter", "{read}", (SOURCE,), "Reads by where the answer came from.")

METRICS: Final = (SYNC_DURATION, SYNC_BUNDLES, SYNC_QUARANTINED, AGE, READS)

_RESULT = (
    KIND,
    OUTCOME,
    VERSION,
    BUNDLES,
    QUARANTINED,
    GROUPS_OK,
    GROUPS_STALE,
    GROUPS_FAILED,
    ATTEMPTS,
    RETRIES,
    ERROR_TYPE,
)

SPANS: Final = (
    Span(SYNC_SPAN, "INTERNAL", (TRIGGER, *_RESULT), "One sync. ERROR only where it failed."),
    Span(GROUP_SPAN, "INTERNAL", (GROUP, GROUP_STATUS, BUNDLES, ERROR_TYPE), "The bundles of one group."),
    Span(PUBLISH_SPAN, "INTERNAL", (VERSION, BUNDLES, ERROR_TYPE), "Staging, checks and the swap of the pointer."),
)

EVENTS: Final = (
    Event(
        EVENT_SYNC_FINISHED,
        "INFO for COMPLETE and SKIPPED_LOCKED, WARN for PARTIAL and LOCK_UNAVAILABLE, ERROR for FAILED",
        (*_RESULT, DURATION, CORRELATION_ID),
        "A sync ended.",
    ),
)
