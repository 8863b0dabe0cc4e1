"""An event is one record: through the Logs API if a logger provider is set, else through the standard logger."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import _logs as logs_api
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from otel_resilience import Policy, RetryConfig, telemetry
from otel_resilience.storage import DiskStorage
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.otel_globals import fresh_otel_globals
from support.resilience import Script, TransientFault


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    with fresh_otel_globals():
        yield


class Exported:
    """A logger provider of the SDK and what it exports."""

    def __init__(self) -> None:
        self._exporter = InMemoryLogRecordExporter()
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self._exporter))

    def names(self) -> list[str]:
        """The names of the events, whichever way they came."""
        records = [each.log_record for each in self._exporter.get_finished_logs()]
        return [record.event_name or str((record.attributes or {}).get("otel.event.name")) for record in records]

    def export_standard_logs(self) -> None:
        """As hosts do it: OpenTelemetry's own handler on the root logger."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).*LoggingHandler", DeprecationWarning)  # newer versions of the SDK
            handler = LoggingHandler(logger_provider=self.provider)
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(logging.INFO)


def fail_for_good(clock: FakeClock) -> None:
    policy = Policy("supplier", retry=RetryConfig(max_attempts=2), clock=clock, sleep=clock.sleep, rng=lambda: 0.5)
    with pytest.raises(TransientFault):
        policy.execute(Script(TransientFault()).play, name="list")


EXPECTED = [
    "resilience.error.classified",
    "resilience.attempt.failed",
    "resilience.retry.scheduled",
    "resilience.error.classified",
    "resilience.attempt.failed",
    "resilience.retry.exhausted",
]


@pytest.mark.fault("L12")
def test_events_are_exported_once_where_standard_logs_are_exported_too(clock: FakeClock) -> None:
    exported = Exported()
    exported.export_standard_logs()
    logs_api.set_logger_provider(exported.provider)
    fail_for_good(clock)
    assert exported.names() == EXPECTED


@pytest.mark.fault("L12")
def test_events_are_exported_once_where_only_standard_logs_are_exported(clock: FakeClock) -> None:
    exported = Exported()
    exported.export_standard_logs()
    fail_for_good(clock)
    assert exported.names() == EXPECTED


@pytest.mark.fault("L12")
def test_events_of_storages_are_exported_once_as_well(tmp_path: Path) -> None:
    exported = Exported()
    exported.export_standard_logs()
    logs_api.set_logger_provider(exported.provider)
    disk = DiskStorage(tmp_path)
    disk.path("supplier").write_text("not ours")
    disk.pause("supplier", 0)
    assert exported.names() == ["resilience.storage.damaged"]


@pytest.mark.fault("L12")
def test_with_a_logger_provider_the_standard_logger_gets_no_events(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    with RecordedTelemetry().recording() as recorded, caplog.at_level(logging.DEBUG):
        fail_for_good(clock)
    assert recorded.event_names() == EXPECTED
    assert [record.name for record in caplog.records if record.name == "otel_resilience.events"] == []


def test_without_a_logger_provider_the_standard_logger_gets_name_and_attributes(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="otel_resilience.events"):
        fail_for_good(clock)
    records = [record for record in caplog.records if record.name == "otel_resilience.events"]
    assert [getattr(record, "otel.event.name") for record in records] == EXPECTED
    assert getattr(records[-1], "otel.attributes")["resilience.attempts"] == 2
    assert records[-1].levelno == logging.WARNING


def test_a_logger_provider_that_is_set_later_takes_the_events_from_then_on(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    exported = Exported()
    with caplog.at_level(logging.INFO, logger="otel_resilience.events"):
        fail_for_good(clock)
        logs_api.set_logger_provider(exported.provider)
        fail_for_good(clock)
    assert len([record for record in caplog.records if record.name == "otel_resilience.events"]) == len(EXPECTED)
    assert exported.names() == EXPECTED


def test_a_disabled_sdk_counts_as_no_logger_provider(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    logs_api.set_logger_provider(LoggerProvider(shutdown_on_exit=False))
    with caplog.at_level(logging.INFO, logger="otel_resilience.events"):
        fail_for_good(clock)
    assert [getattr(record, "otel.event.name", None) for record in caplog.records] == EXPECTED


def test_metrics_without_a_logger_provider_leave_the_events_to_the_standard_logger(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = RecordedTelemetry()
    with (
        telemetry.use_providers(tracer_provider=recorded.tracer_provider, meter_provider=recorded.meter_provider),
        caplog.at_level(logging.INFO, logger="otel_resilience.events"),
    ):
        fail_for_good(clock)
    assert [getattr(record, "otel.event.name", None) for record in caplog.records] == EXPECTED
    assert len(recorded.spans) == 3


class Sender(logging.Handler):
    """Sends each record to a server that is down, by a protected call."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy("log server", retry=RetryConfig(max_attempts=2, base_delay=0), attempt_timeout=60)
        self.sent: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()

        def send() -> None:
            self.sent.append(text)
            raise ConnectionRefusedError

        with contextlib.suppress(ConnectionRefusedError):
            self.policy.execute(send, name="send")


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    root = logging.getLogger()
    level = root.level
    root.addHandler(sender)
    root.setLevel(logging.INFO)
    yield sender
    root.removeHandler(sender)
    root.setLevel(level)


class TestAHandlerOfLogsThatSendsThemByAProtectedCall:
    """Its failures are events, which it would send as well, and so on without end."""

    def test_the_events_of_its_calls_are_sent_and_cause_none(self, sender: Sender) -> None:
        logging.getLogger("shop").warning("the record")
        events = [text for text in sender.sent if text.startswith("log server send: ")]
        assert sender.sent.count("the record") == 2
        assert len(events) == 2 * 6  # of the call that sends the record, each tried twice

    def test_telemetry_that_fails_is_said_once_for_each(self, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("broken telemetry")

        with RecordedTelemetry().recording():
            monkeypatch.setattr("opentelemetry.sdk.trace.Tracer.start_span", broken)
            Policy("supplier").execute(lambda: "value", name="list")
        assert {text for text in sender.sent if "broken" in text} == {
            "telemetry failed in _open_span: RuntimeError('broken telemetry')"
        }
        assert len(sender.sent) == 2
