"""The shortened drill with the real programs: a calm phase, an outage, a revoked key, a job that nobody starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drill.__main__ import SHORT_MEMORY
from drill.left import read
from drill.pace import Pace
from drill.parts import missing_programs

from drill import panels
from support.programs import missing

ROOT = Path(__file__).parents[2]
SLOWEST = 3.0
"""How many times slower the drill is on a machine that has other work, at most."""


@pytest.mark.timeout(1200)
def test_every_incident_is_told_in_time_and_no_panel_is_silent_without_a_reason(tmp_path: Path) -> None:
    """One test, because the drill takes three minutes and its data serve both questions."""
    lacking = missing_programs()
    if lacking:
        missing(f"the drill needs: {', '.join(lacking)}")
    folder = tmp_path / "left"
    slower = slowness()
    pace = ("--waits", f"{Pace().waits / slower:.2f}", "--memory", f"{SHORT_MEMORY / slower:.2f}")
    done = subprocess.run(
        [sys.executable, "-m", "drill", "--short", *pace, "--keep", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=1180,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    left = read(folder)
    assert [verdict["incident"] for verdict in left.verdicts] == ["calm", "outage", "key-revoked", "job-never-ran"]
    spans = [json.loads(line) for line in (folder / "spans.jsonl").read_text("utf-8").splitlines()]
    assert {span["name"] for span in spans} >= {"catalog.sync", "attempt"}
    assert panels.check(folder, left).problems == []


def slowness() -> float:
    """The ratio of elapsed to processor time here: the programs of the drill wait for the processors as well.

    Where tests run beside each other, what the others do next is not known yet.
    """
    began, worked = time.monotonic(), processor_time()
    for _ in range(3):
        subprocess.run([sys.executable, "-m", "catalog_sync", "--help"], cwd=ROOT, capture_output=True, check=True)
    found = (time.monotonic() - began) / (processor_time() - worked)
    return min(SLOWEST, max(found, 2.0 if "PYTEST_XDIST_WORKER" in os.environ else 1.0))


def processor_time() -> float:
    """Processor time of the ended programs, in seconds."""
    times = os.times()
    return times.children_user + times.children_system
