"""Deviations of other instrumentations from the semantic conventions are corrected; everything else is unchanged."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Event, ReadableSpan

from catalog_sync.observability.sdk.corrections import correct_attributes, correct_metrics, correcting
from catalog_sync.observability.sdk.redacting import redact_span


def test_deprecated_names_get_their_successors_and_undefined_ones_are_left_out() -> None:
    celery = {
        "celery.action": "run",
        "celery.hostname": "worker@one",
        "celery.state": "SUCCESS",
        "celery.task_name": "catalog.fetch",
        "messaging.conversation_id": "c",
        "messaging.destination": "catalog",
        "messaging.destination_kind": "queue",
        "messaging.message.id": "m",
    }
    assert correct_attributes(celery) == {
        "messaging.operation.name": "run",
        "messaging.client.id": "worker@one",
        "messaging.message.conversation_id": "c",
        "messaging.destination.name": "catalog",
        "messaging.message.id": "m",
    }
    assert correct_attributes({"db.redis.args_length": 3, "db.system.name": "redis"}) == {"db.system.name": "redis"}


def test_right_attributes_are_the_same_object() -> None:
    for right in ({"db.system.name": "redis"}, {}, None):
        assert correct_attributes(right) is right


def test_a_span_goes_out_corrected_with_its_events() -> None:
    raised = Event("exception", {"exception.type": "OSError", "exception.escaped": "False"})
    span = redact_span(ReadableSpan("GET", attributes={"db.redis.args_length": 2}, events=[raised]))
    assert span.attributes == {}
    assert [event.attributes for event in span.events] == [{"exception.type": "OSError"}]


def test_the_unit_of_the_log_queue_is_that_of_the_conventions() -> None:
    exported: list[Any] = []

    class Exporter:
        def export(self, metrics_data: Any, timeout_millis: float) -> None:
            exported.append((metrics_data, timeout_millis))

    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("sdk")
    meter.create_up_down_counter("otel.sdk.processor.log.queue.size", "{log}").add(1)
    meter.create_counter("catalog.reads", "{read}").add(1)
    data = reader.get_metrics_data()
    assert data is not None
    correcting(Exporter)().export(data, 5.0)
    [(sent, timeout)] = exported
    assert sent == correct_metrics(data)
    assert timeout == 5.0
    metrics = sent.resource_metrics[0].scope_metrics[0].metrics
    assert {metric.name: metric.unit for metric in metrics} == {
        "otel.sdk.processor.log.queue.size": "{log_record}",
        "catalog.reads": "{read}",
    }
