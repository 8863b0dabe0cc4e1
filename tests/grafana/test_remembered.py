"""What Prometheus remembers of ended processes, and counters that come back after hours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from grafana.generate.rules.recording import BUNDLES, BUNDLES_BEFORE, CALLS, DEAD_LETTERS, LOST, WAITING

from support.promql import filled
from support.promtool import Series, Timeline, job, process

Start = Callable[..., Timeline]
MINUTE, HOUR = 60, 3600
DASHBOARDS = Path(__file__).parents[2] / "grafana/dashboards"


def bundles(instance: str, group: str = "Europe") -> str:
    return f'catalog_sync_bundles{{job="catalog-sync", instance="{instance}", catalog_group="{group}"}}'


def synced(instance: str, outcome: str = "COMPLETE") -> str:
    return (
        f'catalog_sync_duration_seconds_count{{job="catalog-sync", instance="{instance}", catalog_kind="full",'
        f' catalog_outcome="{outcome}"}}'
    )


def run(instance: str, ends: int, number: float, outcome: str = "COMPLETE") -> list[Series]:
    """A job of two seconds."""
    return [job(bundles(instance), ends, number), job(synced(instance, outcome), ends, 1)]


def panel(dashboard: str, title: str) -> str:
    content = json.loads((DASHBOARDS / f"{dashboard}.json").read_text(encoding="utf-8"))
    (found,) = [each for each in content["panels"] if each["title"] == title]
    return filled(found["targets"][0]["expr"])


@pytest.mark.fault("O5")
def test_a_catalogue_that_shrinks_is_shown_as_it_is_hours_after_the_job(timeline: Start) -> None:
    runs = [*run("a", 5 * MINUTE, 5200), *run("b", HOUR, 4100)]
    (
        timeline(*runs)
        .shows(30 * MINUTE, BUNDLES, 5200)
        .shows(30 * MINUTE, BUNDLES_BEFORE, None)
        .shows(9 * HOUR, BUNDLES, 4100)
        .shows(9 * HOUR, BUNDLES_BEFORE, 5200)
        .shows(9 * HOUR, panel("catalog-sync", "Bundles"), 4100)
        .check()
    )


@pytest.mark.fault("O5")
def test_a_worker_that_synced_before_does_not_show_its_old_number(timeline: Start) -> None:
    worker = [process(bundles("worker"), (5200, 1000)), process(synced("worker"), (0, 20), (1, 980))]
    timeline(*worker, *run("b", HOUR, 4100)).shows(3 * HOUR, BUNDLES, 4100).shows(
        3 * HOUR, BUNDLES_BEFORE, 5200
    ).check()


@pytest.mark.fault("O5")
def test_a_failed_sync_changes_no_number(timeline: Start) -> None:
    runs = [*run("a", 5 * MINUTE, 5200), *run("b", HOUR, 10, "FAILED")]
    timeline(*runs).shows(3 * HOUR, BUNDLES, 5200).shows(3 * HOUR, BUNDLES_BEFORE, None).check()


@pytest.mark.fault("O5")
def test_dead_letters_and_what_waits_stay_known_after_the_job(timeline: Start) -> None:
    dead, waits = "resilience_alert_dead_letter_size", "resilience_alert_queue_size"
    (
        timeline(
            job(f'{dead}{{instance="a"}}', 5 * MINUTE, 3),
            job(f'{waits}{{instance="a", resilience_channel="slack"}}', 5 * MINUTE, 2),
            job(f'{dead}{{instance="b"}}', 5 * HOUR, 0),
        )
        .shows(3 * HOUR, DEAD_LETTERS, 3)
        .shows(3 * HOUR, panel("catalog-alerting", "Dead letters"), 3)
        .shows(3 * HOUR, WAITING, 2)
        .shows(6 * HOUR, DEAD_LETTERS, 0)
        .check()
    )


def test_a_budget_is_the_sum_of_what_jobs_of_seconds_did(timeline: Start) -> None:
    def calls(instance: str, outcome: str) -> str:
        return (
            f'resilience_operation_duration_seconds_count{{job="catalog-sync", instance="{instance}",'
            f' resilience_dependency="esim-go", resilience_outcome="{outcome}"}}'
        )

    runs = [job(calls(f"run-{number}", "ok"), number * HOUR, 99) for number in (1, 2, 3, 4)]
    failed = [job(calls("run-3", "failed"), 3 * HOUR, 2)]
    (
        timeline(*runs, *failed, evaluate_every=300)  # promtool evaluates every group as often
        .shows(5 * HOUR, f"sum_over_time({CALLS}[1d])", 398)
        .shows(5 * HOUR, f"sum_over_time({LOST}[1d])", 2)
        .shows(5 * HOUR, f"round({panel('catalog-overview', 'Error budget left')}, 0.01)", 0.5)
        .check()
    )


@pytest.mark.fault("O3")
def test_counters_that_come_back_after_hours_count_nothing_twice(timeline: Start) -> None:
    """Nothing arrived for six hours; the processes went on, and had failed, been throttled, refused long before."""
    lost = "_x1440"

    def back(series: str, value: int) -> Series:
        return {"series": series, "values": f"0x20 {value}x200 {lost} {value}x400"}

    worker = 'job="catalog-worker", instance="w"'
    dependency = f'{worker}, resilience_dependency="esim-go", resilience_operation="list bundles"'
    errors = "resilience_errors_total"
    counters = [
        (f'catalog_sync_duration_seconds_count{{{worker}, catalog_kind="full", catalog_outcome="FAILED"}}', 3),
        (f'{errors}{{{dependency}, error_type="403", resilience_error_severity="HIGH"}}', 5),
        (f'{errors}{{{dependency}, error_type="429", resilience_error_severity="MEDIUM"}}', 500),
        (f'{errors}{{{dependency}, error_type="schema_mismatch", resilience_error_severity="HIGH"}}', 5),
        (f'resilience_retry_suppressed_total{{{dependency}, resilience_retry_suppress_reason="budget"}}', 50),
        (
            (
                f'resilience_alert_notifications_total{{{worker}, resilience_channel="slack",'
                ' resilience_outcome="failed"}'
            ),
            4,
        ),
    ]
    good = f'catalog_sync_duration_seconds_count{{{worker}, catalog_kind="full", catalog_outcome="COMPLETE"}}'
    gone_until = (220 + 1440) * 15
    (
        timeline(
            process('up{job="otel-collector", instance="c"}', (1, 4000)),
            *(back(series, value) for series, value in counters),
            {"series": good, "values": f"0x40 7x180 {lost} 7x400"},
        )
        .at(gone_until - MINUTE)
        .at(gone_until + 2 * MINUTE)
        .at(gone_until + 10 * MINUTE)
        .shows(gone_until + 10 * MINUTE, panel("catalog-sync", "Last good sync"), 24780)
        .check()
    )


@pytest.mark.fault("O11")
def test_one_sync_is_shown_with_the_time_that_it_took(timeline: Start) -> None:
    """The histogram's bounds would make a percentile of 15.9 s one of 29 s."""
    labels = synced("a").partition("{")[2]
    timeline(
        job(synced("a"), 5 * MINUTE, 1),
        job("catalog_sync_duration_seconds_sum{" + labels, 5 * MINUTE, 15.9),
    ).shows(5 * MINUTE + 30, panel("catalog-sync", "Duration of syncs"), 15.9).check()


def test_what_no_retry_can_cure_does_not_count_against_retries(timeline: Start) -> None:
    def calls(outcome: str, error: str = "") -> str:
        return (
            'resilience_operation_duration_seconds_count{job="catalog-sync", instance="a",'
            f' resilience_dependency="esim-go", resilience_outcome="{outcome}", error_type="{error}"}}'
        )

    hopeless = (
        'resilience_retry_suppressed_total{job="catalog-sync", instance="a", resilience_dependency="esim-go",'
        ' resilience_retry_suppress_reason="not_retryable"}'
    )
    (
        timeline(
            job(calls("ok"), MINUTE, 90),
            job(calls("ok_after_retry"), MINUTE, 3),
            job(calls("failed", "503"), MINUTE, 1),
            job(calls("failed", "404"), MINUTE, 4),
            job(hopeless, MINUTE, 4),
        )
        .shows(5 * MINUTE, panel("catalog-retries", "Cured by a retry"), 0.75)
        .check()
    )
