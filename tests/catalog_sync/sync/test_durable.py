"""A run without a copy that outlives the process is FAILED, and says what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.cli.run import summary
from catalog_sync.cli.status import sync_lines
from catalog_sync.domain.models import Outcome, SyncReport
from catalog_sync.domain.reports import is_report
from catalog_sync.last_run import read_last_run, write_last_run
from catalog_sync.store.backend import open_store
from catalog_sync.store.snapshot import Snapshot
from catalog_sync.sync.service import SyncService
from support.settings import make_settings
from support.sync_world import BUNDLES, World


def a_file_above_it(directory: Path) -> None:
    directory.parent.rmdir()
    directory.parent.write_text("in the way")


def a_link_to_nowhere(directory: Path) -> None:
    directory.symlink_to(directory.parent / "gone" / "further")


def a_folder_for_others(directory: Path) -> None:
    directory.mkdir(mode=0o500)
    if os.access(directory, os.W_OK):
        pytest.skip("this user can write to every folder")


async def run_in(world: World, state_dir: Path) -> tuple[SyncReport, Any]:
    """A sync of a process without REDIS_URL."""
    settings = make_settings(world.settings.base_url, state_dir)
    async with open_store(settings) as store:
        report = await SyncService(settings, world.supplier, store, Snapshot(state_dir)).run()
        return report, store.backend


@pytest.fixture(params=[a_file_above_it, a_link_to_nowhere, a_folder_for_others])
def unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    directory = tmp_path / "state" / "of catalog-sync"
    directory.parent.mkdir(exist_ok=True)
    prepare: Callable[[Path], None] = request.param
    prepare(directory)
    return directory


@pytest.fixture(params=[True, False], ids=["redis-server", "no redis-server"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr("catalog_sync.store.backend.shutil.which", lambda _: None)


@pytest.mark.fault("S2")
@pytest.mark.usefixtures("machine")
async def test_a_run_that_leaves_nothing_behind_is_failed(world: World, unwritable: Path) -> None:
    report, used = await run_in(world, unwritable)

    assert used == "in-process"
    assert report.outcome is Outcome.FAILED
    assert (report.version, report.bundles) == (None, 0)
    assert report.error is not None
    assert report.error.type == "not_durable"
    for word in (str(unwritable), "CATALOG_STATE_DIR", "REDIS_URL"):
        assert word in report.error.message
    assert "\n" not in report.error.message


@pytest.mark.fault("S2")
async def test_a_full_disk_fails_a_run_whose_snapshot_was_its_only_copy(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog_sync.store.backend.shutil.which", lambda _: None)

    async def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Snapshot, "write_version", full)
    report, _ = await run_in(world, tmp_path / "state")

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == "not_durable"
    assert "No space left" in report.error.message


@pytest.mark.fault("S2")
async def test_the_snapshot_alone_is_enough(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog_sync.store.backend.shutil.which", lambda _: None)
    report, used = await run_in(world, tmp_path / "state")
    assert (used, report.outcome, report.bundles) == ("in-process", Outcome.COMPLETE, BUNDLES)


@pytest.mark.fault("S2")
@pytest.mark.parametrize("takes", [True, False])
async def test_a_private_server_counts_only_while_its_own_disk_takes_everything(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, takes: bool
) -> None:
    state = tmp_path / "state"
    settings = make_settings(world.settings.base_url, state)
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")
    async with open_store(settings) as store:
        assert store.backend == "private-redis"
        if not takes:
            call = store.redis.call

            async def info(name: str, operation: Any, **options: Any) -> Any:
                found = await call(name, operation, **options)
                return {**found, "aof_last_write_status": "err"} if name == "info" else found

            monkeypatch.setattr(store.redis, "call", info)
        report = await SyncService(settings, world.supplier, store, Snapshot(blocked / "state")).run()

    assert report.outcome is (Outcome.COMPLETE if takes else Outcome.FAILED)
    assert len(report.warnings) == takes


@pytest.mark.fault("S2")
async def test_a_snapshot_that_is_not_written_is_shown_wherever_a_run_is(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert (await world.sync()).warnings == ()
    monkeypatch.setattr(Snapshot, "write_version", full)
    report = await world.sync()

    assert (report.outcome, report.error) == (Outcome.COMPLETE, None)
    [warning] = report.warnings
    assert "No space left" in warning
    assert str(world.snapshot.path) in warning
    assert f"  warning         {warning}" in summary(report)
    write_last_run(tmp_path / "last", report, ())
    last = read_last_run(tmp_path / "last")
    assert last is not None
    assert last["report"]["warnings"] == [warning]
    assert f"WARNING: {warning}" in sync_lines(last["report"])


@pytest.mark.parametrize("warnings", ["one", [1], [None], {"a": "b"}])
async def test_a_stored_report_with_other_warnings_is_none(world: World, warnings: object) -> None:
    stored = (await world.sync()).to_json()
    assert is_report(stored)
    assert is_report({name: value for name, value in stored.items() if name != "warnings"}), "of an earlier version"
    assert not is_report({**stored, "warnings": warnings})
