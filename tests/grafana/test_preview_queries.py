"""Before a query Grafana replaces variables and chooses an interval; the preview does the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from grafana.preview import queries
from grafana.preview.queries import TimeRange

FOLDER = Path(__file__).parents[2] / "grafana/dashboards"
HOUR = TimeRange(1000.0, 4600.0)


def test_variables_are_replaced_in_every_spelling() -> None:
    values = {"job": ".+", "__interval": "60s"}
    assert queries.filled('x{job=~"$job"}[$__interval]', values) == 'x{job=~".+"}[60s]'
    assert queries.filled('x{job=~"${job}", a=~"${job:regex}"}', values) == 'x{job=~".+", a=~".+"}'


def test_a_variable_that_nothing_sets_is_an_error() -> None:
    with pytest.raises(KeyError, match="jbo"):
        queries.filled('x{job=~"$jbo"}', {"job": ".+"})


def test_the_interval_grows_with_the_range_and_is_never_below_the_least_of_the_panel() -> None:
    assert queries.interval(HOUR, {}) == 15
    assert queries.interval(HOUR, {"interval": "1m"}) == 60
    assert queries.interval(TimeRange(0, 7 * 86400), {"interval": "1m"}) == 1800


def test_a_range_is_asked_at_multiples_of_the_step() -> None:
    assert TimeRange(1010.0, 4599.0).aligned(60) == TimeRange(960.0, 4560.0)


def test_built_in_variables_follow_range_and_interval() -> None:
    found = queries.built_in(HOUR, 60)
    assert (found["__interval"], found["__range"], found["__range_s"]) == ("60s", "3600s", "3600")
    assert found["__rate_interval"] == "75s"


@pytest.mark.parametrize(("text", "expected"), [("15s", 15), ("1m", 60), ("1h30m", 5400), ("250ms", 0.25)])
def test_durations(text: str, expected: float) -> None:
    assert queries.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "5 m", "m5"])
def test_what_is_not_a_duration_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        queries.seconds(text)


def test_all_means_what_the_dashboard_says() -> None:
    variables = [
        {"name": "job", "allValue": ".+", "current": {"value": ["$__all"]}},
        {"name": "prometheus_datasource", "current": {"value": "prometheus"}},
    ]
    values = queries.chosen({"templating": {"list": variables}})
    assert values == {"job": ".+", "prometheus_datasource": "prometheus"}


def test_a_variables_query_names_a_label_and_a_selector() -> None:
    assert queries.label_values('label_values(up{job=~".+"}, instance)') == ("instance", 'up{job=~".+"}')
    assert queries.label_values("label_values(job)") == ("job", None)
    with pytest.raises(ValueError, match="label_values"):
        queries.label_values("query_result(up)")


def test_a_series_is_named_by_its_template_or_by_its_labels() -> None:
    labels = {"__name__": "up", "job": "tempo"}
    assert queries.legend("{{job}}: {{ instance }}", labels, "up") == "tempo: "
    assert queries.legend("", labels, "up") == 'up{job="tempo"}'
    assert queries.legend("", {}, "sum(up)") == "sum(up)"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_no_query_of_a_dashboard_keeps_a_variable(path: Path) -> None:
    dashboard: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    values = queries.chosen(dashboard)
    asked = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert asked
    for target in asked:
        query = target.get("expr") or target["query"]
        assert "$" not in queries.filled(query, values | queries.built_in(HOUR, 60))
