"""Notifies a person once, with the evidence: alerts become incidents, incidents notifications, channels deliver them.

    from otel_resilience.alerting import Alert, AlertConfig, AlertService, ResilienceSource, Route
    from otel_resilience.alerting.channels import from_url

    service = AlertService(AlertConfig(service="checkout"), [Route(from_url(webhook_url))], outbox=Outbox(folder))
    with service, ResilienceSource(service):
        ...

Importing this package needs only ``opentelemetry-api``; channels that use HTTP need httpx, ``RedisStore`` redis-py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_resilience._internal.lazy import lazy_names

if TYPE_CHECKING:
    from otel_resilience.alerting.channels.base import Channel
    from otel_resilience.alerting.delivery.config import DeliveryConfig
    from otel_resilience.alerting.delivery.ledger import Route
    from otel_resilience.alerting.delivery.receipt import Receipt
    from otel_resilience.alerting.heartbeat import Heartbeat
    from otel_resilience.alerting.model.alert import Alert, Links, Notification, Status, fingerprint
    from otel_resilience.alerting.model.book import IncidentBook
    from otel_resilience.alerting.model.config import AlertConfig, EscalationStep, Inhibition, Silence, Thresholds
    from otel_resilience.alerting.model.incident import Incident, Phase
    from otel_resilience.alerting.persistence.outbox import Outbox
    from otel_resilience.alerting.persistence.redis_store import RedisStore
    from otel_resilience.alerting.persistence.store import DiskStore, FallbackStore, IncidentStore, MemoryStore
    from otel_resilience.alerting.service import AlertService
    from otel_resilience.alerting.sources import ResilienceSource, SourceConfig

__all__ = [
    "Alert",
    "AlertConfig",
    "AlertService",
    "Channel",
    "DeliveryConfig",
    "DiskStore",
    "EscalationStep",
    "FallbackStore",
    "Heartbeat",
    "Incident",
    "IncidentBook",
    "IncidentStore",
    "Inhibition",
    "Links",
    "MemoryStore",
    "Notification",
    "Outbox",
    "Phase",
    "Receipt",
    "RedisStore",
    "ResilienceSource",
    "Route",
    "Silence",
    "SourceConfig",
    "Status",
    "Thresholds",
    "fingerprint",
]

_HOMES = {
    "channels.base": "Channel",
    "delivery.config": "DeliveryConfig",
    "delivery.ledger": "Route",
    "delivery.receipt": "Receipt",
    "heartbeat": "Heartbeat",
    "model.alert": "Alert Links Notification Status fingerprint",
    "model.book": "IncidentBook",
    "model.config": "AlertConfig EscalationStep Inhibition Silence Thresholds",
    "model.incident": "Incident Phase",
    "persistence.outbox": "Outbox",
    "persistence.redis_store": "RedisStore",
    "persistence.store": "DiskStore FallbackStore IncidentStore MemoryStore",
    "service": "AlertService",
    "sources": "ResilienceSource SourceConfig",
}
"""Which module defines which names."""

if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
