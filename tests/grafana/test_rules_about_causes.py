"""One incident is one page: the alert of its cause until a sync succeeds, or SyncFailed if no cause is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.promtool import Series, Timeline, job, process

Start = Callable[..., Timeline]
MINUTE, HOUR = 60, 3600
FAILS = 5 * MINUTE
DAY = 24 * HOUR
SUPPLIER = 'resilience_dependency="esim-go"'


@pytest.fixture
def around() -> list[Series]:
    """The other series of a healthy system."""
    return [
        process('up{job="otel-collector"}', (1, 8000)),
        job(syncs("COMPLETE", "earlier"), 0, 1),
    ]


def syncs(outcome: str, instance: str, kind: str = "full") -> str:
    return (
        f'catalog_sync_duration_seconds_count{{instance="{instance}", catalog_kind="{kind}",'
        f' catalog_outcome="{outcome}"}}'
    )


def errors(dependency: str, error_type: str, severity: str = "MEDIUM") -> str:
    return (
        f'resilience_errors_total{{instance="a", resilience_dependency="{dependency}", error_type="{error_type}",'
        f' resilience_error_severity="{severity}"}}'
    )


def circuit(dependency: str) -> str:
    return (
        f'resilience_circuit_breaker_status{{instance="a", resilience_dependency="{dependency}",'
        f' resilience_circuit_breaker_state="open"}}'
    )


REFUSED = 'traces_span_metrics_calls_total{span_name="catalog.sync", error_type="publish_refused"}'
CAUSES = {
    "CircuitBreakerOpen": [(circuit("esim-go"), 1)],
    "AuthenticationFailed": [(errors("esim-go", "403", "CRITICAL"), 5)],
    "StoreFailing": [(errors("redis", "connection_refused"), 12), (circuit("redis"), 1)],
    "PublicationRefused": [(REFUSED, 1)],
}
EACH_CAUSE = pytest.mark.parametrize("cause", CAUSES)


def seen(cause: str, at: int) -> list[Series]:
    """The cause in what a job pushes when it ends."""
    return [job(series, at, value) for series, value in CAUSES[cause]]


@pytest.mark.fault("O8")
@EACH_CAUSE
def test_a_failed_job_of_known_cause_is_one_alert_until_a_sync_works(
    timeline: Start, around: list[Series], cause: str
) -> None:
    """Also hours later, when neither the circuit nor the error shows in any series."""
    works = FAILS + 2 * HOUR
    expected = timeline(
        *around,
        job(syncs("FAILED", "a"), FAILS, 1),
        *seen(cause, FAILS),
        job(syncs("COMPLETE", "b"), works, 1),
        evaluate_every=30,
    ).at(FAILS - 10)
    for after in (MINUTE, 10 * MINUTE, HOUR, 2 * HOUR - MINUTE):
        expected.at(FAILS + after, cause)
    expected.at(works + 4 * MINUTE).check()


def test_a_cause_that_the_collector_counts_seconds_later_is_still_the_only_page(
    timeline: Start, around: list[Series]
) -> None:
    timeline(*around, job(syncs("FAILED", "a"), FAILS, 1), job(REFUSED, FAILS + 15, 1), evaluate_every=10).at(
        FAILS + 10
    ).at(FAILS + 20, "PublicationRefused").at(FAILS + MINUTE, "PublicationRefused").check()


@pytest.mark.fault("O8")
@EACH_CAUSE
def test_a_cause_fires_within_half_a_minute_whatever_fired_before_it(
    timeline: Start, around: list[Series], cause: str
) -> None:
    """A sync that failed for no known cause fires first; half an hour later another one fails."""
    second = FAILS + 15 * MINUTE
    (
        timeline(
            *around,
            job(syncs("FAILED", "a"), FAILS, 1),
            job(syncs("FAILED", "b"), second, 1),
            *seen(cause, second),
            evaluate_every=10,
        )
        .at(FAILS + MINUTE, "SyncFailed")
        .at(second - 10, "SyncFailed")
        .at(second + 30, cause)
        .check()
    )


def test_a_later_failure_of_another_cause_is_not_explained_by_the_earlier_one(
    timeline: Start, around: list[Series]
) -> None:
    second = FAILS + 20 * MINUTE
    (
        timeline(
            *around,
            job(syncs("FAILED", "a"), FAILS, 1),
            *seen("CircuitBreakerOpen", FAILS),
            job(syncs("FAILED", "b"), second, 1),
            evaluate_every=10,
        )
        .at(second - 10, "CircuitBreakerOpen")
        .at(second + 6 * MINUTE, "SyncFailed")
        .check()
    )


def test_trouble_that_a_good_sync_has_followed_explains_no_later_failure(timeline: Start, around: list[Series]) -> None:
    works, fails = FAILS + 2 * MINUTE, FAILS + 20 * MINUTE
    (
        timeline(
            *around,
            *seen("AuthenticationFailed", FAILS),
            job(syncs("FAILED", "a"), FAILS, 1),
            job(syncs("COMPLETE", "b"), works, 1),
            job(syncs("FAILED", "c"), fails, 1),
            evaluate_every=10,
        )
        .at(FAILS + MINUTE, "AuthenticationFailed")
        .at(fails - MINUTE)
        .at(fails + 30, "SyncFailed")
        .check()
    )


@pytest.mark.parametrize("cause", ["AuthenticationFailed", "StoreFailing"])
@pytest.mark.parametrize("later", ["PublicationRefused", "SyncFailed"])
def test_trouble_that_a_good_sync_ended_minutes_ago_does_not_go_on_with_the_next_failure(
    timeline: Start, around: list[Series], cause: str, later: str
) -> None:
    """The key is corrected and a sync works; the next one, a minute later, fails with something else."""
    works = FAILS + 3 * MINUTE + 30
    second = works + MINUTE
    of_the_second = [job(REFUSED, second, 1)] if later == "PublicationRefused" else []
    (
        timeline(
            *around,
            job(syncs("FAILED", "a"), FAILS, 1),
            *seen(cause, FAILS),
            job(syncs("COMPLETE", "b"), works, 1),
            job(syncs("FAILED", "c"), second, 1),
            *of_the_second,
            evaluate_every=10,
        )
        .at(FAILS + MINUTE, cause)
        .at(second + 10 * MINUTE, later)
        .at(second + HOUR, later)
        .check()
    )


def test_a_sync_that_works_a_minute_after_a_failed_one_ends_it_without_another_page(
    timeline: Start, around: list[Series]
) -> None:
    expected = timeline(
        *around,
        *seen("AuthenticationFailed", FAILS),
        job(syncs("FAILED", "a"), FAILS, 1),
        job(syncs("COMPLETE", "b"), FAILS + MINUTE, 1),
        evaluate_every=10,
    )
    for after in range(30, 9 * MINUTE, 30):
        expected.at(FAILS + after, *(["AuthenticationFailed"] if after < 7 * MINUTE + 20 else []))
    expected.check()


@pytest.mark.fault("O8")
def test_two_dependencies_in_trouble_are_two_alerts(timeline: Start, around: list[Series]) -> None:
    (
        timeline(*around, job(syncs("FAILED", "a"), FAILS, 1), *seen("StoreFailing", FAILS),
                 *seen("CircuitBreakerOpen", FAILS), evaluate_every=10)
        .at(FAILS + MINUTE, "CircuitBreakerOpen", "StoreFailing")
        .check()
    )  # fmt: skip


@pytest.mark.fault("O8")
@pytest.mark.parametrize(
    ("trouble", "alert"),
    [
        (process(circuit("alert-webhook"), (1, 200)), "CircuitBreakerOpen"),
        (job(errors("heartbeat", "401", "CRITICAL"), FAILS, 1), "AuthenticationFailed"),
    ],
    ids=["channel of alerts", "heartbeat"],
)
def test_trouble_with_the_way_of_alerts_hides_no_failed_sync(
    timeline: Start, around: list[Series], trouble: Series, alert: str
) -> None:
    timeline(*around, trouble, job(syncs("FAILED", "a"), FAILS, 1), evaluate_every=10).at(
        FAILS + 30, alert, "SyncFailed"
    ).check()


@pytest.mark.fault("O8")
def test_a_later_failure_of_unknown_cause_fires_while_the_alert_of_the_earlier_cause_goes_on(
    timeline: Start, around: list[Series]
) -> None:
    second = FAILS + 20 * MINUTE
    (
        timeline(*around, job(syncs("FAILED", "a"), FAILS, 1), *seen("CircuitBreakerOpen", FAILS),
                 job(syncs("FAILED", "b"), second, 1), evaluate_every=10)
        .at(second + 40, "CircuitBreakerOpen", "SyncFailed")
        .check()
    )  # fmt: skip
