"""State on disk survives the process, the machine, and damaged files."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from otel_resilience import CircuitBreakerConfig, CircuitOpenError, RetryBudgetConfig
from otel_resilience.storage import (
    Action,
    BreakerStep,
    DiskStorage,
    SharedCircuitBreaker,
    SharedRetryBudget,
    SharedState,
    StorageError,
)
from otel_resilience.storage.backends import disk as disk_module
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import TransientFault

STORAGE_DEGRADED = "resilience.storage.degraded"
CONFIG = CircuitBreakerConfig(consecutive_failures=3, failure_rate=None, reset_timeout=60, probe_lease=6)


class Machine:
    """A computer: its wall clock can be set, and it can be restarted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.monotonic = FakeClock(5000.0)
        self.wall = FakeClock(1.7e9)
        self.boot = "boot-1"

    def storage(self) -> DiskStorage:
        return DiskStorage(self.folder, monotonic=self.monotonic, wall_clock=self.wall, boot=lambda: self.boot)

    def breaker(self) -> SharedCircuitBreaker:
        """That of a process which has just started."""
        return SharedCircuitBreaker(
            "supplier", CONFIG, shared=SharedState(self.storage()), clock=self.monotonic, rng=lambda: 1.0
        )

    def pass_time(self, seconds: float) -> None:
        self.monotonic.advance(seconds)
        self.wall.advance(seconds)

    def restart(self, after: float) -> None:
        self.wall.advance(after)
        self.monotonic.now = 10.0
        self.boot = "boot-2"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "state")


def fail(breaker: SharedCircuitBreaker) -> None:
    def operation() -> None:
        raise TransientFault

    with pytest.raises(TransientFault):
        breaker.execute(operation)


def rejected(breaker: SharedCircuitBreaker) -> float | None:
    with pytest.raises(CircuitOpenError) as raised:
        breaker.execute(lambda: None)
    return raised.value.retry_after


def test_failures_of_processes_that_came_one_after_the_other_open_the_circuit(machine: Machine) -> None:
    for _ in range(3):
        fail(machine.breaker())
        machine.pass_time(1)
    assert rejected(machine.breaker()) == pytest.approx(59)
    machine.pass_time(59)
    assert machine.breaker().execute(lambda: "the probe") == "the probe"
    assert machine.breaker().state.name == "CLOSED"


def test_a_probe_that_died_with_its_process_frees_its_slot_after_the_lease(machine: Machine) -> None:
    for _ in range(3):
        fail(machine.breaker())
    machine.pass_time(60)
    machine.breaker().admit()  # and then the process is killed
    assert rejected(machine.breaker()) == pytest.approx(6)
    machine.pass_time(6)
    assert machine.breaker().execute(lambda: 1) == 1


def test_a_wall_clock_that_is_set_back_or_ahead_changes_nothing(machine: Machine) -> None:
    for _ in range(3):
        fail(machine.breaker())
    machine.wall.now -= 1e6
    machine.monotonic.advance(20)
    assert rejected(machine.breaker()) == pytest.approx(40)
    machine.wall.now += 2e6
    assert rejected(machine.breaker()) == pytest.approx(40)


def test_after_a_new_start_of_the_machine_the_wall_clock_counts(machine: Machine) -> None:
    for _ in range(3):
        fail(machine.breaker())
    machine.restart(after=45)
    assert rejected(machine.breaker()) == pytest.approx(15)


def test_a_wall_clock_before_the_last_step_counts_as_no_time_at_all(machine: Machine) -> None:
    for _ in range(3):
        fail(machine.breaker())
    machine.restart(after=0)
    machine.wall.now -= 1e6
    assert rejected(machine.breaker()) == pytest.approx(60)  # never longer than the open time itself


def test_tokens_do_not_accrue_between_two_runs(machine: Machine) -> None:
    config = RetryBudgetConfig(refill_rate=0.2)

    def run(taken: int) -> float:
        shared = SharedState(machine.storage())
        budget = SharedRetryBudget("supplier", config, shared=shared, clock=machine.monotonic)
        for _ in range(taken):
            assert budget.take(10)
        machine.pass_time(5)
        shared.close()
        return budget.metrics().tokens

    assert run(8) == pytest.approx(21)
    machine.pass_time(3600)
    assert run(1) == pytest.approx(12)
    machine.restart(after=86_400)
    assert run(0) == pytest.approx(13)


def test_successes_and_credits_are_reported_at_the_end_of_the_process(machine: Machine) -> None:
    fail(machine.breaker())
    fail(machine.breaker())
    shared = SharedState(machine.storage())
    breaker = SharedCircuitBreaker("supplier", CONFIG, shared=shared, clock=machine.monotonic)
    breaker.execute(lambda: None)
    shared.close()
    fail(machine.breaker())
    assert machine.breaker().state.name == "CLOSED"


def damaged_files() -> list[Any]:
    usable = {"format": 1, "boot": "b", "monotonic": 1.0, "wall": 1.0, "at": 1.0}
    return [
        b"",
        b"{",
        b"\x00" * 100,
        b"[]",
        b"[" * 100_000,
        json.dumps({"format": 2}).encode(),
        json.dumps({**usable, "monotonic": "soon", "state": {}}).encode(),
        json.dumps({**usable, "state": []}).encode(),
        json.dumps({**usable, "state": {"other": {}}}).encode(),
        json.dumps({**usable, "state": {"breaker": {"state": "ajar"}}}).encode(),
        json.dumps({**usable, "state": {"breaker": {"generation": -1}}}).encode(),
        json.dumps({**usable, "state": {"breaker": {"window": [[1, 2]]}}}).encode(),
        json.dumps({**usable, "state": {"breaker": {"leases": {"a": None}}}}).encode(),
        json.dumps({**usable, "state": {"budget": {"tokens": 5}}}).encode(),
        b'{"format": 1, "boot": "", "monotonic": NaN, "wall": 1, "at": 1, "state": {}}',
        b"1" * (disk_module.MAX_BYTES + 1),
    ]


