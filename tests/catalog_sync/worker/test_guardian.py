"""The guardian of ``up`` knows what runs, lets it end, and kills what does not end."""

from __future__ import annotations

import os
import signal

import pytest

from catalog_sync.up import guardian


def test_what_has_ended_is_forgotten() -> None:
    assert guardian.running(["+11\n", "+12\n", "-11\n", "+13\n", "-99\n"]) == {12, 13}


@pytest.mark.parametrize("obeys", [True, False])
def test_processes_get_time_to_end_and_are_killed_after_it(monkeypatch: pytest.MonkeyPatch, obeys: bool) -> None:
    alive, sent, waited = {7}, [], [0.0]

    def kill(process: int, number: int) -> None:
        if process not in alive:
            raise ProcessLookupError
        if number:
            sent.append((process, number))
        elif obeys and waited[0] > 1:
            alive.discard(process)

    def kill_group(process: int, number: int) -> None:
        sent.append((-process, number))

    def sleep(seconds: float) -> None:
        waited[0] += seconds

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(os, "killpg", kill_group)
    guardian.end({7, 8}, clock=lambda: waited[0], sleep=sleep)
    assert sent[0] == (7, signal.SIGTERM)
    assert set(sent[1:]) == {(-7, signal.SIGKILL), (-8, signal.SIGKILL)}
    assert waited[0] == pytest.approx(1.2 if obeys else guardian.STOP_WITHIN, abs=0.2)
