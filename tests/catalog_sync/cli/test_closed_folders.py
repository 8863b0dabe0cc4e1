"""A working folder or a state folder that this user may not enter, as after ``sudo -u``, or once root ran it first."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import Cli, Result
from support.programs import require_program
from support.worker_world import process_environment

DROP = "-dac_override,-dac_read_search"
"""What lets root enter every folder."""


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that no user may enter."""
    if os.geteuid() == 0:
        require_program("setpriv")  # root may enter every folder
    folder = tmp_path / "closed"
    (folder / "state" / "alerts" / "outbox").mkdir(parents=True)
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def command(*arguments: str) -> list[str]:
    """A command of a user whom permissions bind."""
    drop = ["setpriv", f"--bounding-set={DROP}", f"--inh-caps={DROP}"] if os.geteuid() == 0 else []
    return [*drop, sys.executable, "-m", "catalog_sync", *arguments]


def call(cli: Cli, *arguments: str, **changes: str) -> Result:
    done = subprocess.run(
        command(*arguments),
        env={**process_environment(), **cli.env, **changes},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


def test_a_working_folder_that_may_not_be_entered_has_no_file_of_settings(cli: Cli, closed: Path) -> None:
    environment = {name: value for name, value in process_environment().items() if name != "CATALOG_ENV_FILE"}
    enter = "import os, sys; os.chdir(sys.argv[1]); os.chmod(sys.argv[1], 0); os.execvp(sys.argv[2], sys.argv[2:])"
    closed.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-c", enter, str(closed), *command("status", "--json")],
        env={**environment, **cli.env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, "unexpected error" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("below", ["", "state", "state/deeper"])
def test_a_state_folder_that_may_not_be_entered_is_as_one_that_cannot_be_written(
    cli: Cli, closed: Path, below: str
) -> None:
    state = {"CATALOG_STATE_DIR": str(closed / below)}
    report = call(cli, "run", "--json", **state).json
    assert report["outcome"] == "COMPLETE"
    assert "Permission denied" in report["warnings"][0]
    status = call(cli, "status", "--json", **state)
    assert (status.code, status.json["catalogue"]["version"]) == (0, report["version"])
    assert (status.json["alerts"]["outbox"], status.json["alerts"]["dead_letters"]) == ([], [])
    assert call(cli, "alerts", "--json", **state).code == 0
    assert call(cli, "alerts", "test", "--json", **state).code == 0
    assert call(cli, "syncs", "--json", **state).json["total"] == 1
    doctor = call(cli, "doctor", "--json", **state)
    assert doctor.code == 1
    checks = {check["name"]: check for check in doctor.json["checks"]}
    assert checks["state folder"]["status"] == "fail"
    assert "Permission denied" in checks["state folder"]["message"]
