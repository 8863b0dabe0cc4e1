"""The alert service's own telemetry: counters, delivery times, queues, and a span per delivery."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, use_span

from otel_resilience import telemetry
from otel_resilience._internal.in_use import InUse
from otel_resilience.alerting.model.alert import Notification
from otel_resilience.alerting.model.incident import Incident
from otel_resilience.classification.model import Severity
from otel_resilience.telemetry import cardinality, contract
from otel_resilience.telemetry import event_log as events
from otel_resilience.telemetry.listener import never_raise

_DELIVERED, _FAILED = contract.ALERT_OUTCOMES


class Watched(Protocol):
    """An alert service whose queues are shown."""

    def queue_sizes(self) -> Mapping[str, int]: ...
    def dead_letter_count(self) -> int: ...


_services: Final[InUse[Watched]] = InUse()


@never_raise
def watch(service: Watched) -> None:
    """Show the queues of this service from now on."""
    _services.add(service)
    telemetry.global_listener()


@never_raise
def suppressed(reason: str, number: int = 1) -> None:
    """Alerts that get no notification of their own."""
    listener = telemetry.active()
    if listener is not None and number:
        listener.metrics.alerts_suppressed.add(number, {contract.ALERT_REASON: reason})


@never_raise
def delivered(channel: str, notification: Notification, seconds: float) -> None:
    """A channel confirmed a notification ``seconds`` after its cause."""
    _count(channel, notification, _DELIVERED, seconds, None)
    telemetry.emit(
        contract.EVENT_ALERT_DELIVERED,
        events.INFO,
        f"alert delivered to {channel} after {seconds:.1f} s: {notification.title}",
        {**_attributes(channel, notification), contract.ALERT_DELIVERY_SECONDS: seconds},
    )


@never_raise
def failed(channel: str, notification: Notification, error_type: str, seconds: float) -> None:
    """A notification was given up at a channel."""
    _count(channel, notification, _FAILED, seconds, error_type)
    loud = notification.severity >= Severity.HIGH
    telemetry.emit(
        contract.EVENT_ALERT_FAILED,
        events.ERROR if loud else events.WARN,
        f"alert not delivered to {channel}, {error_type}: {notification.title}",
        {**_attributes(channel, notification), contract.ERROR_TYPE: error_type},
    )


@never_raise
def handled(action: str, incident: Incident | Notification, by: str | None, reason: str | None) -> None:
    """A person did something with an incident, or with a message that no channel took."""
    identity = incident.incident if isinstance(incident, Notification) else incident.id
    attributes: dict[str, events.Value | None] = {
        contract.ALERT_ACTION: action,
        contract.ALERT_ACTION_BY: by,
        contract.ALERT_ACTION_REASON: reason,
        contract.ALERT_INCIDENT: identity,
        contract.ALERT_FINGERPRINT: incident.fingerprint,
        contract.ALERT_SEVERITY: incident.severity.value,
        contract.DEPENDENCY: incident.dependency,
    }
    telemetry.emit(
        contract.EVENT_ALERT_HANDLED,
        events.INFO,
        f"incident {identity}: {action} by {by or 'somebody'} ({reason or 'no reason'})",
        {name: value for name, value in attributes.items() if value is not None},
    )


@contextlib.contextmanager
def delivery(channel: str, notification: Notification) -> Iterator[Callable[[str | None], None]]:
    """A span for the delivery, the root of a separate trace, linked to the trace that caused it.

    Yields a function to call with the outcome: an ``error.type``, or ``None`` if the channel confirmed.
    """
    span = _start(channel, notification)
    if span is None:
        yield lambda _: None
        return
    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        yield functools.partial(_ended, span)


@never_raise
def _ended(span: Span, error_type: str | None) -> None:
    if error_type is None:
        span.set_attribute(contract.OUTCOME, _DELIVERED)
    else:
        span.set_attributes({contract.OUTCOME: _FAILED, contract.ERROR_TYPE: error_type})
        span.set_status(Status(StatusCode.ERROR))


@never_raise
def _start(channel: str, notification: Notification) -> Span | None:
    listener = telemetry.active()
    if listener is None:
        return None
    attributes, links = _identity(channel, notification), list(_links(notification))
    return listener.tracer.start_span(contract.DELIVERY_SPAN, Context(), SpanKind.INTERNAL, attributes, links)


def _links(notification: Notification) -> Iterator[Link]:
    if notification.correlation_id is not None and notification.span_id is not None:
        trace_id, span_id = int(notification.correlation_id, 16), int(notification.span_id, 16)
        if trace_id and span_id:
            yield Link(SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))


def _count(channel: str, notification: Notification, outcome: str, seconds: float, error_type: str | None) -> None:
    listener = telemetry.active()
    if listener is None:
        return
    attributes: dict[str, events.Value] = {
        contract.CHANNEL: channel,
        contract.ALERT_SEVERITY: notification.severity.value,
        contract.OUTCOME: outcome,
    }
    if error_type is not None:
        attributes[contract.ERROR_TYPE] = cardinality.bounded_error_type(error_type)
    listener.metrics.notifications.add(1, attributes)
    listener.metrics.delivery_duration.record(seconds, {contract.CHANNEL: channel, contract.OUTCOME: outcome})


def _identity(channel: str, notification: Notification) -> dict[str, events.Value]:
    return {
        contract.CHANNEL: channel,
        contract.ALERT_SEVERITY: notification.severity.value,
        contract.ALERT_STATUS: notification.status.value,
        contract.ALERT_FINGERPRINT: notification.fingerprint,
    }


def _attributes(channel: str, notification: Notification) -> dict[str, events.Value]:
    about = {} if notification.dependency is None else {contract.DEPENDENCY: notification.dependency}
    return {**_identity(channel, notification), **about}


def _observe_queues(_: CallbackOptions) -> Iterable[Observation]:
    sizes: dict[str, int] = {}
    for service in _services:
        for channel, size in service.queue_sizes().items():
            sizes[channel] = sizes.get(channel, 0) + size
    for channel, size in sizes.items():
        yield Observation(size, {contract.CHANNEL: channel})


def _observe_dead_letters(_: CallbackOptions) -> Iterable[Observation]:
    services = list(_services)
    if services:
        yield Observation(max(service.dead_letter_count() for service in services))


telemetry.observe(contract.ALERT_QUEUE, _observe_queues)
telemetry.observe(contract.ALERT_DEAD_LETTERS, _observe_dead_letters)
