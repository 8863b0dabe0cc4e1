"""HTTP status codes: the verdict on each, as an answer and as an exception of httpx or urllib."""

from __future__ import annotations

import email.message
import urllib.error
from typing import NoReturn

import httpx
import pytest

from otel_resilience import ErrorClass, Severity, classify
from otel_resilience.classification.rules.http_status import classify_status
from support.verdict_rows import assert_verdict

TABLE: tuple[tuple[str, tuple[int, ...], str, str, int | None, Severity], ...] = (
    ("a redirect that is not followed", (300, 301, 302, 303, 305, 307, 308), "P", "no", None, Severity.MEDIUM),
    (
        "a request that the server cannot use",
        (400, 405, 406, 411, 413, 414, 415, 422, 426, 431, 451),
        "P", "success", None, Severity.MEDIUM,
    ),
    ("501, 505, 508: never able", (501, 505, 508), "P", "yes", None, Severity.HIGH),
    ("401, 403: refused credentials", (401, 403), "P", "no", None, Severity.CRITICAL),
    ("402: balance", (402,), "P", "success", None, Severity.HIGH),
    ("404, 410: gone", (404, 410), "P", "success", None, Severity.LOW),
    ("407, 511: proxy or captive portal", (407, 511), "P", "no", None, Severity.HIGH),
    ("408: the server gave up waiting", (408,), "T", "yes", None, Severity.MEDIUM),
    ("421, 425: on another connection, later", (421, 425), "T", "no", None, Severity.MEDIUM),
    ("409, 423: few tries", (409, 423), "T", "success", 2, Severity.MEDIUM),
    ("429, 509: asked to wait", (429, 509), "RateLimit", "no", None, Severity.LOW),
    ("5xx: unhealthy", (500, 502, 503, 504, 520, 521, 522, 523, 524, 529), "T", "yes", None, Severity.MEDIUM),
    ("507, 525, 530: unhealthy for longer", (507, 525, 530), "TS", "yes", None, Severity.HIGH),
    ("526: the origin's certificate", (526,), "P", "yes", None, Severity.HIGH),
    ("unknown 4xx count as 400", (418, 424, 499), "P", "success", None, Severity.MEDIUM),
    ("unknown 5xx count as 500", (506, 510, 599), "T", "yes", None, Severity.MEDIUM),
)  # fmt: skip
ROWS = [
    pytest.param(status, kind, breaker, max_retries, severity, id=f"{status} {name}")
    for name, statuses, kind, breaker, max_retries, severity in TABLE
    for status in statuses
]
REQUEST = httpx.Request("GET", "http://supplier.test/")


def status_error(status: int, request: httpx.Request = REQUEST, **headers: str) -> httpx.HTTPStatusError:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("answered", request=request, response=httpx.Response(status, headers=names))


@pytest.mark.parametrize(("status", "kind", "breaker", "max_retries", "severity"), ROWS)
def test_each_status(status: int, kind: str, breaker: str, max_retries: int | None, severity: Severity) -> None:
    message = email.message.Message()
    verdicts = (
        classify_status(status),
        classify(status_error(status)),
        classify(urllib.error.HTTPError("http://supplier.test/", status, "answered", message, None)),
    )
    for verdict in verdicts:
        assert verdict is not None
        assert_verdict(verdict, kind, breaker, str(status), max_retries=max_retries)
        assert verdict.severity is severity


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299, 304])
def test_success_and_not_modified_are_not_failures(status: int) -> None:
    assert classify_status(status) is None


def test_not_modified_as_an_exception_is_an_expected_outcome() -> None:
    assert_verdict(classify(status_error(304)), "C", "success", "304")


def test_a_success_with_unusable_content_is_asked_for_once_more() -> None:
    assert_verdict(classify(status_error(200)), "P", "yes", "invalid_response", max_retries=1)


@pytest.mark.parametrize("status", [0, -1, 42, 600, 999, 10**9])
def test_a_number_that_is_not_an_http_status_stays_out_of_the_vocabulary(status: int) -> None:
    verdict = classify_status(status)
    assert verdict is not None
    assert_verdict(verdict, "P", "yes", "invalid_response")


def test_a_loop_of_redirects_in_urllib() -> None:
    text = "The HTTP server returned a redirect error that would lead to an infinite loop.\nFound"
    error = urllib.error.HTTPError("http://supplier.test/", 302, text, email.message.Message(), None)
    assert_verdict(classify(error), "P", "no", "too_many_redirects")


@pytest.mark.parametrize("status", [408, 429, 500, 503, 507])
def test_retry_after_is_honoured_wherever_a_repetition_can_help(status: int) -> None:
    assert classify(status_error(status, Retry_After="7")).retry_after == 7


@pytest.mark.parametrize("status", [400, 404, 501])
def test_retry_after_on_a_permanent_answer_is_not_a_hint(status: int) -> None:
    assert classify(status_error(status, Retry_After="7")).retry_after is None


