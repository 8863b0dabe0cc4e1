"""What the preview page is given: frames in the form of Grafana's data sources, and what was missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from grafana.preview import frames
from grafana.preview.browser import MOST_BYTES, serving
from grafana.preview.pictures import NOT_KEPT, Kept, picture
from grafana.preview.queries import TimeRange

from support import loopback

ROOT = Path(__file__).parents[2]
RANGE = TimeRange(600.0, 1200.0)
PROMETHEUS, LOKI = {"type": "prometheus", "uid": "p"}, {"type": "loki", "uid": "l"}


class Recorded:
    """A Prometheus that records its queries."""

    def __init__(self, result: list[dict[str, Any]]) -> None:
        self.result = result
        self.asked: list[Any] = []
        self.alerts: list[dict[str, Any]] = []

    def range(self, query: str, time_range: TimeRange, step: float) -> list[dict[str, Any]]:
        self.asked.append((query, time_range, step))
        return self.result

    def instant(self, query: str, at: float) -> list[dict[str, Any]]:
        self.asked.append((query, at))
        return self.alerts if query == "ALERTS" else self.result

    def exemplars(self, query: str, time_range: TimeRange) -> list[dict[str, Any]]:
        return [{"labels": {"trace_id": "a"}, "value": "0.5", "timestamp": 700.0}]

    def label_values(self, label: str, selector: str | None, time_range: TimeRange) -> list[str]:
        self.asked.append((label, selector))
        return ["a"] if self.result else []


def dashboard(*targets: dict[str, Any]) -> dict[str, Any]:
    job = {
        "name": "job", "type": "query", "label": "Job", "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]}, "query": {"query": "label_values(up, job)"},
    }  # fmt: skip
    panels = [
        {"id": 1, "type": "row", "title": "Does it?", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}},
        {"id": 2, "type": "timeseries", "title": "It", "gridPos": {"x": 0, "y": 1, "w": 24, "h": 8},
         "interval": "1m", "targets": [{"refId": "A", **target} for target in targets]},
    ]  # fmt: skip
    return {"title": "D", "templating": {"list": [job]}, "annotations": {"list": []}, "panels": panels}


def test_a_panel_is_asked_with_its_variables_at_its_interval() -> None:
    prometheus = Recorded([{"metric": {"job": "a"}, "values": [[660, "1"], [720, "NaN"]]}])
    target = {
        "datasource": PROMETHEUS,
        "expr": 'x{job=~"$job"}[$__interval]',
        "legendFormat": "{{job}}",
        "exemplar": True,
    }
    found = picture(dashboard(target), prometheus, Kept(), RANGE)
    assert prometheus.asked[0] == ('x{job=~".+"}[60s]', TimeRange(600.0, 1200.0), 60.0)
    (frame,) = found.content["answers"][2]["frames"]
    time, value = frame["fields"]
    assert time["config"] == {"interval": 60_000}
    assert value["config"] == {"displayNameFromDS": "a"}
    values = dict(zip(time["values"], value["values"], strict=True))
    assert list(values) == list(range(600_000, 1_200_001, 60_000))
    assert {time: value for time, value in values.items() if value is not None} == {660_000: 1.0}
    assert found.content["answers"][2]["exemplars"] == [{"time": 700_000, "value": 0.5}]
    assert found.content["variables"] == [{"label": "Job", "value": "All"}]
    assert found.empty == []


def test_a_variable_without_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="the variable job has no values"):
        picture(dashboard({"datasource": PROMETHEUS, "expr": "x"}), Recorded([]), Kept(), RANGE)


def test_what_was_not_kept_is_said_in_the_panel_and_reported() -> None:
    target = {"datasource": LOKI, "expr": '{service_name="a"}', "maxLines": 10}
    found = picture(dashboard(target), Recorded([{}]), Kept(), RANGE)
    assert found.content["answers"][2]["missing"] == NOT_KEPT["loki"]
    assert found.empty == ["It"]


def test_what_only_a_running_grafana_reports_is_said_in_the_panel() -> None:
    target = {"datasource": PROMETHEUS, "expr": "sum(grafana_alerting_notifications_total)"}
    prometheus = Recorded([{"metric": {}, "values": []}])
    found = picture(dashboard(target), prometheus, Kept(), RANGE)
    assert "Grafana" in found.content["answers"][2]["missing"]


def test_a_list_of_alerts_has_those_that_its_panel_asks_for() -> None:
    prometheus = Recorded([{"metric": {}, "values": []}])
    prometheus.alerts = [
        {"metric": {"alertname": name, "severity": severity, "alertstate": "firing"}}
        for name, severity in (("Watchdog", "none"), ("StoreDown", "warning"))
    ]
    shown = dashboard()
    for number, selector in ((7, '{severity!="none"}'), (8, "")):
        panel = {"id": number, "type": "alertlist", "title": f"Alerts {number}", "gridPos": {}, "targets": []}
        shown["panels"].append(panel | {"options": {"alertInstanceLabelFilter": selector}})
    found = picture(shown, prometheus, Kept(), RANGE).content["alerts"]
    assert [each["name"] for each in found[7]] == ["StoreDown"]
    assert [each["name"] for each in found[8]] == ["Watchdog", "StoreDown"]


def test_of_the_exemplars_of_a_step_only_those_far_apart_are_shown() -> None:
    found = [{"timestamp": 60.0 + number, "value": "1"} for number in range(20)]
    found += [{"timestamp": 70.0, "value": "9"}, {"timestamp": 130.0, "value": "1.1"}]
    assert frames.exemplars(found, 60) == [
        {"time": 60_000, "value": 1.0},
        {"time": 70_000, "value": 9.0},
        {"time": 130_000, "value": 1.1},
    ]
    assert frames.exemplars([], 60) == []


def test_an_instant_query_becomes_one_table() -> None:
    result = [{"metric": {"a": "x"}, "value": [10, "2"]}, {"metric": {"b": "y"}, "value": [10, "3"]}]
    (frame,) = frames.of_instant(result, {"refId": "A"})
    columns = {field["name"]: field["values"] for field in frame["fields"]}
    assert columns == {"Time": [10_000, 10_000], "a": ["x", ""], "b": ["", "y"], "Value": [2.0, 3.0]}


def test_the_page_is_served_with_its_pictures_and_nothing_beside_them(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page/index.html").write_text("page", encoding="utf-8")
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    with serving({"/": tmp_path / "page"}, {"d": {"a": 1}}) as served:
        assert loopback.get(f"{served.url}/?uid=d").text == "page"
        assert loopback.get(f"{served.url}/pictures/d.json").json() == {"a": 1}
        for path in ("/pictures/e.json", "/%2e%2e/secret", "/missing.js"):
            assert loopback.get(f"{served.url}{path}").status_code == 404


@pytest.mark.parametrize("path", sorted((ROOT / "grafana/dashboards").glob("*.json")), ids=lambda path: path.stem)
def test_every_dashboard_has_a_picture_that_a_page_can_carry(path: Path) -> None:
    picture = ROOT / f"docs/dashboards/{path.stem}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size <= MOST_BYTES, "run: make preview"
