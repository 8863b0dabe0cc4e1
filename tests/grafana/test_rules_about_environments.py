"""Several environments write to one Prometheus: what happens in one of them is neither hidden nor explained by another.

The Collector gives every series of ours the label ``deployment_environment_name``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.promtool import Reported, Series, Timeline, job, process

Start = Callable[..., Timeline]
MINUTE, HOUR, DAY = 60, 3600, 86400
PRODUCTION, STAGING = "production", "staging"


def of(environment: str, name: str, **labels: str) -> str:
    known = {"deployment_environment_name": environment, "job": "catalog-worker", "instance": environment, **labels}
    inside = ", ".join(f'{key}="{value}"' for key, value in known.items())
    return f"{name}{{{inside}}}"


def syncs(environment: str, outcome: str) -> str:
    return of(environment, "catalog_sync_duration_seconds_count", catalog_kind="full", catalog_outcome=outcome)


def errors(environment: str, dependency: str, error_type: str, severity: str = "HIGH") -> str:
    return of(
        environment,
        "resilience_errors_total",
        resilience_dependency=dependency,
        error_type=error_type,
        resilience_error_severity=severity,
    )


def calls(environment: str, outcome: str) -> str:
    return of(
        environment,
        "resilience_operation_duration_seconds_count",
        resilience_dependency="esim-go",
        resilience_outcome=outcome,
    )


def collector(samples: int = 2000) -> Series:
    return process('up{job="otel-collector", instance="otel-collector:8888"}', (1, samples))


def worked(environment: str) -> Series:
    return job(syncs(environment, "COMPLETE"), 0, 1)


def test_a_failure_is_not_cured_by_a_success_elsewhere(timeline: Start) -> None:
    (
        timeline(
            collector(),
            job(syncs(PRODUCTION, "FAILED"), 5 * MINUTE, 1),
            process(syncs(STAGING, "COMPLETE"), (1, 24), (2, 40), (3, 400)),  # at 6 and at 16 minutes
        )
        .at(7 * MINUTE, "SyncFailed")
        .at(20 * MINUTE, "SyncFailed")
        .reports(
            20 * MINUTE,
            Reported(
                "SyncFailed",
                "production: The last full sync failed; readers keep the last good catalogue.",
                {"catalog_kind": "full", "deployment_environment_name": PRODUCTION},
            ),
        )
        .check()
    )


def test_both_fail_and_each_is_reported_until_it_works(timeline: Start) -> None:
    (
        timeline(
            collector(),
            job(syncs(PRODUCTION, "FAILED"), 5 * MINUTE, 1),
            job(syncs(STAGING, "FAILED"), 5 * MINUTE, 1),
            job(syncs(STAGING, "COMPLETE"), 20 * MINUTE, 1),
        )
        .at(7 * MINUTE, "SyncFailed", "SyncFailed")
        .at(23 * MINUTE, "SyncFailed")
        .check()
    )


@pytest.mark.parametrize(
    ("cause", "alert"),
    [
        (errors(STAGING, "esim-go", "403", "CRITICAL"), "AuthenticationFailed"),
        (errors(STAGING, "redis", "redis_oom"), "StoreFailing"),
        (
            of(
                STAGING,
                "traces_span_metrics_calls_total",
                span_name="catalog.sync",
                error_type="publish_refused",
            ),
            "PublicationRefused",
        ),
    ],
)
def test_a_cause_elsewhere_explains_no_failure(timeline: Start, cause: str, alert: str) -> None:
    (
        timeline(
            collector(),
            worked(PRODUCTION),
            worked(STAGING),
            job(cause, 5 * MINUTE, 3),
            job(syncs(PRODUCTION, "FAILED"), 5 * MINUTE + 15, 1),
            job(syncs(STAGING, "FAILED"), 5 * MINUTE + 15, 1),
        )
        .at(8 * MINUTE, "SyncFailed", alert)
        .at(40 * MINUTE, "SyncFailed", alert)
        .check()
    )


def test_a_store_that_fails_elsewhere_hides_no_open_circuit(timeline: Start) -> None:
    opened = of(
        PRODUCTION,
        "resilience_circuit_breaker_status",
        resilience_dependency="redis",
        resilience_circuit_breaker_state="open",
    )
    (
        timeline(
            collector(),
            worked(PRODUCTION),
            job(errors(STAGING, "redis", "connection_error"), 5 * MINUTE, 5),
            process(opened, (0, 20), (1, 20), (0, 400)),
        )
        .at(7 * MINUTE, "CircuitBreakerOpen", "StoreFailing")
        .check()
    )


def test_a_fresh_catalogue_elsewhere_hides_no_stale_one(timeline: Start) -> None:
    minutes = 26 * 60
    ages = {
        PRODUCTION: {"series": of(PRODUCTION, "catalog_age_seconds"), "values": f"0+60x{minutes}"},
        STAGING: {"series": of(STAGING, "catalog_age_seconds"), "values": f"30x{minutes}"},
    }
    finished = {"series": syncs(PRODUCTION, "COMPLETE"), "values": f"0+1x{minutes}"}
    up = {"series": 'up{job="otel-collector", instance="otel-collector:8888"}', "values": f"1x{minutes}"}
    (
        timeline(*ages.values(), finished, up, step=60)
        .at(23 * HOUR)
        .at(25 * HOUR, "CatalogueStale")
        .reports(
            25 * HOUR,
            Reported(
                "CatalogueStale",
                "production: The catalogue is stale: its newest publication is 1d 1h 0m 0s old.",
                {"deployment_environment_name": PRODUCTION},
            ),
        )
        .check()
    )


def test_syncs_elsewhere_are_no_sign_of_life(timeline: Start) -> None:
    minutes = 28 * 60
    up = {"series": 'up{job="otel-collector", instance="otel-collector:8888"}', "values": f"1x{minutes}"}
    staging = {"series": syncs(STAGING, "COMPLETE"), "values": f"1+1x{minutes}"}
    production = {"series": syncs(PRODUCTION, "COMPLETE"), "values": "1x5"}
    (
        timeline(up, staging, production, step=60)
        .at(24 * HOUR)
        .at(26 * HOUR, "NoSyncSeen")
        .reports(
            26 * HOUR,
            Reported(
                "NoSyncSeen",
                "production: No sync has ended in the last 25h: the job is not running.",
                {"deployment_environment_name": PRODUCTION},
            ),
        )
        .check()
    )


def test_calls_that_work_elsewhere_save_no_error_budget(timeline: Start) -> None:
    """Ten times as many calls of staging work; those of production all fail."""
    minutes = 3 * 60
    each = [
        {"series": calls(PRODUCTION, "failed"), "values": f"0+2x{minutes}"},
        {"series": calls(STAGING, "ok"), "values": f"0+200x{minutes}"},
    ]
    up = {"series": 'up{job="otel-collector", instance="otel-collector:8888"}', "values": f"1x{minutes}"}
    ended = {"series": syncs(STAGING, "COMPLETE"), "values": f"0+1x{minutes}"}
    alerts = ("ErrorBudgetBurnFast", "ErrorBudgetBurn", "ErrorBudgetBurnSlow")
    timeline(*each, up, ended, step=60).at(2 * HOUR, *alerts[1:]).check()


def test_an_environment_that_was_retired_is_missed_for_a_week_and_then_forgotten(timeline: Start) -> None:
    samples = 8 * 24  # of an hour
    lives_on = {"series": syncs(STAGING, "COMPLETE"), "values": f"1+1x{samples}"}
    retired = [
        {"series": syncs(PRODUCTION, "COMPLETE"), "values": "_ 1"},
        {"series": of(PRODUCTION, "catalog_age_seconds"), "values": "_ 0"},
    ]
    up = {"series": 'up{job="otel-collector", instance="otel-collector:8888"}', "values": f"1x{samples}"}
    missed = ("CatalogueStale", "NoSyncSeen")
    (
        timeline(lives_on, *retired, up, step=HOUR, evaluate_every=HOUR)
        .at(20 * HOUR)
        .at(2 * DAY, *missed)
        .at(7 * DAY - HOUR, *missed)
        .at(7 * DAY + HOUR)
        .check()
    )


def test_where_nothing_reports_at_all_it_is_missed_for_ever(timeline: Start) -> None:
    samples = 8 * 24
    up = {"series": 'up{job="otel-collector", instance="otel-collector:8888"}', "values": f"1x{samples}"}
    (
        timeline(job(syncs(PRODUCTION, "COMPLETE"), 0, 1), up, step=HOUR, evaluate_every=HOUR)
        .at(2 * DAY, "NoSyncSeen")
        .at(7 * DAY + HOUR, "NoSyncSeen")
        .check()
    )
