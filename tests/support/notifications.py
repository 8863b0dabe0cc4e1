"""Notifications for tests of channels and deliveries."""

from __future__ import annotations

import dataclasses
from typing import Any

from otel_resilience import Severity
from otel_resilience.alerting.model.alert import Links, Notification, Status, fingerprint
from otel_resilience.alerting.model.digest import digest

BEGAN = 1_795_500_000.0  # 2026-11-24T06:00:00Z
CORRELATION_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
LINKS = Links(
    trace=f"https://grafana.example/explore?trace={CORRELATION_ID}",
    dashboard="https://grafana.example/d/resilience?var-dependency=supplier",
    runbook="https://runbooks.example/circuit_breaker",
)

_FIRST = Notification(
    id="0d5d1a52-6d1c-4a3a-9a57-6d1ad6c1c001",
    status=Status.FIRING,
    severity=Severity.CRITICAL,
    kind="circuit_breaker",
    title="The circuit of supplier is open",
    summary="Five attempts in a row failed. Readers keep the last good catalogue of 5,212 bundles.",
    dependency="supplier",
    error_type="503",
    error_class="transient",
    correlation_id=CORRELATION_ID,
    span_id="00f067aa0ba902b7",
    fingerprint=fingerprint("circuit_breaker", "supplier"),
    incident="7c1e8d7f2b9a4c55",
    count=1,
    total=1,
    first_seen=BEGAN,
    last_seen=BEGAN,
    escalation=0,
    links=LINKS,
    context={"operation": "list bundles", "failures": 5, "window_s": 60.0, "fallback": True},
    service="catalog-sync",
    error_types={"503": 1},
)


def notification(**changes: Any) -> Notification:
    """A firing CRITICAL notification, with changes."""
    return dataclasses.replace(_FIRST, **changes)


def _another(number: int, **changes: Any) -> Notification:
    kind = changes.pop("kind", "errors")
    return notification(
        id=f"0d5d1a52-6d1c-4a3a-9a57-6d1ad6c1d00{number}",
        incident=f"incident-{number}",
        kind=kind,
        fingerprint=fingerprint(kind, changes.get("dependency", "supplier")),
        first_seen=BEGAN + number,
        last_seen=BEGAN + 10 * number,
        correlation_id=f"{number}{CORRELATION_ID[1:]}",
        links=Links(dashboard=LINKS.dashboard, runbook=f"https://runbooks.example/{kind}"),
        **changes,
    )


_REDIS: dict[str, Any] = {
    "dependency": "redis",
    "error_type": "redis_oom",
    "error_types": {"redis_oom": 40},
    "count": 40,
    "total": 40,
}
_NO_ERROR: dict[str, Any] = {"error_type": None, "error_class": None, "error_types": {}}

SAMPLES: dict[str, Notification] = {
    "firing": notification(),
    "aggregated": notification(
        id="0d5d1a52-6d1c-4a3a-9a57-6d1ad6c1c002",
        severity=Severity.HIGH,
        kind="errors",
        title="Calls to supplier fail",
        summary="",
        fingerprint=fingerprint("errors", "supplier"),
        incident="7c1e8d7f2b9a4c56",
        error_type="connect_timeout",
        count=412,
        total=412,
        last_seen=BEGAN + 60,
        error_types={"connect_timeout": 300, "503": 100, "429": 12},
        links=Links(trace=LINKS.trace),
        context={},
    ),
    "escalated": notification(
        id="0d5d1a52-6d1c-4a3a-9a57-6d1ad6c1c003",
        count=88,
        total=500,
        last_seen=BEGAN + 1860,
        escalation=1,
        reason="escalated",
        error_types={"503": 488, "read_timeout": 12},
    ),
    "resolved": notification(
        id="0d5d1a52-6d1c-4a3a-9a57-6d1ad6c1c004",
        status=Status.RESOLVED,
        title="The circuit of supplier is closed again",
        summary="",
        count=0,
        total=500,
        last_seen=BEGAN + 2472.5,
        reason="resolved",
        error_types={"503": 488, "read_timeout": 12},
    ),
    "digest": digest(
        [
            notification(id="0d5d1a52-6d1c-4a3a-9a57-6d1ad6c1d001"),
            _another(2, severity=Severity.HIGH, title="Calls to redis fail", **_REDIS),
            _another(3, severity=Severity.MEDIUM, kind="schema", title="Field <speed> is new & unknown", **_NO_ERROR),
            _another(4, status=Status.RESOLVED, kind="stale", title="The catalogue is stale", **_NO_ERROR),
        ]
    ),
    "test": notification(
        id="0d5d1a52-6d1c-4a3a-9a57-6d1ad6c1c005",
        severity=Severity.HIGH,
        kind="test",
        title="Test of the alert channels",
        summary="Sent by `catalog-sync alerts test`. Nothing is wrong.",
        dependency=None,
        error_type=None,
        error_class=None,
        fingerprint=fingerprint("test"),
        incident="7c1e8d7f2b9a4c57",
        links=Links(),
        context={},
        reason="test",
        error_types={},
    ),
}
"""One of each kind that people receive."""
