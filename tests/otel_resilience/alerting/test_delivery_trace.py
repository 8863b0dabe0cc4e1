"""Reports about a delivery lead to its trace, whether it succeeded or not."""

from __future__ import annotations

import httpx
import pytest

from otel_resilience import Severity
from otel_resilience.alerting import Alert, AlertConfig, AlertService, Notification, Route
from otel_resilience.testing import FakeClock, RecordedTelemetry


class Door:
    name = "door"
    min_interval = 0.0
    coalesce_from = 2
    keeps_incidents = False

    def __init__(self, status: int) -> None:
        self._status = status

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        del notification, timeout
        httpx.Response(self._status, request=httpx.Request("POST", "http://door.test")).raise_for_status()

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(
    ("status", "event"), [(200, "resilience.alert.delivered"), (400, "resilience.alert.delivery_failed")]
)
def test_the_event_of_a_delivery_stands_in_its_span(status: int, event: str) -> None:
    clock = FakeClock()
    with RecordedTelemetry().recording() as recorded:
        service = AlertService(AlertConfig(), [Route(Door(status))], clock=clock, wall_clock=clock)
        service.report(Alert(kind="authentication", title="The key is refused", severity=Severity.CRITICAL))
        service.pump()
        service.close()
    (span,) = [span for span in recorded.spans if span.name == "alert.deliver"]
    (told,) = [record.log_record for record in recorded.events if record.log_record.event_name == event]
    assert told.trace_id == span.context.trace_id
    assert told.span_id == span.context.span_id
