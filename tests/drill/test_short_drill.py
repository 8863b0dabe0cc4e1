"""The shortened drill with the real programs: an outage, a revoked key, a job that nobody starts; calm before them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from drill.left import read
from drill.parts import missing_programs

from drill import panels
from support.programs import missing

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_every_incident_is_told_in_time_and_no_panel_is_silent_without_a_reason(tmp_path: Path) -> None:
    """One test, because the drill takes three minutes and its data serve both questions."""
    lacking = missing_programs()
    if lacking:
        missing(f"the drill needs: {', '.join(lacking)}")
    folder = tmp_path / "left"
    done = subprocess.run(
        [sys.executable, "-m", "drill", "--short", "--keep", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    left = read(folder)
    assert [verdict["incident"] for verdict in left.verdicts] == ["calm", "outage", "key-revoked", "job-never-ran"]
    spans = [json.loads(line) for line in (folder / "spans.jsonl").read_text("utf-8").splitlines()]
    assert {span["name"] for span in spans} >= {"catalog.sync", "attempt"}
    assert panels.check(folder, left).problems == []
