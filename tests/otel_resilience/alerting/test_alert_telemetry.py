"""The telemetry of the alert service, compared with the contract; and links to the cause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.metrics.export import Histogram, Sum
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from tools.telemetry import signals

from otel_resilience import Severity
from otel_resilience.alerting import AlertConfig, AlertService, Inhibition, Outbox, Route, Silence
from otel_resilience.alerting.channels import WebhookChannel
from otel_resilience.telemetry import contract
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.alert_receivers import FakeWebhook, served
from support.alerting import EPOCH, Inbox, RefusedFault, World, alert
from support.conventions import findings, sink_of
from support.resilience import TransientFault, context_of

CHANNEL, SEVERITY = "resilience.channel", "resilience.severity"
STATUS, FINGERPRINT = "resilience.alert.status", "resilience.alert.fingerprint"
OUTCOME, REASON, DEPENDENCY = "resilience.outcome", "resilience.reason", "resilience.dependency"

METRICS = {
    "resilience.alert.notifications": ("counter", "{notification}", {CHANNEL, SEVERITY, OUTCOME, "error.type"}),
    "resilience.alert.suppressed": ("counter", "{alert}", {REASON}),
    "resilience.alert.delivery.duration": ("histogram", "s", {CHANNEL, OUTCOME}),
    "resilience.alert.queue.size": ("updowncounter", "{notification}", {CHANNEL}),
    "resilience.alert.dead_letter.size": ("updowncounter", "{notification}", set()),
}
EVENTS = {
    "resilience.alert.delivered": {
        CHANNEL, SEVERITY, STATUS, FINGERPRINT, DEPENDENCY, "resilience.alert.delivery.duration",
    },
    "resilience.alert.delivery_failed": {CHANNEL, SEVERITY, STATUS, FINGERPRINT, DEPENDENCY, "error.type"},
    "resilience.alert.handled": {
        SEVERITY, FINGERPRINT, DEPENDENCY, "resilience.alert.incident", "resilience.alert.action.name",
        "resilience.alert.action.by", "resilience.alert.action.reason",
    },
}  # fmt: skip
SPAN = {CHANNEL, SEVERITY, STATUS, FINGERPRINT, OUTCOME, "error.type"}
CLOSED_SETS = {
    SEVERITY: {"LOW", "MEDIUM", "HIGH", "CRITICAL"},
    STATUS: {"firing", "resolved"},
    OUTCOME: {"delivered", "failed"},
    CHANNEL: {"one", "two"},
    REASON: {
        "below_severity", "cancelled", "cooldown", "dedup", "grouped", "inhibited", "overflow", "rate_limit",
        "silenced", "threshold",
    },
}  # fmt: skip
CONFIG = AlertConfig(
    escalation=(),
    min_severity=Severity.MEDIUM,
    max_incidents=12,
    silences=(Silence(kind="silent"),),
    inhibitions=(Inhibition(frozenset({"outage"}), frozenset({"errors"})),),
)


@pytest.fixture
def recorded() -> Iterator[RecordedTelemetry]:
    with RecordedTelemetry().recording() as recording:
        yield recording


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(EPOCH)


def everything(clock: FakeClock) -> World:
    """An alert for every reason to hold one back, and deliveries that end in every way."""
    one, two = Inbox(clock, "one", min_interval=1.0, coalesce_from=2), Inbox(clock, "two")
    world = World([Route(one), Route(two)], CONFIG, clock=clock)
    world.report("low", Severity.LOW)
    world.report("silent")
    world.report("watched", threshold=3)
    world.report("over")
    world.resolve("over")
    world.report("raised", Severity.MEDIUM)
    world.report("raised", Severity.MEDIUM)
    world.report("outage")
    world.report("errors")
    world.run(10)
    world.report("raised", Severity.HIGH)
    world.resolve("outage", certain=True)
    world.run(1)
    world.report("outage")
    for number in range(20):
        world.report(f"kind {number}")
    world.run(100)
    one.fails, two.fails = TransientFault(), RefusedFault()
    world.report("raised", Severity.CRITICAL)
    world.run(10)
    one.fails = RefusedFault()
    world.run(100)
    world.service.acknowledge(world.service.incidents()[0].id, by="ada", reason="on it")
    return world


class TestEveryName:
    def test_metrics(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        world = everything(clock)
        seen = {}
        data = recorded._reader.get_metrics_data()
        assert data is not None
        for metric in (m for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics):
            if not metric.name.startswith("resilience.alert."):
                continue
            kind = "updowncounter"
            if isinstance(metric.data, Histogram):
                kind = "histogram"
            elif isinstance(metric.data, Sum) and metric.data.is_monotonic:
                kind = "counter"
            keys = [set(point.attributes or {}) for point in metric.data.data_points]
            seen[metric.name] = (kind, metric.unit, set().union(*keys))
        assert seen == METRICS
        assert seen == {
            metric.name: (metric.kind, metric.unit, set(metric.attributes))
            for metric in contract.METRICS
            if metric.name.startswith("resilience.alert.")
        }
        assert world.service.dead_letter_count() > 0

    def test_attribute_values_come_from_closed_sets(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        world = everything(clock)
        seen: dict[str, set[Any]] = {}
        for point in recorded.points():
            if point.metric.startswith("resilience.alert."):
                for key, found in point.attributes.items():
                    seen.setdefault(key, set()).add(found)
        assert seen.pop("error.type") == {"503", "400"}
        assert seen.pop(CHANNEL) >= {"one", "two"}
        for key, found in seen.items():
            assert found <= CLOSED_SETS[key]
        assert seen[REASON] == CLOSED_SETS[REASON] == set(contract.ALERT_SUPPRESS_REASONS)
        assert seen[OUTCOME] == CLOSED_SETS[OUTCOME] == set(contract.ALERT_OUTCOMES)
        assert world.service.queue_sizes() == {"one": 0, "two": 0}

    def test_events(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        everything(clock)
        seen: dict[str, set[str]] = {}
        for event in recorded.events:
            record = event.log_record
            if (record.event_name or "").startswith("resilience.alert."):
                seen.setdefault(record.event_name or "", set()).update(record.attributes or {})
                assert record.body
        assert seen == EVENTS
        assert seen == {
            event.name: set(event.attributes)
            for event in signals.events("resilience")
            if event.name.startswith("resilience.alert.")
        }

    def test_all_of_it_is_defined_in_the_registry(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        world = everything(clock)
        assert findings(sink_of(recorded)) == []
        assert world.service.dead_letter_count() > 0

    def test_spans(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        everything(clock)
        spans = deliveries(recorded)
        assert set().union(*(set(span.attributes or {}) for span in spans)) == SPAN
        (listed,) = (span for span in signals.spans("resilience") if span.name == "alert.deliver")
        assert set(listed.attributes) == SPAN
        for span in spans:
            assert span.kind is SpanKind.INTERNAL
            assert span.parent is None
            found = dict(span.attributes or {})
            failed = found[OUTCOME] == "failed"
            assert ("error.type" in found) == failed == (span.status.status_code is StatusCode.ERROR)


@pytest.mark.parametrize("action", ["ack", "silence", "close", "resend"])
def test_what_a_person_does_is_an_event_with_who_and_why(recorded: RecordedTelemetry, action: str) -> None:
    world = World()
    world.report()
    world.run(10)
    (incident,) = world.service.incidents()
    who = {"by": "ada", "reason": "Authorization: Bearer s3cr3t-t0ken-of-ada " + "x" * 900}
    service = world.service
    done = {
        "ack": lambda: service.acknowledge(incident.fingerprint, **who),
        "silence": lambda: service.silence(incident.id, 60.0, **who),
        "close": lambda: service.close_incident(incident.id, **who),
        "resend": lambda: service.resend(incident.id, **who),
    }[action]()
    assert done is incident
    (event,) = (each.log_record for each in recorded.events if each.log_record.event_name == "resilience.alert.handled")
    found = dict(event.attributes or {})
    assert found["resilience.alert.action.name"] == action
    assert found["resilience.alert.action.by"] == "ada"
    assert found["resilience.alert.incident"] == incident.id
    assert "s3cr3t-t0ken-of-ada" not in f"{found!r}{event.body!r}"
    assert len(str(found["resilience.alert.action.reason"])) <= 500
    assert service.acknowledge("no such incident") is None


def test_so_is_a_dead_letter_that_is_sent_again(recorded: RecordedTelemetry, tmp_path: Path) -> None:
    world = World(outbox=Outbox(tmp_path))
    world.inbox.fails = RefusedFault()
    world.report(severity=Severity.CRITICAL)
    world.run(10)
    (letter,) = Outbox(tmp_path).dead_letters()
    assert world.service.dead_letter_count() == 1
    world.inbox.fails = None
    assert world.service.resend_dead_letter(letter["id"], by="ada") is not None
    world.run(10)
    assert [message.id for message in world.inbox.messages] == [letter["id"]]
    assert world.service.dead_letter_count() == 0
    assert world.service.resend_dead_letter(letter["id"]) is None
    (event,) = (each.log_record for each in recorded.events if each.log_record.event_name == "resilience.alert.handled")
    assert dict(event.attributes or {})["resilience.alert.action.name"] == "resend"


def deliveries(recorded: RecordedTelemetry) -> list[ReadableSpan]:
    return [span for span in recorded.spans if span.name == "alert.deliver"]


@pytest.mark.fault("F46")
def test_f46_one_failed_delivery_is_one_of_each(recorded: RecordedTelemetry, clock: FakeClock) -> None:
    down, fallback = Inbox(clock, "down"), Inbox(clock, "fallback")
    down.fails = TransientFault()
    world = World([Route(down), Route(fallback, fallback=True)], AlertConfig(escalation=()), clock=clock)
    world.report(severity=Severity.CRITICAL)
    world.run(600)
    counts = {
        (p.attributes[CHANNEL], p.attributes[OUTCOME], p.attributes.get("error.type")): p.value
        for p in recorded.points("resilience.alert.notifications")
    }
    assert counts == {("down", "failed", "503"): 1, ("fallback", "delivered", None): 1}
    names = [name for name in recorded.event_names() if name.startswith("resilience.alert.")]
    assert names == ["resilience.alert.delivery_failed", "resilience.alert.delivered"]


def test_a_delivery_is_linked_to_the_trace_that_caused_it(recorded: RecordedTelemetry, clock: FakeClock) -> None:
    world = World(clock=clock)
    tracer = recorded.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("sync") as cause:
        world.report(severity=Severity.CRITICAL)
    world.run()
    (span,) = deliveries(recorded)
    (link,) = span.links
    assert (link.context.trace_id, link.context.span_id) == (
        cause.get_span_context().trace_id,
        cause.get_span_context().span_id,
    )
    assert context_of(span).trace_id != cause.get_span_context().trace_id
    (message,) = world.messages()
    assert message.correlation_id == f"{cause.get_span_context().trace_id:032x}"
    assert trace_api.get_current_span() is trace_api.INVALID_SPAN


def test_without_a_trace_there_is_a_correlation_id_and_no_link(recorded: RecordedTelemetry, clock: FakeClock) -> None:
    world = World(clock=clock)
    world.report(severity=Severity.CRITICAL)
    world.run()
    (message,) = world.messages()
    assert re.fullmatch("[0-9a-f]{32}", message.correlation_id or "")
    assert [span.links for span in deliveries(recorded)] == [()]


def test_receivers_get_no_trace_headers(recorded: RecordedTelemetry) -> None:
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=recorded.tracer_provider)
    try:
        with served(FakeWebhook()) as webhook:
            service = AlertService(AlertConfig(), [Route(WebhookChannel(webhook.url))]).start()
            with recorded.tracer_provider.get_tracer("test").start_as_current_span("sync"):
                service.report(alert(severity=Severity.CRITICAL))
            assert service.close(5.0)
    finally:
        instrumentor.uninstrument()
    (request,) = webhook.requests
    assert not {"traceparent", "tracestate", "baggage"} & set(request.headers)


def test_without_an_sdk_alerts_are_notified_all_the_same(clock: FakeClock) -> None:
    world = everything(clock)
    assert world.service.dead_letter_count() > 0
