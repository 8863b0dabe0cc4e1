"""The verdict on an exception group: merged field by field, whatever the order and the nesting of its members."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_resilience import (
    BreakerEffect,
    CircuitBreakerConfig,
    CircuitOpenError,
    Classification,
    ErrorClass,
    Policy,
    RetryConfig,
    Severity,
    classify,
)
from otel_resilience.classification.model import merge_verdicts
from otel_resilience.testing import FakeClock
from support.resilience import Script, TransientFault, run_fake


def status_error(status: int, method: str = "GET", **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request(method, "http://supplier.test/")
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.Response(status, headers=fields, request=request)
    return httpx.HTTPStatusError("status", request=request, response=response)


def read_timeout(method: str) -> httpx.ReadTimeout:
    return httpx.ReadTimeout("late", request=httpx.Request(method, "http://supplier.test/"))


def refused(method: str = "GET") -> httpx.ConnectError:
    return httpx.ConnectError("refused", request=httpx.Request(method, "http://supplier.test/"))


def verdict_on(*members: Exception) -> Classification:
    """The verdict on a group, after a check that no order of its members gives another."""
    verdicts = {classify(ExceptionGroup("group", order)) for order in itertools.permutations(members)}
    assert len(verdicts) == 1
    return verdicts.pop()


class WithVerdict(Exception):  # noqa: N818  # a name of the tests
    def __init__(self, verdict: Classification) -> None:
        super().__init__(verdict)
        self.classification = verdict


verdicts = st.builds(
    Classification,
    st.sampled_from([each for each in ErrorClass if each is not ErrorClass.CANCELLED]),
    st.sampled_from(Severity),
    st.sampled_from(["503", "404", "read_timeout", "_OTHER"]),
    st.sampled_from(BreakerEffect),
    retry_after=st.none() | st.floats(0, 1e6),
    unsent=st.booleans(),
    unclassified=st.booleans(),
    max_retries=st.none() | st.integers(0, 3),
    idempotent=st.none() | st.booleans(),
    immediate=st.booleans(),
)


@pytest.mark.fault("L2")
class TestFields:
    def test_a_group_is_never_unsent_since_what_succeeded_beside_its_members_is_not_seen(self) -> None:
        assert classify(ConnectionRefusedError()).unsent
        assert not verdict_on(ConnectionRefusedError(), ConnectionRefusedError(111, "refused")).unsent

    def test_it_may_be_repeated_only_if_every_request_may(self) -> None:
        assert verdict_on(read_timeout("POST"), refused()).idempotent is False
        assert verdict_on(status_error(503), status_error(503, "POST")).idempotent is False
        assert verdict_on(status_error(503), read_timeout("PUT")).idempotent is True
        assert verdict_on(status_error(503), ConnectionResetError()).idempotent is None

    def test_it_waits_as_long_as_the_longest_hint(self) -> None:
        assert verdict_on(status_error(429, retry_after="1"), status_error(429, retry_after="60")).retry_after == 60
        assert verdict_on(status_error(503, retry_after="7"), status_error(503)).retry_after == 7

    def test_it_gets_the_fewest_retries(self) -> None:
        assert verdict_on(CircuitOpenError("supplier", 3.0), status_error(503)).max_retries == 0
        once = WithVerdict(Classification(ErrorClass.TRANSIENT, Severity.LOW, "503", max_retries=1))
        twice = WithVerdict(Classification(ErrorClass.TRANSIENT, Severity.LOW, "503", max_retries=2))
        assert verdict_on(once, twice, status_error(503)).max_retries == 1
        confirming = httpx.DecodingError("gzip")
        assert classify(confirming).max_retries == 1
        assert not verdict_on(confirming, status_error(404)).retryable

    def test_it_goes_at_once_only_if_every_member_may(self) -> None:
        race = httpx.RemoteProtocolError("Server disconnected without sending a response.")
        assert verdict_on(race, httpx.RemoteProtocolError("Server disconnected")).immediate
        assert not verdict_on(race, status_error(503)).immediate

    @pytest.mark.parametrize(
        ("members", "effect"),
        [
            ((404, 503), BreakerEffect.FAILURE),
            ((401, 503), BreakerEffect.FAILURE),
            ((404, 401), BreakerEffect.NEUTRAL),
            ((404, 410), BreakerEffect.SUCCESS),
        ],
    )
    def test_it_fails_if_any_member_does_and_succeeds_only_if_all_do(
        self, members: tuple[int, ...], effect: BreakerEffect
    ) -> None:
        assert verdict_on(*map(status_error, members)).breaker is effect

    def test_class_severity_and_type_are_those_of_the_worst(self) -> None:
        verdict = verdict_on(status_error(503), status_error(403), ConnectionResetError())
        assert (verdict.error_class, verdict.severity, verdict.error_type) == (
            ErrorClass.PERMANENT,
            Severity.CRITICAL,
            "403",
        )

    def test_members_that_are_equally_bad_give_one_type_in_any_order(self) -> None:
        assert verdict_on(status_error(502), status_error(503), status_error(500)).error_type == "500"


@pytest.mark.fault("L2")
class TestProperties:
    @given(st.lists(verdicts, min_size=1, max_size=6), st.randoms())
    def test_the_order_does_not_matter(self, members: list[Classification], random: Any) -> None:
        shuffled = list(members)
        random.shuffle(shuffled)
        assert merge_verdicts(members) == merge_verdicts(shuffled)

    @given(st.lists(verdicts, min_size=1, max_size=6), st.data())
    def test_the_nesting_does_not_matter(self, members: list[Classification], data: st.DataObject) -> None:
        errors: list[Exception] = [WithVerdict(verdict) for verdict in members]
        flat = classify(ExceptionGroup("flat", errors))
        while len(errors) > 1:
            at = data.draw(st.integers(0, len(errors) - 2))
            errors[at : at + 2] = [ExceptionGroup("inner", errors[at : at + 2])]
        assert classify(ExceptionGroup("nested", errors)) == flat

    @given(st.lists(verdicts, min_size=1, max_size=5), verdicts)
    def test_one_more_failure_permits_nothing_more(self, members: list[Classification], more: Classification) -> None:
        before, after = merge_verdicts(members), merge_verdicts([*members, more])
        assert before is not None
        assert after is not None
        assert after.severity >= before.severity
        assert (after.retry_after or 0) >= (before.retry_after or 0)
        assert after.granted_retries <= before.granted_retries
        assert after.counts >= before.counts
        assert after.immediate <= before.immediate
        assert (after.idempotent is False) >= (before.idempotent is False)
        assert (after.idempotent is True) <= (before.idempotent is True)
        assert not after.unsent

    @given(verdicts)
    def test_a_group_of_one_is_as_its_member_but_never_unsent(self, verdict: Classification) -> None:
        assert classify(ExceptionGroup("one", [WithVerdict(verdict)])) == verdict.replace(unsent=False)


class TestControlFlowInGroups:
    def test_cancelled_members_say_nothing(self) -> None:
        group = BaseExceptionGroup("group", [asyncio.CancelledError(), status_error(503)])
        assert classify(group) == classify(status_error(503))

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), StopIteration()])
    def test_an_exit_among_failures_is_never_retried(self, interruption: BaseException) -> None:
        group = BaseExceptionGroup("group", [TransientFault(), BaseExceptionGroup("inner", [interruption])])
        script = Script(group)
        policy = Policy("supplier", retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig(failure_threshold=1))
        with pytest.raises(BaseExceptionGroup) as caught:
            policy.execute(script.play)
        assert caught.value is group
        assert script.calls == 1

    def test_a_group_that_says_itself_what_it_means_is_believed(self) -> None:
        class BatchError(ExceptionGroup[Exception]):
            classification = Classification(ErrorClass.QUARANTINE, Severity.LOW, "schema_mismatch")

        assert classify(BatchError("batch", [ConnectionResetError()])) is BatchError.classification


class TestGraphs:
    def test_a_member_that_stands_in_many_groups_is_looked_at_once(self) -> None:
        group: ExceptionGroup[Exception] = ExceptionGroup("leaf", [TransientFault()])
        for _ in range(60):  # 2 ** 60 paths
            group = ExceptionGroup("twice", [group, group])
        verdict = classify(group)
        assert verdict.error_class is ErrorClass.TRANSIENT  # without the group, which nobody could print

    def test_two_wrappers_of_one_group_mean_the_same(self) -> None:
        inner = ExceptionGroup("inner", [status_error(503)])
        wrappers = [ValueError("first"), ValueError("second")]
        for wrapper in wrappers:
            wrapper.__cause__ = inner
        assert verdict_on(*wrappers) == classify(wrappers[0]) == classify(inner)

    def test_a_member_whose_cause_is_its_own_group_ends(self) -> None:
        member = ValueError("round")
        group = ExceptionGroup("group", [member, status_error(503)])
        member.__cause__ = group
        assert classify(group).counts


@pytest.mark.fault("L2")
class TestCalls:
    """Two calls side by side, both of which fail; the group of their errors reaches a policy."""

    @staticmethod
    def sent_by(first: Exception, second: Exception, *, idempotent: bool | None = None) -> tuple[int, list[float]]:
        clock = FakeClock()
        sent = 0

        async def fail(error: Exception) -> None:
            raise error

        async def both() -> None:
            nonlocal sent
            sent += 1
            failures = await asyncio.gather(fail(first), fail(second), return_exceptions=True)
            raise BaseExceptionGroup("both", [each for each in failures if isinstance(each, BaseException)])

        policy = Policy("supplier", retry=RetryConfig(), clock=clock, sleep=clock.sleep, async_sleep=clock.async_sleep)
        with pytest.raises(ExceptionGroup):
            run_fake(clock, policy.execute(both, idempotent=idempotent))
        return sent, clock.sleeps

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_post_that_may_have_arrived_is_not_repeated_whatever_failed_beside_it(self, order: int) -> None:
        errors = [refused(), read_timeout("POST")][::order]
        assert self.sent_by(*errors)[0] == 1
        assert self.sent_by(*errors, idempotent=False)[0] == 1
        assert self.sent_by(*errors, idempotent=True)[0] == 3

    def test_what_is_not_idempotent_is_not_repeated_although_one_member_was_not_sent(self) -> None:
        assert self.sent_by(ConnectionRefusedError(), TimeoutError(), idempotent=False)[0] == 1

    def test_the_longest_hint_is_waited_for(self) -> None:
        assert self.sent_by(status_error(429, retry_after="1"), status_error(429, retry_after="60")) == (3, [60, 60])

    def test_a_failure_beside_a_proper_answer_opens_the_circuit(self) -> None:
        policy = Policy("supplier", breaker=CircuitBreakerConfig(failure_threshold=1))
        with pytest.raises(ExceptionGroup):
            policy.execute(Script(ExceptionGroup("both", [status_error(404), status_error(503)])).play)
        assert policy.breaker is not None
        assert policy.breaker.state.name == "OPEN"

    def test_retries_used_up_below_are_seen_through_groups_and_wrappers(self) -> None:
        inner = Policy("inner", retry=RetryConfig(base_delay=0))
        script = Script(TransientFault())

        def grouped() -> None:
            try:
                inner.execute(script.play)
            except TransientFault as error:
                raise ExceptionGroup("both", [error]) from None

        def wrapped() -> None:
            try:
                inner.execute(script.play)
            except TransientFault as error:
                raise ValueError("the supplier is down") from error

        outer = Policy("outer", retry=RetryConfig(base_delay=0))
        for operation in (grouped, wrapped):
            before = script.calls
            with pytest.raises((ExceptionGroup, ValueError)):
                outer.execute(operation)
            assert script.calls - before == 3
