"""Logs as JSON lines and for a person: complete, tied to the trace, without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from catalog_sync.domain.errors import RateLimitError
from catalog_sync.observability.logs import setup_logging
from otel_resilience import Policy, correlation_scope, redaction
from otel_resilience.alerting import AlertConfig, Incident
from otel_resilience.alerting.channels import LogChannel
from support.alerting import alert
from support.otel_globals import fresh_otel_globals

SECRET = "log-secret-4711"


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_known", {})
    monkeypatch.setattr(redaction, "_exact", None)
    monkeypatch.setattr("catalog_sync.observability.logs._handler", None)
    redaction.register_secret(SECRET)
    levels = {
        name: logging.getLogger(name).level for name in ("httpx", "httpcore", "urllib3", "aiohttp.access", "asyncio")
    }
    with fresh_otel_globals():
        yield
    logging.captureWarnings(capture=False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_where_what_and_in_which_trace() -> None:
    stream = io.StringIO()
    setup_logging(stream=stream, json_lines=True, service="catalog-sync")
    with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
        logging.getLogger("app.part").warning("page %d of %s", 2, "Standard", extra={"page": 2})
    (line,) = json_lines(stream)
    context = span.get_span_context()
    assert line["timestamp"].endswith("Z")
    assert "T" in line["timestamp"]
    assert (line["level"], line["logger"], line["message"]) == ("WARNING", "app.part", "page 2 of Standard")
    assert line["service"] == "catalog-sync"
    assert line["trace_id"] == line["correlation_id"] == f"{context.trace_id:032x}"
    assert line["span_id"] == f"{context.span_id:016x}"
    assert line["attributes"] == {"page": 2}


def test_without_a_trace_the_correlation_id_still_stands() -> None:
    stream = io.StringIO()
    setup_logging(stream=stream, json_lines=True)
    with correlation_scope() as identifier:
        logging.getLogger("app").info("inside")
    logging.getLogger("app").info("outside")
    inside, outside = json_lines(stream)
    assert inside["correlation_id"] == identifier
    assert "trace_id" not in inside
    assert "correlation_id" not in outside


def test_an_error_is_classified_and_its_text_and_traceback_are_redacted() -> None:
    stream = io.StringIO()
    setup_logging(stream=stream, json_lines=True)
    try:
        try:
            raise ValueError(f"X-API-Key: {SECRET}")
        except ValueError as cause:
            raise RateLimitError(f"slow down, {SECRET}", retry_after=2) from cause
    except RateLimitError:
        logging.getLogger("app").exception("failed with %s", SECRET)
    (line,) = json_lines(stream)
    assert SECRET not in stream.getvalue()
    assert (line["error"]["type"], line["error"]["class"], line["error"]["severity"]) == ("429", "throttled", "MEDIUM")
    assert line["error"]["exception"] == "catalog_sync.domain.errors.RateLimitError"
    assert "Traceback" in line["error"]["traceback"]
    assert "ValueError" in line["error"]["traceback"]


def test_events_of_the_library_are_lines_with_their_name() -> None:
    stream = io.StringIO()
    setup_logging(stream=stream, json_lines=True)

    def fails() -> None:
        raise ConnectionResetError(f"reset {SECRET}")

    with pytest.raises(ConnectionResetError):
        Policy("supplier").execute(fails, name="list")
    lines = [line for line in json_lines(stream) if line["logger"] == "otel_resilience.events"]
    assert "resilience.attempt.failed" in {line["event"] for line in lines}
    assert lines[0]["attributes"]["resilience.dependency"] == "supplier"
    assert SECRET not in stream.getvalue()


def test_values_under_a_secret_name_are_masked_whole() -> None:
    stream = io.StringIO()
    setup_logging(stream=stream, json_lines=True)
    extra = {"headers": {"X-API-Key": "unregistered", "Accept": "*/*"}, "password": "unregistered", "list": ["a", 1]}
    logging.getLogger("app").info("request", extra=extra)
    (line,) = json_lines(stream)
    assert line["attributes"] == {"headers": {"X-API-Key": "***", "Accept": "*/*"}, "password": "***", "list": ["a", 1]}


def test_no_record_breaks_the_log() -> None:
    class Hostile:
        def __repr__(self) -> str:
            return "line\nbreak"

    stream = io.StringIO()
    logging.getLogger().handlers[:] = [setup_logging(stream=stream, json_lines=True)]
    logging.getLogger("app").info("%d items", "no number")
    logging.getLogger("app").info("with\nbreak", extra={"thing": Hostile()})
    first, second = json_lines(stream)
    assert first["message"].startswith("%d items")
    assert second["message"] == "with\nbreak"


def test_a_person_reads_short_lines_without_tracebacks() -> None:
    stream = io.StringIO()
    setup_logging(stream=stream, json_lines=False)
    try:
        raise RuntimeError(f"broken {SECRET}")
    except RuntimeError:
        logging.getLogger("app").exception("it failed")
        with correlation_scope() as identifier:
            logging.getLogger("app").warning("it is retried")
    plain, within = stream.getvalue().splitlines()
    assert plain.endswith("error   it failed (RuntimeError: broken ***)")
    assert within.endswith(f"warning it is retried [{identifier}]")


def test_a_second_setup_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    setup_logging(stream=first, json_lines=True)
    setup_logging(stream=second, json_lines=True)
    logging.getLogger("app").info("once")
    assert first.getvalue() == ""
    assert len(json_lines(second)) == 1


def test_an_exporter_that_repeats_itself_is_heard_once() -> None:
    stream = io.StringIO()
    setup_logging(stream=stream, json_lines=True)
    for batch in range(50):
        logging.getLogger("opentelemetry.exporter.otlp").warning("Transient error %s", batch)
    logging.getLogger("opentelemetry.exporter.otlp").error("Failed to export")
    assert [line["level"] for line in json_lines(stream)] == ["WARNING", "ERROR"]


def test_libraries_do_not_log_whole_urls() -> None:
    stream = io.StringIO()
    setup_logging(stream=stream, json_lines=True)
    logging.getLogger("httpx").info("HTTP Request: GET http://h/?q=1")
    assert stream.getvalue() == ""


def test_the_line_of_an_alert_shows_the_id_that_finds_its_cause() -> None:
    """It is written in the trace of its delivery, of which no command knows anything."""
    stream = io.StringIO()
    setup_logging(stream=stream, json_lines=False)
    about = "ab" * 16
    with correlation_scope("cd" * 16):
        for cause in (about, None):
            incident = Incident.of(alert(correlation_id=cause), 0.0)
            LogChannel().deliver(incident.next_message(AlertConfig(), 0.0, "new"), timeout=1.0)
    first, second = stream.getvalue().splitlines()
    assert first.endswith(f"[{about}]")
    assert second.endswith(f"[{'cd' * 16}]")
