"""Text that cannot be encoded, or that a terminal must not get: only its row is set aside, and programs continue."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from catalog_sync.terminal.progress import _columns
from support.cli import Cli, Supplier, running_supplier

ROWS = 21


@pytest.fixture
def supplier(tmp_path: Path) -> Iterator[Supplier]:
    rows = [
        {
            "name": f"esim_{number}",
            "description": f"caf\u00e9 {number}",
            "groups": ["Standard Fixed"],
            "countries": [{"name": "Portugal", "region": "Europe", "iso": "PT"}],
            "dataAmount": 1000,
            "duration": 7,
            "price": 6.9,
        }
        for number in range(ROWS)
    ]
    rows[7]["description"] = "half an emoji \ud83d"
    rows[8]["description"] = "\x1b]0;title\x07 \x1b[2J"
    data = tmp_path / "rows.json"
    data.write_text(json.dumps(rows))
    with running_supplier(ROWS, "--data", str(data)) as running:
        yield running


@pytest.mark.slow
@pytest.mark.fault("S1", "U2")
def test_one_row_with_half_an_emoji_costs_itself_and_every_program_goes_on_printing(cli: Cli) -> None:
    report = cli("run", "--json").json
    assert (report["outcome"], report["bundles"], report["quarantined"]) == ("COMPLETE", ROWS - 1, 1)
    assert report["quarantined_rows"] == [{"group": "Standard Fixed", "name": "esim_7", "reason": "bad_text"}]
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for changes in ({}, ascii_only):
        found = cli("search", "--json", **changes).json
        assert found["total"] == ROWS - 1
        assert "caf\u00e9 1" in {bundle["description"] for bundle in found["bundles"]}
        for command in (("run",), ("search",), ("show", "esim_8"), ("status",), ("doctor",), ("alerts",)):
            result = cli(*command, **changes)
            assert result.code == 0, (command, result.err)
            assert "\x1b" not in result.out
    assert "\\x1b]0;title" in cli("show", "esim_8").out
    assert "quarantined     1 rows: bad_text" in cli("run").out


def test_an_argument_that_is_not_text_is_refused_in_one_line(cli: Cli) -> None:
    result = cli("run", "--group", "\udcff", "--json")
    assert result.code == 2
    assert "cannot be the name of a group" in result.json["error"]["message"]


@pytest.mark.fault("U1")
@pytest.mark.parametrize("width", [20, 40, 56, 60, 64, 80, 90, 120])
def test_the_progress_of_a_sync_is_not_cropped(width: int) -> None:
    out = Console(file=io.StringIO(), width=width, force_terminal=True)
    bar = Progress(*_columns(width), console=out)
    bar.add_task("sync", total=107, completed=104, groups="12/12", bundles="105,221")
    out.print(bar.make_tasks_table(bar.tasks))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "\u2026" not in text
    assert "104/107" in text
