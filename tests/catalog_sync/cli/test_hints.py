"""Commands that we print work when they are pasted."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from catalog_sync.demo.acts import Act
from catalog_sync.demo.scenery import TRY_NEXT, closing
from catalog_sync.terminal.output import pasteable


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment whose path contains a space, and whose programs are not on the PATH."""
    programs = tmp_path / "my shop" / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("catalog-sync", "python"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return programs


def test_a_program_on_the_path_is_named_as_it_is(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(environment))
    assert pasteable("catalog-sync status") == "catalog-sync status"


@pytest.mark.fault("U10")
def test_another_is_named_by_its_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pasteable("catalog-sync run; echo $?") == f"'{environment}/catalog-sync' run; echo $?"
    monkeypatch.chdir(environment.parents[1])
    assert pasteable("catalog-sync status") == ".venv/bin/catalog-sync status"


def test_in_a_folder_that_was_deleted_it_is_named_by_its_whole_path(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert pasteable("catalog-sync status") == f"'{environment}/catalog-sync' status"


def test_what_is_not_a_program_of_ours_stays(environment: Path) -> None:
    assert shutil.which("export") is None
    assert pasteable("export REDIS_URL=redis://127.0.0.1") == "export REDIS_URL=redis://127.0.0.1"


@pytest.mark.fault("U10")
@pytest.mark.parametrize("width", [40, 60, 80])
def test_what_to_try_after_the_demo_is_pasted_as_it_is_shown(environment: Path, width: int) -> None:
    """A command that is wrapped is two commands when it is pasted."""
    out = Console(file=io.StringIO(), width=width)
    closing(out, [], 1.0)
    assert isinstance(out.file, io.StringIO)
    shown = {line.strip() for line in out.file.getvalue().splitlines()}
    assert {pasteable(command) for _, command in TRY_NEXT} <= shown


@pytest.mark.fault("U3")
def test_an_act_says_why_it_fell_short() -> None:
    act = Act(1, "A healthy sync", "")
    assert not act.expected
    act.judge(None, "the circuit did not close", None)
    assert (act.expected, act.to_json()["shortfalls"]) == (False, ["the circuit did not close"])
    act.judge(None)
    assert act.expected
