"""The drill starts when everything is known to run, and not before."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from drill.judge import Message, Reported
from drill.pace import Pace
from drill.parts import COMPILER, STATE, World

from drill import play as plays
from support.programs import require_program


class Starting:
    """A world in which the first scrapes of Prometheus find nothing, so that an alert is reported late."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.reported: list[Message] = []
        self.pace = Pace()
        self.job = SimpleNamespace(go=lambda: None, runs=[SimpleNamespace(outcome="COMPLETE")] * 2)
        self.supplier = SimpleNamespace(play=lambda scenario: None)
        self.receiver = SimpleNamespace(messages=lambda: list(self.reported))
        self.forgot_at = 0.0

    def is_watched(self) -> bool:
        self.looks -= 1
        if self.looks == 0:
            self.reported += [self._message(firing=True), self._message(firing=False)]
        return self.looks <= 0

    def firing(self) -> set[str]:
        return set()

    def over(self) -> set[str]:
        return set()

    @staticmethod
    def _message(*, firing: bool) -> Message:
        reported = Reported("CollectorDown", firing=firing, key="{}")
        return Message(at=time.time(), way="page", group="telemetry", alerts=(reported,))


def test_what_is_reported_before_the_targets_are_seen_is_not_a_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plays, "POLL", 0.01)
    monkeypatch.setattr(plays, "SETTLED", 0.05)
    world: Any = Starting(looks=3)
    [verdict] = plays.play(world, [], calm=0.05)
    assert len(world.reported) == 2
    assert verdict.problems == ()


def test_a_world_that_does_not_settle_is_not_a_drill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plays, "POLL", 0.01)
    monkeypatch.setattr(plays, "STARTED_WITHIN", 0.05)
    world: Any = Starting(looks=1_000_000)
    with pytest.raises(RuntimeError, match="targets"):
        list(plays.play(world, [], calm=0.0))


def a_world(folder: Path, **parts: Any) -> World:
    needed = {field.name: None for field in dataclasses.fields(World) if field.default is dataclasses.MISSING}
    del needed["notes"]
    return World(**{**needed, "pace": Pace(), "folder": folder, **parts})


def test_an_incident_does_not_inherit_the_messages_of_the_one_before(tmp_path: Path) -> None:
    done: list[str] = []
    records = tmp_path / STATE / "alerts" / "incidents"
    records.mkdir(parents=True)
    (records / "a3e911ffc7806642.json").write_text("{}")
    job = SimpleNamespace(
        pause=lambda: done.append("pause"), go=lambda: done.append(f"go, {len(list(records.iterdir()))}")
    )
    world = a_world(tmp_path, job=job, alertmanager=SimpleNamespace(forget=lambda: done.append("anew")))

    def command(*parts: Any) -> Any:
        if parts == ("KEYS", "*:incidents"):
            return [b"k"]
        done.append(parts[0])
        return 1

    world.redis = SimpleNamespace(command=command)  # type: ignore[assignment]
    world.forget()
    assert done == ["pause", "DEL", "anew", "go, 0"]
    assert world.forgot_at > 0


def test_an_incident_is_over_when_its_record_says_so_though_its_last_message_waits(tmp_path: Path) -> None:
    records = tmp_path / STATE / "alerts" / "incidents"
    records.mkdir(parents=True)
    for fingerprint, over_at in (("flapped", 1.0), ("goes-on", None), ("in-redis", None)):
        record = {"fingerprint": fingerprint, "over_at": over_at, "calm_since": None}
        (records / f"{fingerprint}.json").write_text(json.dumps(record))
    stored = [{"fingerprint": "in-redis", "over_at": None, "calm_since": 1.0}]
    answers = {("KEYS", "*:incidents"): [b"k"], ("HVALS", b"k"): [json.dumps(record) for record in stored]}
    begun = [Reported("circuit_breaker", firing=True, key=key) for key in ("flapped", "goes-on", "in-redis")]
    messages = [Message(at=2.0, way="webhook", group="", alerts=tuple(begun))]
    world = a_world(tmp_path, receiver=SimpleNamespace(messages=lambda: messages))
    world.redis = SimpleNamespace(command=lambda *parts: answers[parts])  # type: ignore[assignment]
    assert plays._open(world) == {("application", "circuit_breaker", "goes-on")}
    world.forgot_at = 3.0
    assert plays._open(world) == set()


@pytest.mark.parametrize("off", [3600, -3600])
def test_a_program_with_a_wrong_clock_has_another_time_and_the_same_waits(tmp_path: Path, off: int) -> None:
    require_program(COMPILER)
    world: Any = SimpleNamespace(folder=tmp_path)
    asks = (
        "import datetime, threading, time; began = time.monotonic(); time.sleep(0.01); threading.Event().wait(0.01);"
        " print(time.time(), datetime.datetime.now().timestamp(), time.monotonic() - began)"
    )
    command = [*World.wrong_clock(world, off), sys.executable, "-c", asks]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    clock, calendar, took = map(float, answer.stdout.split())
    assert abs(clock - time.time() - off) < 60
    assert abs(calendar - clock) < 1
    assert 0.02 <= took < 60
