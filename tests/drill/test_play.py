"""The drill begins when everything that runs is seen, and not before."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from drill.judge import Message, Reported
from drill.pace import Pace

from drill import play as plays


class Starting:
    """A world in which the first looks of Prometheus find nothing, so that an alert is reported late."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.reported: list[Message] = []
        self.pace = Pace()
        self.job = SimpleNamespace(go=lambda: None, runs=[SimpleNamespace(outcome="COMPLETE")] * 2)
        self.supplier = SimpleNamespace(play=lambda scenario: None)
        self.receiver = SimpleNamespace(messages=lambda: list(self.reported))

    def is_watched(self) -> bool:
        self.looks -= 1
        if self.looks == 0:
            self.reported += [self._message(firing=True), self._message(firing=False)]
        return self.looks <= 0

    def firing(self) -> set[str]:
        return set()

    @staticmethod
    def _message(*, firing: bool) -> Message:
        reported = Reported("CollectorDown", firing=firing, key="{}")
        return Message(at=time.time(), way="page", group="telemetry", alerts=(reported,))


def test_what_is_reported_before_the_targets_are_seen_is_no_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plays, "POLL", 0.01)
    monkeypatch.setattr(plays, "SETTLED", 0.05)
    world: Any = Starting(looks=3)
    [verdict] = plays.play(world, [], calm=0.05)
    assert len(world.reported) == 2
    assert verdict.problems == ()


def test_a_world_that_does_not_settle_is_no_drill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plays, "POLL", 0.01)
    monkeypatch.setattr(plays, "STARTED_WITHIN", 0.05)
    world: Any = Starting(looks=1_000_000)
    with pytest.raises(RuntimeError, match="targets"):
        list(plays.play(world, [], calm=0.0))
