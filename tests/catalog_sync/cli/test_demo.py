"""``demo``: one real run, and its output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli, wait_until
from support.redis_server import require_redis_server


def demo(tmp_path: Path, *arguments: str, limit: float = 250) -> tuple[subprocess.CompletedProcess[str], float]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "catalog_sync", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    return done, time.monotonic() - started


@pytest.mark.slow
def test_the_four_acts_for_people(tmp_path: Path) -> None:
    done, seconds = demo(tmp_path, "--fast")
    text = done.stdout
    assert done.returncode == 0, text + done.stderr
    assert seconds < 200
    assert "\x1b" not in text
    assert done.stderr == ""
    assert max(map(len, text.splitlines())) <= 100
    acts = re.split(r"^Act \d: ", text, flags=re.MULTILINE)[1:]
    assert len(acts) == 4
    healthy, faulty, outage, recovery = acts
    assert "COMPLETE" in healthy
    assert "Errors  none" in healthy
    assert "COMPLETE" in faulty
    for word in ("429", "read_timeout", "502", "throttled", "100%", "stayed closed"):
        assert word in faulty
    assert outage.count("FAILED") >= 3
    for word in ("closed → open", "half_open → open", "failure threshold", "the same", "Readers meanwhile"):
        assert word in outage
    assert "half_open → closed" in recovery
    assert re.search(r"Supplier back → catalogue COMPLETE: \d+\.\d s", recovery)
    # The tree of a call goes through both services, under the correlation ID of its run.
    assert re.search(r"└ attempt 1 .*catalog-sync .*\n.*GET .*catalog-sync .*\n.*GET /catalogue.* simulator", healthy)
    identifier = re.search(r"trace and correlation ID ([0-9a-f]{32})", faulty)
    assert identifier
    assert f"correlation ID {identifier[1]}" in faulty.split("worst call")[0]
    assert "What to try next" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_four_acts_for_machines(tmp_path: Path) -> None:
    done, _ = demo(tmp_path, "--fast", "--json")
    story = json.loads(done.stdout)
    assert (done.returncode, story["ok"]) == (0, True)
    faulty, outage, recovery = story["acts"][1:]
    assert faulty["retries"]["rate"] == 1.0
    assert faulty["retries"]["needed"] > 3
    assert [run["outcome"] for run in outage["runs"]] == ["FAILED"] * 3
    assert outage["runs"][1]["attempts"] == 0
    assert outage["readers"]["unharmed"] is True
    probed = [("open", "half_open"), ("half_open", "open")]
    changes = [(change["from"], change["to"]) for change in outage["breaker"]]
    assert changes == [("closed", "open"), *probed * (len(changes) // 2)]
    assert len(changes) >= 3
    assert 0 < recovery["recovery"]["circuit_closed_after_s"] < recovery["recovery"]["complete_after_s"]
    for act in story["acts"]:
        assert {"catalog-sync", "esim-go-simulator"} == set(services(act["worst_call"]))


def services(branch: dict[str, Any]) -> list[str]:
    return [branch["service"], *(name for child in branch["children"] for name in services(child))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    require_redis_server()
    running = Cli(tmp_path / "unused", None, None).start("demo", TMPDIR=str(tmp_path))
    wait_until(lambda: list(tmp_path.glob("*/redis/**/*")))
    time.sleep(0.5)
    result, seconds = running.stop(number)
    assert result.code == 128 + number
    assert seconds < 5
    assert f"stopped by {number.name}" in result.err
    wait_until(lambda: list(tmp_path.iterdir()) == [])
