"""What the drill speeds up, and by which factor."""

from __future__ import annotations

import pytest
import yaml
from drill.pace import Pace, compressed, divided, expression
from grafana.generate.rules.recording import BUDGET_STEP
from grafana.generate.settings import EVALUATION_INTERVAL

from drill import pace as paces
from support.programs import require_program
from support.promtool import FOLDER

PACE = Pace(waits=4, memory=30)


@pytest.mark.parametrize(
    ("given", "factor", "expected"),
    [
        ("5m", 30, "10s"),
        ("15s", 4, "3750ms"),
        ("1h30m", 30, "180s"),
        ("3d", 30, "8640s"),
        ("500ms", 4, "125ms"),
        ("1ms", 30, "1ms"),
        ("0s", 30, "0s"),
        ("10m", 1, "600s"),
    ],
)
def test_a_duration_is_divided_and_never_vanishes(given: str, factor: float, expected: str) -> None:
    assert divided(given, factor) == expected


@pytest.mark.parametrize("given", ["", "5", "m", "5 m", "-5m", "5m!"])
def test_what_is_not_a_duration_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        divided(given, 2)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rate(x[5m])", "rate(x[10s])"),
        ("x[1h] offset 5m", "x[120s] offset 10s"),
        ("max_over_time(x[1h:5m])", "max_over_time(x[120s:10s])"),
        ('x{text="[5m] offset 5m"}[5m]', 'x{text="[5m] offset 5m"}[10s]'),
        ("time() - x > 86400", "time() - x > 86400"),
        ("x_5m + m5", "x_5m + m5"),
    ],
)
def test_of_a_query_ranges_and_offsets_are_divided_and_nothing_else(query: str, expected: str) -> None:
    assert expression(query, 30) == expected


def test_of_a_rule_waits_and_memory_are_divided_by_their_own_factors() -> None:
    rule = {"alert": "A", "expr": "x[5m] > 0", "for": "1m", "keep_firing_for": "5m", "labels": {"for": "1m"}}
    file = {"groups": [{"name": "g", "interval": "10s", "rules": [rule]}]}
    group = compressed(file, PACE)["groups"][0]
    assert group["interval"] == "2500ms"
    assert {key: group["rules"][0][key] for key in ("expr", "for", "keep_firing_for")} == {
        "expr": "x[10s] > 0",
        "for": "15s",
        "keep_firing_for": "10s",
    }


def test_labels_and_texts_stay_as_they_are() -> None:
    rule = {"alert": "A", "expr": "x", "labels": {"for": "1m"}, "annotations": {"interval": "5m", "expr": "x[5m]"}}
    assert compressed({"rules": [rule]}, PACE) == {"rules": [rule]}


def test_a_moment_is_looked_for_more_often_than_its_window_is_long() -> None:
    intervals = {group["name"]: group["interval"] for group in paces.rule_files(PACE)["recording.yml"]["groups"]}
    assert intervals == {
        "budget": divided(f"{BUDGET_STEP}s", PACE.memory),
        "remembered": divided(f"{EVALUATION_INTERVAL}s", PACE.memory),
    }


def test_every_committed_rule_is_played() -> None:
    committed = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    played = paces.rule_files(PACE)["alerts.yml"]
    for theirs, ours in zip(committed["groups"], played["groups"], strict=True):
        assert [rule["alert"] for rule in theirs["rules"]] == [rule["alert"] for rule in ours["rules"]]
        assert [rule["labels"] for rule in theirs["rules"]] == [rule["labels"] for rule in ours["rules"]]


@pytest.mark.parametrize("name", ["alerts.yml", "recording.yml"])
def test_prometheus_takes_the_compressed_rules(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import subprocess

    file = tmp_path / name
    file.write_text(yaml.safe_dump(paces.rule_files(PACE)[name]), encoding="utf-8")
    answer = subprocess.run(
        [require_program("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_routes_keep_their_grouping() -> None:
    played = paces.routing(PACE, "http://127.0.0.1:1")["route"]
    page = next(route for route in played["routes"] if route["receiver"] == "page")
    assert page["group_by"] == ["..."]
    assert (page["group_wait"], page["group_interval"]) == ("1250ms", "333ms")


def test_a_minute_of_an_incident_is_a_quarter_of_a_minute_here() -> None:
    assert PACE.wall(60) == 15
    assert PACE.incident(15) == 60


def test_a_slower_pace_is_the_same_drill() -> None:
    usual, slower = Pace(3.0, 36.0), Pace(1.5, 18.0)
    assert paces.application(slower)["CATALOG_SYNC_DEADLINE_MS"] == "40000"
    stale_after = [paces.settings(pace).stale_after for pace in (usual, slower)]
    assert stale_after == [80, 160]
    silences = [paces.settings(pace).no_sync_after / pace.memory for pace in (usual, slower)]
    assert silences == pytest.approx([20, 40])
