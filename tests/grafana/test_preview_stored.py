"""Stored logs and spans answer the forms of LogQL and TraceQL that our dashboards use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from grafana.preview import stored
from grafana.preview.queries import TimeRange

FOLDER = Path(__file__).parents[2] / "grafana/dashboards"
RANGE = TimeRange(0.0, 100.0)


def log(time: float, name: str = "catalog.sync.finished", service: str = "catalog-sync", **attributes: Any) -> Any:
    return {
        "time": time,
        "event_name": name,
        "body": None,
        "severity": "INFO",
        "attributes": attributes,
        "trace_id": f"{time:032.0f}",
        "span_id": "1" * 16,
        "resource": {"service.name": service},
        "scope": "catalog_sync",
    }


def span(
    name: str, trace: str, *, parent: str = "", status: str = "UNSET", start: float = 1.0, end: float = 2.0
) -> Any:
    return {
        "name": name,
        "trace_id": trace,
        "span_id": f"{trace}-{name}",
        "parent_span_id": parent,
        "start": start,
        "end": end,
        "status": status,
        "attributes": {"error.type": "503"} if status == "ERROR" else {},
        "resource": {"service.name": "catalog-sync"},
    }


def test_events_are_found_by_name_and_label_newest_first() -> None:
    records = [log(1, **{"catalog.outcome": "FAILED"}), log(2, **{"catalog.outcome": "COMPLETE"}), log(3, "other")]
    query = '{service_name=~"catalog-.+"} | event_name="catalog.sync.finished"'
    assert [found["time"] for found in stored.logs(records, query, RANGE, 10)] == [2, 1]
    assert [found["time"] for found in stored.logs(records, query + ' | catalog_outcome=~"FAIL.+"', RANGE, 10)] == [1]
    assert [found["time"] for found in stored.logs(records, query + ' | catalog_outcome!="FAILED"', RANGE, 10)] == [2]
    assert [found["time"] for found in stored.logs(records, query, RANGE, 1)] == [2]
    assert stored.logs([log(1, service="esim-go-simulator")], query, RANGE, 10) == []
    assert stored.logs([log(101)], query, RANGE, 10) == []


def test_labels_are_spelt_as_loki_spells_them() -> None:
    (found,) = stored.logs([log(1, **{"error.type": "503"})], '{service_name="catalog-sync"}', RANGE, 10)
    assert found["labels"]["error_type"] == "503"
    assert found["labels"]["trace_id"] == log(1)["trace_id"]


def test_traces_are_found_by_any_of_their_spans_and_told_by_their_root() -> None:
    spans = [
        span("attempt", "b", parent="b-sync", status="ERROR", start=5, end=6),
        span("sync", "b", start=4, end=9),
        span("attempt", "a", parent="a-sync"),
        span("sync", "a"),
    ]
    (found,) = stored.traces(spans, '{ name = "attempt" && status = error }', RANGE, 10)
    assert found == {
        "trace_id": "b",
        "service": "catalog-sync",
        "name": "sync",
        "start": 4,
        "duration": 5,
        "selected": {},
    }
    (selected,) = stored.traces(spans, "{ status = error } | select(span.error.type, span.gone)", RANGE, 10)
    assert selected["selected"] == {"span.error.type": "503", "span.gone": ""}
    both = stored.traces(spans, '{ name =~ "attempt|publish" }', RANGE, 10)
    assert [each["trace_id"] for each in both] == ["b", "a"]
    assert len(stored.traces(spans, '{ span.error.type = "503" }', RANGE, 10)) == 1


@pytest.mark.parametrize("query", ["rate(x[5m])", '{a="b"} |= "text"', '{a="b"} | json'])
def test_another_form_of_logql_is_an_error(query: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        stored.logs([log(1)], query, RANGE, 10)


def test_a_list_of_alerts_shows_those_that_fit_its_selector() -> None:
    watchdog = {"alertname": "Watchdog", "severity": "none"}
    assert stored.matches(watchdog, "")
    assert not stored.matches(watchdog, '{severity!="none"}')
    assert stored.matches(watchdog, '{severity=~"none|warning", alertname="Watchdog"}')
    assert not stored.matches({}, '{severity="none"}')
    with pytest.raises(ValueError, match="not a selector"):
        stored.matches(watchdog, '{severity="none"} | x="y"')


def test_another_form_of_traceql_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a condition"):
        stored.traces([span("a", "a")], "{ duration > 1s }", RANGE, 10)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_query_of_the_dashboards_has_a_known_form(path: Path) -> None:
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for target in targets:
        if target["datasource"]["type"] == "loki" and target["expr"].startswith("{"):
            assert stored.logs([], target["expr"], RANGE, target["maxLines"]) == []
        elif target["datasource"]["type"] == "tempo":
            assert stored.traces([], target["query"], RANGE, target["limit"]) == []
