"""The log channel: one machine-readable record."""

from __future__ import annotations

import json
import logging

import pytest

from catalog_sync.observability.logs import JsonFormatter
from otel_resilience import Severity
from otel_resilience.alerting.channels import LogChannel
from otel_resilience.telemetry import contract
from support.notifications import SAMPLES, notification


@pytest.mark.parametrize(
    ("severity", "level"),
    [
        (Severity.LOW, logging.INFO),
        (Severity.MEDIUM, logging.WARNING),
        (Severity.HIGH, logging.ERROR),
        (Severity.CRITICAL, logging.CRITICAL),
    ],
)
def test_the_level_follows_the_severity(severity: Severity, level: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="otel_resilience.alerts"):
        LogChannel().deliver(notification(severity=severity), timeout=1)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("otel_resilience.alerts", level)
    assert record.getMessage() == f"alert {severity}: The circuit of supplier is open (once)"


def test_the_end_is_not_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="otel_resilience.alerts"):
        LogChannel().deliver(SAMPLES["resolved"], timeout=1)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "alert resolved after 41 min: The circuit of supplier is closed again"


def test_its_fields_become_attributes_of_the_json_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="otel_resilience.alerts"):
        LogChannel().deliver(SAMPLES["aggregated"], timeout=1)
    line = json.loads(JsonFormatter("catalog-sync").format(caplog.records[0]))
    assert line["message"] == "alert HIGH: Calls to supplier fail (412 times in 60 s, 3 error types)"
    attributes = line["attributes"]
    assert attributes[contract.ALERT_SEVERITY] == "HIGH"
    assert attributes[contract.ALERT_STATUS] == "firing"
    assert attributes[contract.ALERT_FINGERPRINT] == SAMPLES["aggregated"].fingerprint
    assert attributes[contract.DEPENDENCY] == "supplier"
    assert attributes["correlation.id"] == SAMPLES["aggregated"].correlation_id
    assert attributes["resilience.alert.total"] == 412
    assert attributes["resilience.alert.error_types"] == {"connect_timeout": 300, "503": 100, "429": 12}
    assert attributes["resilience.alert.link.trace"] == SAMPLES["aggregated"].links.trace
