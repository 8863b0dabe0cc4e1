"""The committed files are those that the generator writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from grafana.generate import files
from grafana.generate.rules import all_rules
from grafana.generate.settings import Settings, duration

ROOT = Path(__file__).parents[2]
GENERATED = files.generated(Settings())


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_current(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name], "run: make dashboards"


@pytest.mark.parametrize("folder", ["grafana/dashboards", "grafana/provisioning", "grafana/prometheus/rules"])
def test_no_file_is_left_that_nothing_writes(folder: str) -> None:
    found = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert found - GENERATED.keys() == set()


def test_the_runbook_has_a_section_for_every_rule() -> None:
    headings = {line[3:].lower() for line in GENERATED["docs/alerts.md"].splitlines() if line.startswith("## ")}
    assert headings == {rule.anchor for rule in all_rules(Settings())}


def test_the_place_of_the_runbook_can_be_set() -> None:
    text = files.generated(Settings(runbook_base="https://runbook.example"))["grafana/prometheus/rules/alerts.yml"]
    assert "https://runbook.example#syncfailed" in text


def test_thresholds_can_be_set_for_a_shorter_day() -> None:
    text = files.generated(Settings(stale_after=120, no_sync_after=90))["grafana/prometheus/rules/alerts.yml"]
    assert "> 120" in text
    assert "[90s]" in text


@pytest.mark.parametrize(("seconds", "text"), [(15, "15s"), (90, "90s"), (5400, "90m"), (86400, "1d"), (90000, "25h")])
def test_a_duration_is_written_with_its_largest_whole_unit(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_a_duration_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one second"):
        duration(0)
