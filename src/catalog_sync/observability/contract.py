"""The telemetry that the application adds: every name, unit and attribute.

Generated from ``telemetry/catalog`` by ``make docs``.
"""

from __future__ import annotations

from typing import Final

from otel_resilience.telemetry.contract import CORRELATION_ID as CORRELATION_ID
from otel_resilience.telemetry.definitions import Metric

SCOPE: Final = "catalog_sync"
"""Name of the tracer, the meter and the logger."""
SCHEMA_URL: Final = "https://otel-resilience.example/schemas/0.1.0"
"""The registry that defines the names, and its version."""
PREFIX: Final = "catalog."

KIND: Final = "catalog.kind"
"""What a sync covers."""
TRIGGER: Final = "catalog.trigger"
"""What requested a sync."""
OUTCOME: Final = "catalog.outcome"
"""How a sync ended."""
VERSION: Final = "catalog.version"
"""The published version of the catalogue."""
BUNDLES: Final = "catalog.bundles"
"""Number of bundles in the result."""
QUARANTINED: Final = "catalog.quarantined"
"""Rows that were set aside."""
GROUP: Final = "catalog.group"
"""The supplier's name of a group of bundles."""
GROUPS_OK: Final = "catalog.groups.ok"
"""Groups that were fetched."""
GROUPS_STALE: Final = "catalog.groups.stale"
"""Groups that failed and keep their last good data."""
GROUPS_FAILED: Final = "catalog.groups.failed"
"""Groups that failed and have no data."""
REASON: Final = "catalog.reason"
"""Why a row was set aside."""
SOURCE: Final = "catalog.source"
"""Source of the data that a read returned."""
ATTEMPTS: Final = "catalog.sync.attempts"
"""Requests that the sync sent to the supplier."""
RETRIES: Final = "catalog.sync.retries"
"""Number of these requests that were retries."""
DURATION: Final = "catalog.sync.duration"
"""Duration of the sync in seconds."""
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
"""Values of ``error.type``."""
SERVICE_SYNC: Final = "catalog-sync"
"""The command line."""
SERVICE_API: Final = "catalog-api"
"""The HTTP API."""
SERVICE_WORKER: Final = "catalog-worker"
"""A worker of the queue."""
SERVICE_SIMULATOR: Final = "esim-go-simulator"
"""The simulator of the supplier."""
SERVICES: Final = ("catalog-sync", "catalog-api", "catalog-worker", "esim-go-simulator")
"""Values of ``service.name``."""
SYNC_DURATION: Final = Metric(
    "catalog.sync.duration",
    "histogram",
    "s",
    ("catalog.kind", "catalog.outcome"),
    "Duration of a sync, by outcome.",
    (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0),
)
SYNC_BUNDLES: Final = Metric(
    "catalog.sync.bundles", "gauge", "{bundle}", ("catalog.group",), "Number of bundles of a group in the last sync."
)
SYNC_QUARANTINED: Final = Metric(
    "catalog.sync.quarantined", "counter", "{bundle}", ("catalog.group", "catalog.reason"), "Rows that were set aside."
)
AGE: Final = Metric("catalog.age", "gauge", "s", (), "Age of the published catalogue.")
READS: Final = Metric("catalog.reads", "counter", "{read}", ("catalog.source",), "Reads by the source of the data.")
QUEUE_SIZE: Final = Metric("catalog.queue.size", "gauge", "{message}", (), "Messages that no worker has taken.")
QUEUE_WAIT: Final = Metric(
    "catalog.queue.wait",
    "gauge",
    "s",
    (),
    "How long the requested sync has been waiting for a worker; 0 if none is waiting.",
)
QUEUE_DEAD_LETTERS: Final = Metric(
    "catalog.queue.dead_letters",
    "gauge",
    "{message}",
    (),
    "Messages that were set aside because no worker can process them.",
)
WORKER_ALIVE: Final = Metric("catalog.worker.alive", "gauge", "{worker}", (), "Workers that reported recently.")
WORKER_SLOTS: Final = Metric(
    "catalog.worker.slots", "gauge", "{step}", (), "Steps that all workers together can run at a time."
)
WORKER_BUSY: Final = Metric("catalog.worker.busy", "gauge", "{step}", (), "Steps that workers are running.")
CLOCK: Final = Metric(
    "catalog.clock",
    "gauge",
    "s",
    (),
    "The clock of the process, in seconds since the epoch; the difference to the sample's time is its offset.",
)

METRICS: Final = (
    SYNC_DURATION,
    SYNC_BUNDLES,
    SYNC_QUARANTINED,
    AGE,
    READS,
    QUEUE_SIZE,
    QUEUE_WAIT,
    QUEUE_DEAD_LETTERS,
    WORKER_ALIVE,
    WORKER_SLOTS,
    WORKER_BUSY,
    CLOCK,
)

SYNC_SPAN: Final = "catalog.sync"
"""One sync. ERROR only if it failed."""
GROUP_SPAN: Final = "catalog.sync.group"
"""Fetching the bundles of one group."""
PUBLISH_SPAN: Final = "catalog.publish"
"""Staging, checks and the switch of the pointer."""
EVENT_SYNC_FINISHED: Final = "catalog.sync.finished"
"""A sync ended."""