def test_the_longer_of_retry_after_and_the_reset_counts() -> None:
    headers = {
        "Retry-After": "1",
        "X-Ratelimit-Reset": "2026-11-24T08:00:09Z",
        "Date": "Tue, 24 Nov 2026 08:00:00 GMT",
    }
    verdicts = [classify_status(status, headers, now=must_not_be_asked) for status in (429, 503)]
    assert [verdict and verdict.retry_after for verdict in verdicts] == [9, 1]


def test_the_wall_clock_is_asked_only_where_the_headers_do_not_say() -> None:
    hinted = classify_status(429, {"retry-after": "3"}, now=must_not_be_asked)
    plain = classify_status(429, {"content-type": "text/html"}, now=must_not_be_asked)
    dated = classify_status(503, {"retry-after": "Tue, 24 Nov 2026 08:00:09 GMT"}, now=lambda: 1795507200.0)
    assert [verdict and verdict.retry_after for verdict in (hinted, plain, dated)] == [3, None, 9]


def test_the_case_of_header_names_in_a_plain_dict_does_not_matter() -> None:
    verdict = classify_status(429, {"RETRY-AFTER": "3"})
    assert verdict is not None
    assert verdict.retry_after == 3


def test_urllib_answers_carry_the_hint_too() -> None:
    message = email.message.Message()
    message["Retry-After"] = "4"
    error = urllib.error.HTTPError("http://supplier.test/", 429, "slow down", message, None)
    assert classify(error).retry_after == 4


@pytest.mark.parametrize(
    ("method", "idempotent"),
    [("GET", True), ("head", True), ("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False), (None, None)],
)
def test_the_method_says_whether_a_request_may_be_repeated(method: str | None, idempotent: bool | None) -> None:
    verdict = classify_status(500, method=method)
    assert verdict is not None
    assert verdict.idempotent is idempotent
    assert verdict.error_class is ErrorClass.TRANSIENT


def test_an_idempotency_key_lets_a_post_be_repeated() -> None:
    plain = httpx.Request("POST", "http://supplier.test/")
    keyed = httpx.Request("POST", "http://supplier.test/", headers={"Idempotency-Key": "k-1"})
    assert classify(status_error(500, plain)).idempotent is False
    assert classify(status_error(500, keyed)).idempotent is True


def must_not_be_asked() -> NoReturn:
    pytest.fail("the wall clock was asked")


class TestHowLongAResponseAsksToWait:
    DATE = "Tue, 24 Nov 2026 02:00:00 GMT"
    IN_30_S = "Tue, 24 Nov 2026 02:00:30 GMT"
    ISO_IN_40_S = "2026-11-24T02:00:40Z"
    NOW = 1_795_485_600.0
    """The moment of ``DATE``."""

    def asked(self, status: int, now: float | None = None, **headers: str) -> float | None:
        """``now``: ``None`` where the clock must not be asked."""

        def clock() -> float:
            assert now is not None, "the headers alone say it"
            return now

        verdict = classify_status(status, {name.replace("_", "-"): value for name, value in headers.items()}, now=clock)
        assert verdict is not None
        return verdict.retry_after

    def test_seconds_need_no_clock(self) -> None:
        assert self.asked(503, retry_after="7") == 7.0

    def test_a_date_counts_from_that_of_the_response(self) -> None:
        assert self.asked(503, retry_after=self.IN_30_S, date=self.DATE) == 30.0
        assert self.asked(429, x_ratelimit_reset=self.ISO_IN_40_S, date=self.DATE) == 40.0

    def test_without_that_from_the_clock(self) -> None:
        assert self.asked(503, self.NOW + 5, retry_after=self.IN_30_S) == 25.0
        assert self.asked(429, self.NOW + 5, x_ratelimit_reset=self.ISO_IN_40_S) == 35.0

    def test_a_date_before_that_of_the_response_is_not_a_wait_whatever_the_clock_says(self) -> None:
        assert self.asked(503, self.NOW - 90, retry_after=self.DATE, date=self.IN_30_S) is None

    def test_of_two_hints_the_longer_one_holds(self) -> None:
        assert self.asked(429, retry_after="50", x_ratelimit_reset=self.ISO_IN_40_S, date=self.DATE) == 50.0
        assert self.asked(429, retry_after="30", x_ratelimit_reset=self.ISO_IN_40_S, date=self.DATE) == 40.0
        assert self.asked(429, self.NOW, retry_after="soon", x_ratelimit_reset=self.ISO_IN_40_S) == 40.0

    def test_the_reset_of_a_rate_limit_counts_only_where_that_was_reached(self) -> None:
        assert self.asked(503, x_ratelimit_reset=self.ISO_IN_40_S) is None
        assert self.asked(509, self.NOW, x_ratelimit_reset=self.ISO_IN_40_S) == 40.0

    def test_what_cannot_be_read_asks_for_nothing(self) -> None:
        assert self.asked(429, self.NOW, retry_after="soon", x_ratelimit_reset="later") is None

    def test_what_is_not_repeated_is_not_waited_for(self) -> None:
        assert self.asked(404, retry_after="7") is None
