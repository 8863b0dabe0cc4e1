"""The library's own errors, and what it attaches to the errors of others."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import Any
from unittest import mock

import pytest

from otel_resilience import (
    AttemptThreadsExhaustedError,
    AttemptTimeoutError,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    ConcurrencyLimitError,
    DeadlineExceededError,
    ErrorClass,
    ErrorContext,
    FailedResultError,
    LimitError,
    Policy,
    RateLimitedError,
    ResilienceError,
    RetryConfig,
    classify,
    correlation_scope,
    enrich,
    error_context,
)
from otel_resilience.integrations import BodyEncodingError, BodyTooLargeError, StatusError
from otel_resilience.testing import FakeClock, RecordedTelemetry, no_waits
from support.resilience import PermanentFault, Script, TransientFault

ID = "0123456789abcdef" * 2


class MenuTooLargeError(BodyTooLargeError):
    def __init__(self, menu: str) -> None:
        super().__init__(None, limit=7)
        self.menu = menu


class TestOwnErrors:
    @pytest.mark.parametrize(
        ("error", "error_type", "counts", "retryable", "unsent"),
        [
            (CircuitOpenError("supplier", 3.0), "circuit_open", False, False, True),
            (AttemptTimeoutError(2.0), "attempt_timeout", True, True, False),
            (DeadlineExceededError(2.0), "deadline_exceeded", True, False, False),
        ],
        ids=["circuit open", "attempt timeout", "deadline"],
    )
    def test_they_classify_themselves(
        self, error: Exception, error_type: str, counts: bool, retryable: bool, unsent: bool
    ) -> None:
        verdict = classify(error)
        assert verdict.error_class is ErrorClass.TRANSIENT
        assert (verdict.error_type, verdict.counts, verdict.retryable, verdict.unsent) == (
            error_type,
            counts,
            retryable,
            unsent,
        )
        assert isinstance(error, ResilienceError)

    def test_timeouts_are_timeout_errors(self) -> None:
        assert issubclass(AttemptTimeoutError, TimeoutError)
        assert issubclass(DeadlineExceededError, TimeoutError)
        assert str(AttemptTimeoutError(1.5)) == "no result within the attempt timeout of 1.5 s"
        assert str(DeadlineExceededError(30)) == "no result within the deadline of 30 s"

    def test_an_open_circuit_hands_the_hint_on(self) -> None:
        assert classify(CircuitOpenError("supplier", 3.0)).retry_after == 3.0
        assert classify(CircuitOpenError("supplier", None)).retry_after is None

    @pytest.mark.parametrize(
        "error",
        [
            CircuitOpenError("supplier", 3.0),
            AttemptTimeoutError(2.0),
            DeadlineExceededError(2.0),
            RateLimitedError("supplier", 3.0),
            ConcurrencyLimitError("supplier", 3.0),
            AttemptThreadsExhaustedError("supplier", 40),
            FailedResultError({"status": "pending"}, TransientFault.verdict),
            BodyTooLargeError("the answer", limit=5),
            BodyEncodingError("not gzip", "the answer"),
            StatusError("the answer", TransientFault.verdict),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_they_survive_pickling_and_copying(self, error: Exception) -> None:
        """One that cannot be read again breaks the pool of processes that waits for it."""
        enrich(error, page=3)
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(twin) is type(error)
            assert (str(twin), twin.args, classify(twin)) == (str(error), error.args, classify(error))
            assert vars(twin) == vars(error)

    def test_so_do_those_that_are_derived_from_them(self) -> None:
        twin = pickle.loads(pickle.dumps(MenuTooLargeError("lunch")))
        assert (twin.menu, twin.limit, str(twin)) == ("lunch", 7, "the answer is larger than 7 bytes")


REJECTIONS = (CircuitOpenError, LimitError, RateLimitedError, ConcurrencyLimitError)


class TestARejectionThatIsMadeByHand:
    """A mock with such a class as its side effect raises it without arguments."""

    @pytest.mark.parametrize("made", [(), ("supplier",), ("supplier", 1.0, "more")], ids=["none", "one", "three"])
    @pytest.mark.parametrize("kind", REJECTIONS)
    def test_can_be_shown_judged_and_read_whatever_it_was_made_with(
        self, kind: type[CircuitOpenError | LimitError], made: tuple[Any, ...]
    ) -> None:
        error = kind(*made)
        assert (error.dependency, error.retry_after) == ("unknown", None if kind is CircuitOpenError else 0.0)
        assert str(error) or kind is LimitError
        assert repr(error).startswith(kind.__name__)
        assert kind is LimitError or not classify(error).unclassified

    @pytest.mark.parametrize("kind", [CircuitOpenError, RateLimitedError, ConcurrencyLimitError])
    def test_ends_a_protected_call_as_any_other(self, kind: type[CircuitOpenError | LimitError]) -> None:
        policy = Policy("supplier", retry=RetryConfig(max_attempts=2, base_delay=0), breaker=CircuitBreakerConfig())
        operation = mock.Mock(side_effect=kind)
        with RecordedTelemetry().recording() as telemetry, no_waits(policy), pytest.raises(kind) as raised:
            policy.execute(lambda: operation())
        assert "unknown" in str(raised.value)
        assert telemetry.points("resilience.errors")[0].attributes["error.type"] == classify(kind()).error_type


class TestTheContextOfARejection:
    """It is at hand whichever way the rejection took: the fastest one attaches nothing."""

    @pytest.mark.parametrize("observed", [False, True])
    @pytest.mark.parametrize("alone", [False, True], ids=["policy", "breaker"])
    def test_of_an_open_circuit(self, observed: bool, alone: bool) -> None:
        breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=1), clock=FakeClock())
        policy = Policy("supplier", breaker=breaker)
        with RecordedTelemetry().recording() if observed else contextlib.nullcontext(), correlation_scope(ID):
            with pytest.raises(TransientFault):
                policy.execute(Script(TransientFault()).play)
            with pytest.raises(CircuitOpenError) as rejection:
                breaker.execute(lambda: "x") if alone else policy.execute(str.lower, "x")
            context = error_context(rejection.value)
        assert context is not None
        assert error_context(rejection.value) is context
        assert (context.dependency, context.attempts, context.unsent) == ("supplier", 0, True)
        assert context.retry_after == rejection.value.retry_after
        assert context.correlation_id == ID or observed
        enrich(rejection.value, page=3)
        assert context.details == {"page": 3}

    def test_of_one_that_was_made_wrongly_there_is_none(self) -> None:
        assert error_context(CircuitOpenError()) is None


class TestEnrich:
    def test_it_attaches_correlation_id_and_details(self) -> None:
        error = ValueError("bad")
        with correlation_scope(ID):
            assert enrich(error, page=3, group="Standard") is error
        context = error_context(error)
        assert context is not None
        assert (context.correlation_id, context.details) == (ID, {"page": 3, "group": "Standard"})

    def test_once_wherever_it_is_caught(self) -> None:
        error = ValueError("bad")
        with correlation_scope(ID):
            enrich(error, page=3)
        first = error_context(error)
        enrich(error, page=4, sync="full")
        context = error_context(error)
        assert context is first
        assert context is not None
        assert (context.correlation_id, context.details) == (ID, {"page": 3, "sync": "full"})

    def test_a_protected_call_keeps_the_details(self) -> None:
        fault = enrich(PermanentFault(), page=3)
        with pytest.raises(PermanentFault):
            Policy("supplier").execute(Script(fault).play, name="list")
        context = error_context(fault)
        assert context is not None
        assert (context.dependency, context.operation, context.attempts) == ("supplier", "list", 1)
        assert context.details == {"page": 3}
        enrich(fault, page=9, sync="full")
        assert context.details == {"page": 3, "sync": "full"}
        assert len(fault.__notes__) == 1

    def test_the_id_at_the_failure_is_kept_by_a_protected_call_around_it(self) -> None:
        with correlation_scope(ID):
            fault = enrich(PermanentFault())
        with pytest.raises(PermanentFault):
            Policy("supplier").execute(Script(fault).play)
        context = error_context(fault)
        assert context is not None
        assert context.correlation_id == ID

    def test_exceptions_know_nothing_at_first(self) -> None:
        assert error_context(ValueError()) is None
        error = ValueError()
        error.__resilience__ = "somebody else's"  # type: ignore[attr-defined]
        assert error_context(error) is None

    def test_interpreter_exits_can_be_enriched_too(self) -> None:
        assert error_context(enrich(KeyboardInterrupt())) is not None

    def test_a_context_is_plain_data(self) -> None:
        context = ErrorContext(correlation_id=ID)
        assert (context.dependency, context.attempts, context.retry_after, context.exhausted) == (None, 0, None, False)
