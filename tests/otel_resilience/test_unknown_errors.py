"""Exceptions that no rule knows: a carried HTTP status, the explicit cause, programming errors, and the rest."""

from __future__ import annotations

import asyncio
import gc
import http
import logging
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import pytest
import requests

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
    default_classifier,
)
from otel_resilience._internal.once import MAX_CLASSES_OF_A_NAME, Once
from otel_resilience.classification.rules.http_status import classify_status
from otel_resilience.testing import FakeClock
from support.resilience import Script
from support.scripted_http import answer, scripted_server


class ApiDown(Exception):  # noqa: N818  # a name of the tests
    """What an application raises of its own; no rule knows it."""


def from_cause(cause: BaseException | None, error: BaseException | None = None) -> BaseException:
    error = error or ApiDown("down")
    error.__cause__ = cause
    return error


class Carrier(Exception):  # noqa: N818  # a name of the tests
    """An exception with any attributes."""

    def __init__(self, **attributes: object) -> None:
        super().__init__("carrier")
        vars(self).update(attributes)


class Parts:
    """A response or request with any attributes."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def __repr__(self) -> str:
        return f"Parts({vars(self)})"


@pytest.mark.fault("L6")
class TestCarriedStatus:
    @pytest.mark.parametrize(
        "error",
        [
            Carrier(response=Parts(status_code=503)),
            Carrier(response=Parts(status=503)),
            Carrier(status_code=503),
            Carrier(status=503),
            Carrier(http_status=503),
            Carrier(status=http.HTTPStatus.SERVICE_UNAVAILABLE),
            Carrier(code=http.HTTPStatus.SERVICE_UNAVAILABLE),
            Carrier(response={"ResponseMetadata": {"HTTPStatusCode": 503}}),
            Carrier(response=Parts(status_code="busy"), status=503),
        ],
        ids=lambda error: str(vars(error)),
    )
    def test_it_is_judged_as_that_status_of_any_client(self, error: Exception) -> None:
        assert classify(error) == classify_status(503)

    @pytest.mark.parametrize(
        "attributes",
        [
            {"status": True},
            {"status": 99},
            {"status": 600},
            {"status": 404.0},
            {"status_code": "503"},
            {"status": None},
            {"code": 251},  # a database's number, not HTTP's
            {"status": 200},
            {"response": {"ResponseMetadata": None}},
        ],
    )
    def test_anything_else_is_not_a_status(self, attributes: dict[str, object]) -> None:
        assert classify(Carrier(**attributes)).unclassified

    def test_a_code_counts_where_the_class_is_named_after_http(self) -> None:
        class HTTPClientError(Carrier):
            pass

        assert classify(HTTPClientError(code=404)).error_type == "404"

    @pytest.mark.parametrize(
        "headers",
        [
            {"Retry-After": "7"},
            {b"retry-after": b"7"},
            [("RETRY-AFTER", "7")],
            {"Retry-After": 7},
            {"retry-after": 7.0},
            httpx.Headers({"retry-after": "7"}),
        ],
        ids=lambda headers: type(headers).__name__,
    )
    def test_the_time_to_wait_is_read_from_the_headers(self, headers: object) -> None:
        assert classify(Carrier(status=503, headers=headers)).retry_after == 7
        assert classify(Carrier(response=Parts(status_code=503, headers=headers))).retry_after == 7

    def test_botocores_headers_are_read(self) -> None:
        metadata = {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "3"}}
        assert classify(Carrier(response={"ResponseMetadata": metadata})).retry_after == 3

    @pytest.mark.parametrize("headers", [3, "text", [1, 2], {"retry-after": object()}, {1: 2}])
    def test_headers_that_cannot_be_read_are_none(self, headers: object) -> None:
        assert classify(Carrier(status=503, headers=headers)) == classify_status(503)

    @pytest.mark.parametrize(
        ("attributes", "idempotent"),
        [
            ({"request": Parts(method="POST")}, False),
            ({"request": Parts(method="POST", headers={"Idempotency-Key": "1"})}, True),
            ({"request": Parts(method=b"PATCH")}, False),
            ({"request": Parts(method="put")}, True),
            ({"response": Parts(request=Parts(method="POST"))}, False),
            ({"request_info": Parts(method="GET")}, True),
            ({"method": "POST"}, False),
            ({"method": "listPlans"}, None),
            ({"request": Parts(method=None)}, None),
            ({}, None),
        ],
    )
    def test_the_method_of_the_request_says_whether_it_may_be_repeated(
        self, attributes: dict[str, object], idempotent: bool | None
    ) -> None:
        assert classify(Carrier(status=503, **attributes)).idempotent is idempotent

    def test_a_post_is_not_repeated_by_a_predicate_either(self) -> None:
        script = Script(Carrier(request=Parts(method="POST")))
        policy = Policy("supplier", retry=RetryConfig(base_delay=0))
        with pytest.raises(Carrier):
            policy.execute(script.play, is_retryable=lambda _: True)
        assert script.calls == 1

    def test_a_rule_and_an_attribute_of_its_own_go_first(self) -> None:
        mine = Classification(ErrorClass.PERMANENT, Severity.LOW, "mine")
        ruled = default_classifier().extended(lambda error: mine if isinstance(error, Carrier) else None)
        assert ruled.classify(Carrier(status=503)) is mine
        assert classify(Carrier(status=503, classification=mine)) is mine

    def test_a_carried_status_goes_before_the_cause_and_before_a_programming_error(self) -> None:
        class MissingKeyError(KeyError):
            status_code = 404

        assert classify(from_cause(ConnectionResetError(), MissingKeyError("plan"))).error_type == "404"


@pytest.mark.fault("L6")
class TestRealClients:
    """Real responses over loopback, through clients that have no rules of their own."""

    @staticmethod
    def by_requests(method: str) -> Callable[[str], Any]:
        def ask(url: str) -> None:
            with requests.Session() as session:
                session.trust_env = False
                session.request(method, url, timeout=60).raise_for_status()

        return lambda url: asyncio.to_thread(ask, url)

    @staticmethod
    def by_aiohttp(method: str) -> Callable[[str], Any]:
        async def ask(url: str) -> None:
            async with aiohttp.ClientSession() as session, session.request(method, url) as response:
                response.raise_for_status()

        return ask

    @staticmethod
    def by_urllib(method: str) -> Callable[[str], Any]:
        def ask(url: str) -> None:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                opener.open(urllib.request.Request(url, method=method), timeout=60).close()
            except urllib.error.HTTPError as error:
                error.close()
                raise

        return lambda url: asyncio.to_thread(ask, url)

    CLIENTS = pytest.mark.parametrize("client", ["requests", "aiohttp", "urllib"])

    async def attempts(
        self, client: str, method: str, response: bytes, **options: Any
    ) -> tuple[int, Policy, FakeClock]:
        clock = FakeClock()
        policy = Policy(
            "supplier",
            retry=RetryConfig(),
            breaker=CircuitBreakerConfig(failure_threshold=5),
            clock=clock,
            async_sleep=clock.async_sleep,
        )
        ask = getattr(self, f"by_{client}")(method)
        async with scripted_server(response) as server:
            for _ in range(options.get("calls", 1)):
                with pytest.raises((requests.HTTPError, aiohttp.ClientResponseError, urllib.error.HTTPError)):
                    await policy.execute(lambda: ask(server.url))
        return len(server.requests), policy, clock

    @CLIENTS
    async def test_five_ordinary_404s_do_not_open_the_circuit(self, client: str) -> None:
        sent, policy, _ = await self.attempts(client, "GET", answer(status=404, Connection="close"), calls=5)
        assert sent == 5
        assert policy.breaker is not None
        assert policy.breaker.state.name == "CLOSED"

    @CLIENTS
    async def test_a_busy_server_is_asked_again_when_it_said(self, client: str) -> None:
        busy = answer(status=503, Retry_After="7", Connection="close")
        sent, _, clock = await self.attempts(client, "GET", busy)
        assert (sent, clock.sleeps) == (3, [7, 7])

    @CLIENTS
    async def test_a_post_that_was_answered_with_503_is_sent_once(self, client: str) -> None:
        sent, _, _ = await self.attempts(client, "POST", answer(status=503, Connection="close"))
        assert sent == 1


@pytest.mark.fault("L5")
class TestExplicitCause:
    @pytest.mark.parametrize(
        "cause",
        [
            ConnectionRefusedError(111, "refused"),
            TimeoutError(),
            CircuitOpenError("supplier", 3.0),
            Carrier(status=429, headers={"retry-after": "9"}),
            ExceptionGroup("both", [ConnectionResetError(), TimeoutError()]),
            from_cause(ConnectionResetError()),
        ],
    )
    def test_an_unknown_exception_means_what_its_explicit_cause_means(self, cause: BaseException) -> None:
        verdict = classify(from_cause(cause))
        assert verdict == classify(cause)
        assert not verdict.unclassified

    def test_the_nearest_cause_that_is_known_decides(self) -> None:
        middle = from_cause(ConnectionResetError(), MemoryError())
        assert classify(from_cause(from_cause(middle))).error_type == "resource_exhausted"

    def test_a_users_rule_sees_the_cause(self) -> None:
        mine = Classification(ErrorClass.TRANSIENT, Severity.LOW, "mine")
        classifier = default_classifier().extended(lambda error: mine if isinstance(error, ConnectionError) else None)
        assert classifier.classify(from_cause(ConnectionResetError())) is mine

    def test_a_context_that_is_not_a_cause_says_nothing(self) -> None:
        def fail() -> None:
            try:
                raise ConnectionResetError
            except ConnectionResetError:
                raise ApiDown("while another error was handled")  # noqa: B904  # what is tested

        with pytest.raises(ApiDown) as caught:
            fail()
        assert caught.value.__context__ is not None
        assert classify(caught.value).unclassified

    def test_a_suppressed_cause_says_nothing(self) -> None:
        def fail() -> None:
            try:
                raise ConnectionResetError
            except ConnectionResetError:
                raise ApiDown("down") from None

        with pytest.raises(ApiDown) as caught:
            fail()
        assert classify(caught.value).unclassified

    def test_a_cycle_and_a_chain_without_end_are_unknown(self) -> None:
        first, second = ApiDown(), ApiDown()
        first.__cause__, second.__cause__ = second, first
        assert classify(first).unclassified
        error: BaseException = ConnectionResetError()
        for _ in range(5000):
            error = from_cause(error)
        assert classify(error).unclassified

    def test_groups_as_causes_of_members_of_groups_end(self) -> None:
        error: Exception = ConnectionResetError()
        for _ in range(500):
            wrapper = ApiDown()
            wrapper.__cause__ = ExceptionGroup("inner", [error])
            error = wrapper
        assert classify(error).unclassified

    @pytest.mark.parametrize("cause", [asyncio.CancelledError(), StopIteration(), KeyboardInterrupt()])
    def test_control_flow_that_was_turned_into_an_error_is_an_error(self, cause: BaseException) -> None:
        assert classify(from_cause(cause)).unclassified

    @pytest.mark.parametrize("known", [TimeoutError(), ApiDown(), RuntimeError("?")])
    def test_a_post_behind_a_wrapper_is_not_repeated(self, known: BaseException) -> None:
        late = httpx.ReadTimeout("late", request=httpx.Request("POST", "http://supplier.test/"))
        assert classify(from_cause(late, known)).idempotent is False
        script = Script(from_cause(late, known))
        with pytest.raises(type(known)):
            Policy("supplier", retry=RetryConfig(base_delay=0)).execute(script.play, is_retryable=lambda _: True)
        assert script.calls == 1


@pytest.mark.fault("L6")
class TestProgrammingErrors:
    MISTAKES: tuple[Exception, ...] = (
        TypeError("an argument too many"),
        KeyError("price"),
        IndexError(3),
        AttributeError("no"),
        NameError("nmae"),
        UnboundLocalError("early"),
        AssertionError(),
        NotImplementedError(),
        ImportError("no"),
        ModuleNotFoundError("no"),
        SyntaxError("?"),
        ZeroDivisionError(),
        OverflowError("large"),
        RecursionError(),
        UnicodeEncodeError("ascii", "ü", 0, 1, "no"),
        DeprecationWarning("old"),
        RuntimeError("generator raised StopIteration"),
    )

    @pytest.mark.parametrize("error", MISTAKES)
    def test_a_mistake_of_the_program_is_permanent_and_says_nothing_about_the_dependency(
        self, error: Exception
    ) -> None:
        verdict = classify(error)
        assert (verdict.error_class, verdict.breaker) == (ErrorClass.PERMANENT, BreakerEffect.NEUTRAL)
        assert not verdict.retryable
        assert not verdict.unclassified

    def test_so_is_a_subclass_of_a_users_own(self) -> None:
        class PlanMissingError(KeyError):
            pass

        script = Script(PlanMissingError("plan"))
        policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(failure_threshold=1))
        for _ in range(3):
            with pytest.raises(PlanMissingError):
                policy.execute(script.play)
        assert script.calls == 3
        assert policy.breaker is not None
        assert policy.breaker.state.name == "CLOSED"

    def test_one_that_was_raised_from_a_known_cause_is_judged_by_it(self) -> None:
        assert classify(from_cause(ConnectionResetError(), KeyError("price"))).counts


@pytest.mark.fault("L6")
class TestWhatIsLeft:
    def test_it_is_permanent_high_and_counts(self) -> None:
        verdict = classify(ApiDown())
        assert (verdict.error_class, verdict.severity, verdict.breaker, verdict.error_type, verdict.unclassified) == (
            ErrorClass.PERMANENT,
            Severity.HIGH,
            BreakerEffect.FAILURE,
            "_OTHER",
            True,
        )

    def test_it_is_logged_once_per_class_with_how_to_add_a_rule(self, caplog: pytest.LogCaptureFixture) -> None:
        class UnheardOfError(Exception):
            pass

        class AnotherError(UnheardOfError):
            pass

        with caplog.at_level(logging.WARNING, "otel_resilience"):
            for _ in range(3):
                classify(UnheardOfError("secret text"))
                classify(AnotherError())
                classify(ExceptionGroup("group", [UnheardOfError()]))
        first, second = (record.getMessage() for record in caplog.records)
        assert f"{__name__}.{UnheardOfError.__qualname__}" in first
        assert "default_classifier().extended(" in first
        assert "secret" not in first
        assert AnotherError.__qualname__ in second

    def test_known_errors_mistakes_and_wrappers_are_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "otel_resilience"):
            for error in (TimeoutError(), KeyError("price"), from_cause(TimeoutError()), asyncio.CancelledError()):
                classify(error)
        assert not caplog.records

    def test_classes_made_for_each_client_are_logged_a_few_times_and_not_kept(self) -> None:
        once = Once()
        kinds: list[type] = [type("NotFound", (Exception,), {}) for _ in range(50)]
        assert sum(once.first("supplier.NotFound", kind) for kind in kinds) == MAX_CLASSES_OF_A_NAME
        remembered = weakref.WeakSet(kinds)
        kinds.clear()
        gc.collect()
        assert not remembered

    def test_what_was_logged_takes_bounded_memory(self) -> None:
        once = Once()
        assert sum(once.first(f"name {number}") for number in range(5_000)) == 1_000
