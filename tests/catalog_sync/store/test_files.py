"""A JSON file is replaced completely or not at all."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog_sync.settings.folders import make_private
from catalog_sync.store.files import write_json_atomically
from otel_resilience._internal.files import make_private as library_make_private


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    for number in range(2):
        write_json_atomically(path, {"number": number, "text": "é"})
        assert json.loads(path.read_text("utf-8")) == {"number": number, "text": "é"}
    assert [each.name for each in path.parent.iterdir()] == ["state.json"]
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("step", ["fsync", "replace", "dump"])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    write_json_atomically(path, "old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace"), "dump": (json, "dump")}[step], fail)
    with pytest.raises(OSError, match="No space left"):
        write_json_atomically(path, "new")
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]
    assert json.loads(path.read_text("utf-8")) == "old"


def test_the_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append("fsync")
        fsync(descriptor)

    def replaced(source: Path, target: Path) -> Path:
        steps.append("replace")
        assert json.loads(source.read_text("utf-8")) == "new"
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_json_atomically(tmp_path / "state.json", "new")
    assert steps == ["fsync", "replace", "fsync"]


@pytest.mark.fault("S13")
@pytest.mark.parametrize("make", [make_private, library_make_private])
def test_folders_that_are_missing_are_made_for_this_user_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)
    make(there / "a" / "b" / "c")
    make(there / "a" / "b" / "c")

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (there, there / "a", there / "a" / "b", there / "a/b/c")]
    assert modes == [0o755, 0o700, 0o700, 0o700]
    (there / "file").touch()
    with pytest.raises(OSError, match="file"):
        make(there / "file" / "a")
