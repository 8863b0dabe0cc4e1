"""A job that starts again and again, and a fleet, with a dependency that is down: compared with published models."""

from __future__ import annotations

import pytest
from benchmarks.simulations import BREAKER, FLEETS, JOBS, THRESHOLD, fleet, job

MODEL = {
    "naive, no budget": {5: 3.0, 20: 3.0, 100: 3.0},
    "budget, new in each run": {5: 3.0, 20: 1.5, 100: 1.1},
    "budget on disk": {5: 1.09, 20: 1.03, 100: 1.01},
    "budget and breaker on disk": {5: 0.23, 20: 0.06, 100: 0.02},
}


@pytest.mark.parametrize("gap", [60.0, 3600.0])
@pytest.mark.parametrize("calls", [5, 20])
@pytest.mark.parametrize("name", list(JOBS))
def test_attempts_per_planned_call_agree_with_the_model(name: str, calls: int, gap: float) -> None:
    found = job(calls, gap, **JOBS[name])
    assert found.attempts_per_call == pytest.approx(MODEL[name][calls], abs=0.005)


@pytest.mark.parametrize("calls", [20, 100])
def test_after_the_first_run_a_job_sends_at_most_a_tenth(calls: int) -> None:
    assert job(calls, 60.0, **JOBS["budget and breaker on disk"]).after_the_first_run <= 0.1
    assert job(5, 60.0, **JOBS["budget and breaker on disk"]).per_run[1:] == [1] * 23  # a probe each, no more


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_a_fleet_that_shares_sends_what_one_client_would(workers: int) -> None:
    alone = fleet(1, **FLEETS["shared"])
    together = fleet(workers, **FLEETS["shared"])
    assert together.burst <= THRESHOLD + workers
    assert together.failed <= alone.failed + 2 * workers
    assert together.lag <= BREAKER.open_time_cap + 1


def test_without_sharing_every_worker_pays_for_itself() -> None:
    assert fleet(4, **FLEETS["each for itself"]).failed > 3 * fleet(4, **FLEETS["shared"]).failed
    assert fleet(2, **FLEETS["naive, no budget, no breaker"]).failed == 3 * 2 * 1200
