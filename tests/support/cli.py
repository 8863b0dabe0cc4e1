"""The command line as users run it: in its own process, with its own environment."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import loopback, prefork

API_KEY = "cli-test-key-4711"


@dataclasses.dataclass(frozen=True)
class Result:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be exactly one JSON object."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"stdout is not one line: {self.out!r}; stderr: {self.err}"
        found = json.loads(lines[0])
        assert isinstance(found, dict)
        return found

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The JSON lines of standard error."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]


@dataclasses.dataclass(frozen=True)
class Supplier:
    """A simulator in its own process."""

    base_url: str
    control_url: str

    def play(self, scenario: str | dict[str, Any]) -> None:
        """Start a scenario."""
        loopback.post(f"{self.control_url}/scenario", json=scenario, timeout=60).raise_for_status()

    def reset(self) -> None:
        """Ends the scenario and resets the counters."""
        loopback.post(f"{self.control_url}/reset", timeout=60).raise_for_status()

    def requests(self) -> int:
        """Requests seen since the last reset."""
        answer = loopback.get(f"{self.control_url}/stats", timeout=60).json()
        return int(answer["requests"]["total"])


@contextmanager
def running_supplier(bundles: int, *options: str, **env: str) -> Iterator[Supplier]:
    """A simulator without a rate limit, unless the options say otherwise. ``env`` adds to its environment."""
    arguments = ["--json", "--rate", "0", "--bundles", str(bundles), "--api-key", API_KEY, *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "catalog_sync", "simulate", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(env),
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield Supplier(ready["base_url"], ready["control_url"])
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


class Cli:
    """``cli("run", "--json")``; retries without noticeable waits."""

    def __init__(self, state_dir: Path, supplier: Supplier | None, redis_url: str | None) -> None:
        self.state_dir = state_dir
        self.env = {
            "CATALOG_STATE_DIR": str(state_dir),
            "CATALOG_SUPPLIER_RATE_PER_S": "0",
            "CATALOG_ATTEMPT_TIMEOUT_MS": "5000",
            "ERROR_RETRY_BASE_DELAY": "1",
            "ERROR_RETRY_MAX_ATTEMPTS": "3",
            "ESIM_GO_API_KEY": API_KEY,
            "ESIM_GO_BASE_URL": supplier.base_url if supplier else "http://127.0.0.1:9/v2.5",
            "REDIS_URL": redis_url or "",
        }

    def __call__(self, *arguments: str, **changes: str) -> Result:
        """Run one command to its end; ``changes`` to the environment, empty for unset."""
        env = _environment({**self.env, **changes})
        result = Result(*prefork.run(arguments, env)) if prefork.may_run(changes) else _started((), arguments, env)
        assert "Traceback (most recent call last)" not in result.err.replace("\\n", "")
        return result

    def under(self, launcher: Sequence[str], *arguments: str, **changes: str) -> Result:
        """The same, started by another program."""
        result = _started(launcher, arguments, _environment({**self.env, **changes}))
        assert "Traceback (most recent call last)" not in result.err.replace("\\n", "")
        return result

    def start(self, *arguments: str, **changes: str) -> Running:
        """Starts one command without waiting for its end."""
        return Running(
            subprocess.Popen(
                [sys.executable, "-m", "catalog_sync", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment({**self.env, **changes}),
                text=True,
            )
        )


class Running:
    """A running command."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def stop(self, number: signal.Signals) -> tuple[Result, float]:
        """Sends a signal. Returns the result, and the seconds that it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        return self.result(), time.monotonic() - started

    def result(self) -> Result:
        """Wait for the end."""
        out, err = self.process.communicate(timeout=100)
        return Result(self.process.returncode, out, err)


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until something outside this process has happened."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.01)


def _started(launcher: Sequence[str], arguments: Sequence[str], env: dict[str, str]) -> Result:
    command = [*launcher, sys.executable, "-m", "catalog_sync", *arguments]
    done = subprocess.run(command, capture_output=True, env=env, text=True, timeout=prefork.GIVEN_UP_AFTER, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def _environment(changes: dict[str, str]) -> dict[str, str]:
    own = ("ESIM_GO_", "REDIS_URL", "CATALOG_", "ERROR_", "OTEL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {"CATALOG_ENV_FILE": "none", **kept, **{name: value for name, value in changes.items() if value}}
