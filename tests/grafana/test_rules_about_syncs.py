"""When people are notified about the sync itself.

Every rule must be right for a job of seconds and for a process that stays.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.promtool import Reported, Timeline, job, process

Start = Callable[..., Timeline]
MINUTE, HOUR = 60, 3600
FOREVER = 2000


def syncs(outcome: str, instance: str, kind: str = "full") -> str:
    return (
        f'catalog_sync_duration_seconds_count{{job="catalog-sync", instance="{instance}",'
        f' catalog_kind="{kind}", catalog_outcome="{outcome}"}}'
    )


@pytest.fixture
def around() -> list[dict[str, str]]:
    """The other series of a healthy system."""
    return [
        process('up{job="otel-collector", instance="otel-collector:8888"}', (1, 4 * FOREVER)),
        job(syncs("COMPLETE", "earlier"), 0, 1),
    ]


@pytest.mark.parametrize("outcome", ["FAILED", "LOCK_UNAVAILABLE"])
def test_a_failed_job_is_reported_at_once_and_until_a_later_one_works(
    timeline: Start, around: list[dict[str, str]], outcome: str
) -> None:
    failed, worked = 5 * MINUTE, 30 * MINUTE
    reported = Reported(
        "SyncFailed",
        "The last full sync failed; readers keep the last good catalogue.",
        {"catalog_kind": "full"},
    )
    (
        timeline(*around, job(syncs(outcome, "a"), failed, 1), job(syncs("COMPLETE", "b"), worked, 1))
        .at(failed - 30)
        .at(failed + MINUTE, "SyncFailed")
        .reports(failed + MINUTE, reported)
        .at(worked - 30, "SyncFailed")
        .at(worked + MINUTE)
        .at(worked + 5 * MINUTE)
        .check()
    )


def test_a_failure_fires_after_twenty_seconds(timeline: Start, around: list[dict[str, str]]) -> None:
    """With up to 15 s until a process pushes, 10 s until an evaluation and 5 s of grouping the page leaves in time."""
    timeline(*around, job(syncs("FAILED", "a"), MINUTE, 1), evaluate_every=10).at(90, "SyncFailed").check()


def test_a_service_that_stays_is_reported_at_its_first_failure_and_no_longer_than_to_its_next_success(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    failed, worked = 10 * MINUTE, 30 * MINUTE
    before, between = failed // 15, (worked - failed) // 15
    (
        timeline(
            *around,
            process(syncs("FAILED", "api"), (0, before), (1, FOREVER)),
            process(syncs("COMPLETE", "api"), (5, before + between), (6, FOREVER)),
        )
        .at(failed - 30)
        .at(failed + MINUTE, "SyncFailed")
        .at(worked - 30, "SyncFailed")
        .at(worked + 2 * MINUTE)
        .at(worked + 10 * MINUTE)
        .check()
    )


def test_a_good_group_does_not_hide_a_failed_full_sync(timeline: Start, around: list[dict[str, str]]) -> None:
    (
        timeline(
            *around,
            job(syncs("FAILED", "a"), 10 * MINUTE, 1),
            job(syncs("COMPLETE", "b", "group"), 20 * MINUTE, 1),
        )
        .at(2 * HOUR, "SyncFailed")
        .check()
    )


def test_a_lock_that_is_held_is_not_a_failure(timeline: Start, around: list[dict[str, str]]) -> None:
    timeline(*around, job(syncs("SKIPPED_LOCKED", "a"), MINUTE, 1)).at(2 * MINUTE).at(5 * MINUTE).check()


def test_a_partial_sync_is_a_warning_that_passes(timeline: Start, around: list[dict[str, str]]) -> None:
    reported = Reported(
        "SyncPartial",
        "A full sync was only partial: some groups keep their last good data.",
        {"catalog_kind": "full"},
    )
    (
        timeline(*around, job(syncs("PARTIAL", "a"), 10 * MINUTE, 1))
        .at(10 * MINUTE + 30, "SyncPartial")
        .reports(10 * MINUTE + 30, reported)
        .at(17 * MINUTE, "SyncPartial")
        .at(18 * MINUTE)
        .check()
    )


def failed_spans(error_type: str, collector: str = "c1") -> str:
    return (
        'traces_span_metrics_calls_total{job="catalog-sync", span_name="catalog.sync", status_code="STATUS_CODE_ERROR",'
        f' error_type="{error_type}", collector_instance_id="{collector}"}}'
    )


@pytest.mark.parametrize(
    ("error_type", "reported"),
    [
        (
            "publish_refused",
            Reported(
                "PublicationRefused", "A sync fetched everything but refused to publish: the new catalogue looks wrong."
            ),
        ),
        (
            "lock_lost",
            Reported(
                "LockLost", "A sync lost its lock and stopped: another run took it, or the process was suspended."
            ),
        ),
    ],
)
def test_what_a_sync_failed_with_is_known_from_the_collectors_count_of_spans(
    timeline: Start, around: list[dict[str, str]], error_type: str, reported: Reported
) -> None:
    """The first failure makes the series, later ones raise it; a new Collector counts anew."""
    first, second, third = 5 * MINUTE, 30 * MINUTE, 60 * MINUTE
    (
        timeline(
            *around,
            {
                "series": failed_spans(error_type),
                "values": f"_x{first // 15} 1x{(second - first) // 15 - 1} 2x{(third - second) // 15 - 1}",
            },
            job(failed_spans(error_type, "c2"), third, 1, 400),
        )
        .at(first - 30)
        .reports(first + 30, reported)
        .at(first + 30, reported.alert)
        .at(first + 7 * MINUTE, reported.alert)
        .at(first + 8 * MINUTE)
        .at(second + 30, reported.alert)
        .at(third - 30)
        .at(third + 30, reported.alert)
        .at(third + 21 * MINUTE)
        .check()
    )


AGE = 'catalog_age_seconds{job="catalog-sync", instance="%s"}'


def test_a_catalogue_is_stale_by_its_age_also_when_nobody_reports_it(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    """A job reported an age of 20 hours and was gone; four hours later it has been a day."""
    alert = Reported("CatalogueStale", "The catalogue is stale: its newest publication is 1d 0h 5m 0s old.")
    reported, age = 10 * MINUTE, 20 * HOUR
    stale = reported + 4 * HOUR
    fresh = stale + HOUR
    (
        timeline(*around, job(AGE % "a", reported, age), job(AGE % "b", fresh, 5), evaluate_every=5 * MINUTE)
        .at(reported + 5 * MINUTE)
        .at(stale)
        .at(stale + 5 * MINUTE, "CatalogueStale")
        .reports(stale + 5 * MINUTE, alert)
        .at(fresh - 5 * MINUTE, "CatalogueStale")
        .at(fresh + 5 * MINUTE)
        .check()
    )


def test_a_service_that_stays_reports_an_age_that_grows(timeline: Start, around: list[dict[str, str]]) -> None:
    day = 24 * HOUR
    growing = {"series": AGE % "api", "values": f"{day - 5 * MINUTE}+15x{FOREVER}"}
    timeline(*around, growing).at(5 * MINUTE).at(6 * MINUTE, "CatalogueStale").check()


@pytest.mark.fault("F59")
def test_a_job_that_no_longer_runs_is_missed_after_a_day_and_an_hour(timeline: Start) -> None:
    """Long-lived processes that only keep their old counts are no sign of life."""
    step = 15 * MINUTE
    samples = 40 * HOUR // step
    last, back = 2 * HOUR, 35 * HOUR
    reported = Reported("NoSyncSeen", "No sync has ended in the last 25h: the job is not running.")
    (
        timeline(
            process('up{job="otel-collector"}', (1, samples)),
            process(syncs("COMPLETE", "api"), (3, last // step), (4, samples)),
            {"series": syncs("COMPLETE", "b"), "values": f"_x{back // step} 1"},
            step=step,
            evaluate_every=step,
        )
        .at(last + 25 * HOUR - step)
        .at(last + 26 * HOUR, "NoSyncSeen")
        .reports(last + 26 * HOUR, reported)
        .at(back + step)
        .check()
    )


def test_a_stack_that_has_just_started_is_given_time_for_its_first_sync(timeline: Start) -> None:
    timeline(process('up{job="otel-collector"}', (1, 400))).at(14 * MINUTE).at(16 * MINUTE, "NoSyncSeen").check()