@pytest.mark.parametrize("content", damaged_files(), ids=lambda content: content[:60].decode("latin-1"))
@pytest.mark.fault("F53")
def test_a_damaged_file_is_set_aside_and_its_state_starts_empty(machine: Machine, content: bytes) -> None:
    path = machine.storage().path("supplier")
    path.parent.mkdir()
    path.write_bytes(content)
    with RecordedTelemetry().recording() as recorded:
        breaker = machine.breaker()
        assert breaker.execute(lambda: 1) == 1
        assert machine.breaker().state.name == "CLOSED"
        assert recorded.event_names() == ["resilience.storage.damaged"]
    assert path.with_suffix(".damaged").read_bytes() == content
    for _ in range(3):
        fail(breaker)
    assert machine.breaker().state.name == "OPEN"


@pytest.mark.parametrize("fault", ["write", "rename", "folder"])
def test_with_an_unwritable_disk_each_process_uses_local_state(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    if fault == "folder":
        machine.folder.write_text("a file where the folder should be")
    else:
        monkeypatch.setattr(*{"write": (json, "dump"), "rename": (Path, "replace")}[fault], full)
    with RecordedTelemetry().recording() as recorded:
        breaker = machine.breaker()
        for _ in range(3):
            fail(breaker)
        assert breaker.state.name == "OPEN"
        assert recorded.event_names().count("resilience.storage.degraded") == 1
        assert breaker._shared.degraded
        if fault == "folder":
            machine.folder.unlink()
        monkeypatch.undo()
        machine.pass_time(60)
        breaker.execute(lambda: None)
        assert recorded.event_names().count("resilience.storage.restored") == 1
    assert machine.breaker().state.name == "CLOSED"
    assert [path.suffix for path in machine.folder.iterdir() if path.suffix == ".tmp"] == []


def test_a_full_disk_that_can_still_be_read_is_one_outage(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EFBIG, "File too large")

    with RecordedTelemetry().recording() as recorded:
        breaker = machine.breaker()
        fail(breaker)
        monkeypatch.setattr(json, "dump", full)
        for _ in range(2):
            fail(breaker)
            machine.pass_time(1)
            assert breaker.state.name in {"CLOSED", "OPEN"}
        assert recorded.event_names().count(STORAGE_DEGRADED) == 1
        assert recorded.event_names().count("resilience.storage.restored") == 0
        [degraded] = [event.log_record for event in recorded.events if event.log_record.event_name == STORAGE_DEGRADED]
        assert (degraded.attributes or {})["error.type"] == "disk_full"
        monkeypatch.undo()
        machine.pass_time(60)
        breaker.execute(lambda: None)
        assert recorded.event_names().count("resilience.storage.restored") == 1


def test_another_process_that_holds_the_lock_is_not_waited_for_long(machine: Machine) -> None:
    storage = machine.storage()
    look = BreakerStep(action=Action.LOOK, config=CONFIG, lease_for=6)
    storage.breaker("supplier", look)
    script = f"""
        import fcntl, sys
        file = open({str(storage.path("supplier").with_suffix(".lock"))!r}, "ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        print("held", flush=True)
        sys.stdin.read()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match="held by another process"):
            storage.breaker("supplier", look)
    finally:
        holder.communicate()
    storage.breaker("supplier", look)


def test_processes_at_the_same_time_lose_no_failure(tmp_path: Path) -> None:
    script = f"""
        from otel_resilience import CircuitBreakerConfig
        from otel_resilience.storage import Action, BreakerStep, DiskStorage, StorageError
        storage = DiskStorage({str(tmp_path)!r})
        config = CircuitBreakerConfig(failure_threshold=1000, monitoring_period=600)
        step = BreakerStep(action=Action.FAIL, config=config, lease_for=6)
        made = 0
        while made < 50:
            try:
                storage.breaker("supplier", step)
                made += 1
            except StorageError:  # the others held the lock too long: then nothing was changed
                pass
    """
    workers = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)]) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    config = CircuitBreakerConfig(failure_threshold=1000, monitoring_period=600)
    look = BreakerStep(action=Action.LOOK, config=config, lease_for=6)
    assert DiskStorage(tmp_path).breaker("supplier", look).failures == 200


def test_files_are_readable_by_the_user_alone_and_one_per_dependency(machine: Machine) -> None:
    storage = machine.storage()
    names = ["a/b", "a_b", "../../etc/passwd", "x" * 300, "café"]
    paths = {storage.path(name) for name in names}
    assert len(paths) == len(names)
    for name in names:
        assert storage.pause(name, 5) == 5
    assert {path for path in machine.folder.iterdir() if path.suffix == ".json"} == paths
    assert machine.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_the_boot_id_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(disk_module, "_BOOT_ID", tmp_path / "none")
    assert disk_module.boot_id() == ""
    (tmp_path / "none").write_text("abc\n")
    assert disk_module.boot_id() == "abc"
