"""Which panels are empty after a drill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drill.left import Left, read, write

from drill import panels

START, END = 1000.0, 1600.0
PROMETHEUS = {"type": "prometheus", "uid": "${prometheus_datasource}"}


class Source:
    """Knows some series."""

    def __init__(self, *known: str, value: str = "1") -> None:
        self.asked: list[str] = []
        self._known = known
        self._value = value

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        assert (start, end) == (START, END)
        assert step == panels.STEP
        self.asked.append(expression)
        there = any(name in expression for name in self._known)
        return [{"metric": {}, "values": [[start, self._value]]}] if there else []


def target(expression: str, kind: str = "prometheus") -> dict[str, Any]:
    return {"expr": expression, "datasource": {"type": kind}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dashboard with a row that holds a panel, and a panel of logs."""
    inner = {"type": "stat", "title": "inner", "targets": [target('count(deep{job=~"$job"}[$__range])')]}
    found = [
        {"type": "timeseries", "title": "two", "targets": [target("first[$__interval]"), target("second")]},
        {"type": "row", "title": "row", "panels": [inner]},
        {"type": "logs", "title": "logs", "targets": [target("{a=b}", "loki")]},
        {"type": "stat", "title": "its own", "datasource": PROMETHEUS, "targets": [{"expr": "third"}]},
    ]
    (tmp_path / "d.json").write_text(json.dumps({"uid": "d", "panels": found}), encoding="utf-8")
    return tmp_path


def test_one_query_with_data_is_enough(folder: Path) -> None:
    assert panels.silent(Source("second"), START, END, folder) == [("d", "inner"), ("d", "its own")]


def test_panels_in_rows_count_and_those_of_other_stores_do_not(folder: Path) -> None:
    assert [panel.title for panel in panels.panels(folder)] == ["two", "inner", "its own"]
    assert panels.silent(Source("first", "deep", "third"), START, END, folder) == []


def test_no_number_is_no_data(folder: Path) -> None:
    assert len(panels.silent(Source("first", "second", "deep", "third", value="NaN"), START, END, folder)) == 3


def test_variables_are_filled_in(folder: Path) -> None:
    source = Source()
    panels.silent(source, START, END, folder)
    assert source.asked == ["first[1m]", "second", 'count(deep{job=~".+"}[6h])', "third"]


def test_a_silent_panel_needs_a_reason_and_a_reason_a_panel() -> None:
    allowed = {("d", "a"): "why", ("d", "b"): "why", ("d", "gone"): "why"}
    known = [("d", "a"), ("d", "b"), ("d", "c")]
    found = panels.compare([("d", "a"), ("d", "c")], allowed, known)
    assert found.problems == ["d / c: no data", "d / gone: listed, but there is no such panel"]
    assert found.notes == ["d / b: listed, but it has data"]
    assert panels.compare([("d", "a")], {("d", "a"): "why"}, known).problems == []


@pytest.mark.parametrize("short", [True, False])
def test_every_panel_of_the_list_exists_and_has_a_reason(short: bool) -> None:
    known = {panel.name for panel in panels.panels()}
    for name, reason in panels.listed(short=short).items():
        assert name in known
        assert len(reason) > 20


def test_the_list_of_the_shortened_drill_is_the_longer_one() -> None:
    assert panels.listed(short=False).keys() <= panels.listed(short=True).keys()


def test_what_a_drill_left_is_read_back(tmp_path: Path) -> None:
    left = Left(START, END, short=True, waits=3.0, memory=30.0, verdicts=({"name": "outage"},))
    write(tmp_path, left, [], [])
    assert read(tmp_path) == left
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "elsewhere")
