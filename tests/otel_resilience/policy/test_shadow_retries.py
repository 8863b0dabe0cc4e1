"""``RetryConfig(shadow=True)``: the retry is reported but not made."""

from __future__ import annotations

from typing import Any

import pytest

from otel_resilience import RetryConfig, error_context
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Driver, PermanentFault, Script, TransientFault, make_policy, tokens

SHADOW = RetryConfig(shadow=True)


def test_none_is_made_and_nothing_is_paid(driver: Driver, clock: FakeClock) -> None:
    script = Script(TransientFault())
    policy = make_policy(clock, retry=SHADOW)
    with pytest.raises(TransientFault) as caught:
        driver.execute(policy, script)
    assert (script.calls, clock.sleeps, tokens(policy)) == (1, [], 100)
    context = error_context(caught.value)
    assert context is not None
    assert not context.exhausted


def test_it_is_reported(clock: FakeClock) -> None:
    with RecordedTelemetry().recording() as recorded:
        policy = make_policy(clock, retry=SHADOW)
        with pytest.raises(TransientFault):
            policy.execute(Script(TransientFault(retry_after=7.0)).play, name="list")
    (event,) = (
        each.log_record for each in recorded.events if each.log_record.event_name == "resilience.retry.shadowed"
    )
    shown: dict[str, Any] = dict(event.attributes or {})
    assert shown["resilience.attempt.number"] == 2
    assert (shown["resilience.retry.delay"], shown["resilience.retry.source"]) == (7.0, "retry_after")
    (point,) = recorded.points("resilience.retry.suppressed")
    assert (point.attributes["resilience.retry.suppress_reason"], point.value) == ("shadow", 1)
    assert recorded.points("resilience.retry.delay") == []
    assert "resilience.retry.scheduled" not in recorded.event_names()


def test_what_would_not_be_retried_is_not_reported(clock: FakeClock) -> None:
    with RecordedTelemetry().recording() as recorded, pytest.raises(PermanentFault):
        make_policy(clock, retry=SHADOW).execute(Script(PermanentFault()).play)
    assert "resilience.retry.shadowed" not in recorded.event_names()


def test_the_results_of_a_shadow_are_returned(driver: Driver, clock: FakeClock) -> None:
    script = Script("bad")
    assert driver.execute(make_policy(clock, retry=SHADOW, retry_result=lambda value: value == "bad"), script) == "bad"
    assert script.calls == 1


def test_only_a_flag_will_do() -> None:
    with pytest.raises(TypeError, match="shadow must be True or False, not 1"):
        RetryConfig(shadow=1)  # type: ignore[arg-type]
