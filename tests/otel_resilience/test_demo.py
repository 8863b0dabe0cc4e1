"""``python -m otel_resilience.demo``."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

COMMAND = [sys.executable, "-W", "error", "-m", "otel_resilience.demo"]


def run(command: list[str] = COMMAND, **variables: str) -> subprocess.CompletedProcess[str]:
    environment: dict[str, str] = {**os.environ, "COLUMNS": "60", "PYTHONIOENCODING": "utf-8", **variables}
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=120, check=False)


def test_it_shows_attempts_waits_outcome_events_and_metrics() -> None:
    ended = run()
    assert (ended.returncode, ended.stderr) == (0, "")
    for shown in (
        "supplier list plans: ok_after_retry, ",
        "├─ attempt 1: connection_error (transient, MEDIUM), ",
        "├─ attempt 2: connection_error (transient, MEDIUM), ",
        "└─ attempt 3: ok, ",
        "resilience.retry.scheduled: next attempt in ",
        "resilience.operation.attempts 3 attempt:",
    ):
        assert shown in ended.stdout
    assert ended.stdout.count("wait 0.") == 2
    assert max(map(len, ended.stdout.splitlines())) <= 60
    assert "\x1b" not in ended.stdout


def test_it_draws_with_the_characters_that_standard_output_has() -> None:
    ended = run(PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "`- attempt 3: ok, " in ended.stdout
    assert ended.stdout.isascii()


@pytest.mark.parametrize(("redirected", "code"), [(">&-", 0), ("> /dev/full", 1)])
def test_it_ends_quietly_where_nothing_can_be_written(redirected: str, code: int) -> None:
    ended = run(["sh", "-c", f'"$0" "$@" {redirected}', *COMMAND])
    assert (ended.returncode, ended.stderr) == (code, "")


def test_it_ends_quietly_where_no_one_reads_it() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        options: dict[str, Any] = {"stdout": writing, "stderr": subprocess.PIPE, "timeout": 120}
        ended = subprocess.run(COMMAND, check=False, **options)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_without_the_sdk_it_says_what_to_install() -> None:
    hidden = "import runpy, sys; sys.modules['opentelemetry.sdk'] = None; "
    script = hidden + "runpy.run_module('otel_resilience.demo', run_name='__main__')"
    ended = run([sys.executable, "-W", "error", "-c", script])
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "the demo needs opentelemetry-sdk: pip install 'otel-resilience[testing]'\n"
