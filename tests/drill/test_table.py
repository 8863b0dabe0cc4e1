"""How the drill shows its findings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from drill.judge import CALM, Detection, Expectation, Verdict

from drill import table

OUTAGE = Expectation("outage", "the supplier is down", frozenset({"SyncFailed"}))
GOOD = Verdict(
    OUTAGE,
    rule=Detection("SyncFailed", "page", 33.4, trace=True),
    application=Detection("sync_failed", "webhook", 12.0),
    rule_messages={("page", "catalogue"): 2},
    application_messages={("webhook", "application"): 2},
)
QUIET = Verdict(CALM, None, None, {}, {})


def test_an_incident_is_one_line() -> None:
    assert table.rows([GOOD]) == [
        ("outage", "SyncFailed (page)", "33 s", "sync_failed (webhook)", "12 s", "2 page", "2 webhook", "yes / –", "0")
    ]


def test_what_was_not_told_is_a_dash_and_a_lie_has_a_name() -> None:
    lie = dataclasses.replace(QUIET, false_alarms=("NoSyncSeen", "SyncFailed"))
    assert table.rows([lie]) == [("calm", "–", "–", "–", "–", "0", "0", "–", "NoSyncSeen, SyncFailed")]


def test_messages_about_two_components_are_told_apart() -> None:
    line = dataclasses.replace(GOOD, rule_messages={("page", "catalogue"): 2, ("page", "alerting"): 1})
    assert table.rows([line])[0][5] == "1 page (alerting), 2 page (catalogue)"


def test_a_trace_that_does_not_show_the_failure_stands_out() -> None:
    line = dataclasses.replace(GOOD, rule=Detection("SyncFailed", "page", 33.4, trace=False))
    assert table.rows([line])[0][7] == "NO / –"


def test_the_summary_counts_incidents_and_not_the_calm() -> None:
    missed = dataclasses.replace(GOOD, rule=None, application=None)
    assert table.summary([QUIET, GOOD, missed]) == (
        "1 of 2 detected; slowest page 33 s; most messages at one receiver 2; false alarms 0"
    )


def test_columns_stand_below_one_another() -> None:
    assert table.markdown(("a", "b"), [("long", "x")]) == "| a    | b |\n| ---- | - |\n| long | x |"


def test_programs_get_every_column_by_name() -> None:
    (data,) = table.as_data([GOOD])
    assert (data["incident"], data["rule_after"], data["title"], data["problems"]) == (
        "outage",
        "33 s",
        "the supplier is down",
        [],
    )


def test_the_page_is_written_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "drill.md"
    page.write_text("before\n<!-- drill: begin -->\nold\n<!-- drill: end -->\nafter\n", encoding="utf-8")
    table.write_page("new", page)
    assert page.read_text("utf-8") == "before\n<!-- drill: begin -->\n\nnew\n\n<!-- drill: end -->\nafter\n"


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "drill.md"
    page.write_text("text", encoding="utf-8")
    with pytest.raises(ValueError, match="no place"):
        table.write_page("new", page)
    assert page.read_text("utf-8") == "text"


def test_the_committed_page_has_the_marks(tmp_path: Path) -> None:
    copy = tmp_path / "copy.md"
    copy.write_text(table.PAGE.read_text("utf-8"), encoding="utf-8")
    table.write_page("new", copy)
    assert "new" in copy.read_text("utf-8")
