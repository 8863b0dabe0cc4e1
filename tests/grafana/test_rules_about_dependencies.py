"""When people are notified about the supplier, Redis, and the delivery of alerts and telemetry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.promtool import Reported, Timeline, job, process

Start = Callable[..., Timeline]
MINUTE, HOUR = 60, 3600
HAPPENS = 5 * MINUTE
"""When the thing happens that a rule is about."""
WINDOW, HOLD = 5 * MINUTE, 150
SUPPLIER = {"resilience_dependency": "esim-go"}


@pytest.fixture
def around() -> list[dict[str, str]]:
    """The other series of a healthy system."""
    return [
        process('up{job="otel-collector"}', (1, 1000)),
        job('catalog_sync_duration_seconds_count{instance="earlier", catalog_outcome="COMPLETE"}', 0, 1),
    ]


def errors(error_type: str, severity: str = "HIGH", dependency: str = "esim-go") -> str:
    return (
        f'resilience_errors_total{{instance="i", resilience_dependency="{dependency}", error_type="{error_type}",'
        f' resilience_error_severity="{severity}"}}'
    )


COUNTED = [
    pytest.param(
        errors("401", "CRITICAL"),
        1,
        Reported("AuthenticationFailed", "esim-go refuses our credentials.", SUPPLIER),
        id="401",
    ),
    pytest.param(
        errors("redis_auth", "CRITICAL", "redis"),
        1,
        Reported("AuthenticationFailed", "redis refuses our credentials.", {"resilience_dependency": "redis"}),
        id="redis auth",
    ),
    pytest.param(
        errors("connection_error", "MEDIUM", "redis"),
        3,
        Reported(
            "StoreFailing",
            "Redis is failing: nothing can be published, and readers use the snapshot.",
            {"resilience_dependency": "redis"},
        ),
        id="redis down",
    ),
    pytest.param(
        errors("redis_oom", "HIGH", "redis"),
        1,
        Reported(
            "StoreFailing",
            "Redis is failing: nothing can be published, and readers use the snapshot.",
            {"resilience_dependency": "redis"},
        ),
        id="redis full",
    ),
    pytest.param(
        errors("schema_mismatch"),
        1,
        Reported("ContractDrift", "esim-go sends responses in an unexpected format.", SUPPLIER),
        id="drift",
    ),
    pytest.param(
        errors("429", "MEDIUM"), 11, Reported("Throttled", "esim-go asks us to slow down.", SUPPLIER), id="429"
    ),
    pytest.param(
        'resilience_retry_suppressed_total{resilience_dependency="esim-go", resilience_retry_suppress_reason="budget"}',
        1,
        Reported(
            "RetryBudgetExhausted",
            "The retry budget of esim-go is exhausted: failed calls are not retried.",
            SUPPLIER,
        ),
        id="budget",
    ),
    pytest.param(
        'resilience_alert_notifications_total{resilience_channel="slack", resilience_outcome="failed"}',
        1,
        Reported("AlertDeliveryFailing", "Alerts do not reach the channel slack.", {"resilience_channel": "slack"}),
        id="delivery",
    ),
    pytest.param(
        'grafana_alerting_notifications_failed_total{integration="pagerduty"}',
        1,
        Reported(
            "GrafanaDeliveryFailing", "Grafana's notifications through pagerduty fail.", {"integration": "pagerduty"}
        ),
        id="grafana delivery",
    ),
    pytest.param(
        'otel_sdk_processor_span_processed_total{instance="i", error_type="queue_full"}',
        40,
        Reported("TelemetryDropped", "Our processes are losing telemetry: 40 items in five minutes."),
        id="dropped",
    ),
    pytest.param(
        'otel_sdk_exporter_log_exported_total{instance="i", error_type="ConnectionError"}',
        2,
        Reported("TelemetryDropped", "Our processes are losing telemetry: 2 items in five minutes."),
        id="not exported",
    ),
    pytest.param(
        'otelcol_exporter_enqueue_failed_spans{exporter="otlp_http/tempo"}',
        7,
        Reported("CollectorLosingTelemetry", "The Collector refuses or drops telemetry: 7 items in five minutes."),
        id="enqueue failed",
    ),
    pytest.param(
        'otelcol_exporter_send_failed_metric_points{exporter="otlp_http/metrics"}',
        3,
        Reported("CollectorLosingTelemetry", "The Collector refuses or drops telemetry: 3 items in five minutes."),
        id="refused by a store",
    ),
    pytest.param(
        'otelcol_receiver_refused_spans{receiver="otlp"}',
        7,
        Reported("CollectorLosingTelemetry", "The Collector refuses or drops telemetry: 7 items in five minutes."),
        id="refused",
    ),
]


@pytest.mark.parametrize(("series", "count", "reported"), COUNTED)
def test_a_job_of_seconds_is_reported_once_it_has_ended_and_the_alert_passes(
    timeline: Start, around: list[dict[str, str]], series: str, count: int, reported: Reported
) -> None:
    (
        timeline(*around, job(series, HAPPENS, count))
        .at(HAPPENS - 30)
        .at(HAPPENS + 30, reported.alert)
        .reports(HAPPENS + 30, reported)
        .at(HAPPENS + WINDOW + HOLD - MINUTE, reported.alert)
        .at(HAPPENS + WINDOW + HOLD + MINUTE)
        .check()
    )


@pytest.mark.parametrize(("series", "count", "reported"), COUNTED)
def test_a_process_that_stays_is_reported_when_its_count_grows_and_not_for_what_it_counted_before(
    timeline: Start, around: list[dict[str, str]], series: str, count: int, reported: Reported
) -> None:
    before = HAPPENS // 15
    (
        timeline(*around, process(series, (0, before), (count, 1000)))
        .at(HAPPENS - 30)
        .at(HAPPENS + 30, reported.alert)
        .reports(HAPPENS + 30, reported)
        .at(HAPPENS + WINDOW + HOLD + MINUTE)
        .check()
    )


@pytest.mark.parametrize(
    "series",
    [
        job(errors("connection_error", "MEDIUM", "redis"), HAPPENS, 2),
        job(errors("503", "MEDIUM"), HAPPENS, 20),
        job(errors("429", "MEDIUM"), HAPPENS, 10),
        job('otelcol_receiver_refused_spans{receiver="otlp/relay"}', HAPPENS, 500),
        job('otelcol_exporter_send_failed_metric_points{exporter="prometheus_remote_write"}', HAPPENS, 500),
        job('otel_sdk_processor_span_processed_total{instance="i"}', HAPPENS, 500),
        job('resilience_retry_suppressed_total{resilience_retry_suppress_reason="not_retryable"}', HAPPENS, 5),
    ],
    ids=["Redis hiccup", "cured 503", "some 429", "relay", "tries of the relay", "processed", "not retryable"],
)
def test_what_is_not_news_is_not_reported(
    timeline: Start, around: list[dict[str, str]], series: dict[str, str]
) -> None:
    timeline(*around, series).at(HAPPENS + 30).at(HAPPENS + 4 * MINUTE).check()


def status(state: str) -> str:
    return (
        f'resilience_circuit_breaker_status{{instance="i", resilience_dependency="esim-go",'
        f' resilience_circuit_breaker_state="{state}"}}'
    )


OPENED = Reported("CircuitBreakerOpen", "The circuit to esim-go is open: calls are rejected.", SUPPLIER)


def test_an_open_circuit_is_one_alert_from_opening_over_its_probes_until_it_has_closed(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    """It opens, tries a probe in vain, and closes after the second one."""
    before = HAPPENS // 15
    opened = [(0, before), (1, 4), (0, 2), (1, 4), (0, 200)]
    half_open = [(0, before + 4), (1, 2), (0, 4), (1, 2), (0, 200)]
    closed = HAPPENS + 12 * 15
    (
        timeline(*around, process(status("open"), *opened), process(status("half_open"), *half_open))
        .at(HAPPENS - 30)
        .at(HAPPENS + 30, OPENED.alert)
        .reports(HAPPENS + 30, OPENED)
        .at(HAPPENS + 75, OPENED.alert)
        .at(closed + MINUTE, OPENED.alert)
        .at(closed + 4 * MINUTE)
        .check()
    )


def test_a_circuit_that_a_job_opened_and_closed_between_two_pushes_is_reported_too(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    opened = 'resilience_circuit_breaker_transitions_total{resilience_dependency="esim-go", resilience_to="open"}'
    timeline(*around, job(opened, HAPPENS, 1)).at(HAPPENS + 30, OPENED.alert).at(HAPPENS + 6 * MINUTE).check()


@pytest.mark.fault("O11")
def test_an_open_circuit_does_not_outlive_its_process(timeline: Start, around: list[dict[str, str]]) -> None:
    """Its last word counts for 90 s, and is held like any other."""
    last = process(status("open"), (0, HAPPENS // 15), (1, 4))
    (
        timeline(*around, last)
        .at(HAPPENS + 30, OPENED.alert)
        .at(HAPPENS + MINUTE + 90, OPENED.alert)
        .at(HAPPENS + 45 + 90 + HOLD + MINUTE + 15)
        .check()
    )


@pytest.mark.fault("O11")
def test_an_open_circuit_of_a_job_that_runs_for_seconds_each_minute_stays_reported(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    """Once a minute it says that it is open, until a run says that it is not."""
    runs = 10
    said = " ".join(["_x2 1"] * runs + ["_x2 0"] * 30)
    opened = timeline(*around, {"series": status("open"), "values": said}, evaluate_every=15)
    for minute in range(2, runs + 1):
        opened.at(minute * MINUTE, OPENED.alert)
    opened.at(runs * MINUTE + 90 + HOLD + MINUTE).check()


@pytest.mark.parametrize("state", ["shadow", "half_open", "closed"])
def test_a_circuit_that_lets_calls_pass_is_not_news(timeline: Start, around: list[dict[str, str]], state: str) -> None:
    timeline(*around, process(status(state), (1, 100)), process(status("open"), (0, 100))).at(10 * MINUTE).check()


def calls(outcome: str, instance: str = "i") -> str:
    return (
        f'resilience_operation_duration_seconds_count{{instance="{instance}", resilience_dependency="esim-go",'
        f' resilience_outcome="{outcome}"}}'
    )


def growing(series: str, per_step: float, samples: int, start: float = 0) -> dict[str, str]:
    return {"series": series, "values": f"{start}+{per_step}x{samples}"}


def test_a_budget_that_burns_fast_is_a_page_until_it_stops(timeline: Start, around: list[dict[str, str]]) -> None:
    """Four in ten calls fail: 40 times what the objective allows."""
    lasts = 20 * MINUTE
    samples = lasts // 15
    failed = {"series": calls("failed"), "values": f"0+4x{samples} {4 * samples}x200"}
    reported = Reported(
        "ErrorBudgetBurnFast", "Calls to esim-go fail 40 times as often as the objective allows.", SUPPLIER
    )
    burning = ("ErrorBudgetBurnFast", "ErrorBudgetBurn", "ErrorBudgetBurnSlow")
    (
        timeline(*around, growing(calls("ok"), 6, 400), failed)
        .reports(10 * MINUTE, reported)
        .at(10 * MINUTE, *burning)
        .at(lasts - 30, *burning)
        .at(lasts + 12 * MINUTE, "ErrorBudgetBurn", "ErrorBudgetBurnSlow")
        .check()
    )


def test_jobs_of_seconds_burn_the_budget_too(timeline: Start, around: list[dict[str, str]]) -> None:
    (
        timeline(*around, job(calls("ok", "a"), HAPPENS, 60), job(calls("failed", "a"), HAPPENS, 40))
        .at(HAPPENS + MINUTE, "ErrorBudgetBurnFast", "ErrorBudgetBurn", "ErrorBudgetBurnSlow")
        .check()
    )


def test_a_few_calls_say_nothing_about_a_budget(timeline: Start, around: list[dict[str, str]]) -> None:
    timeline(*around, job(calls("ok"), HAPPENS, 10), job(calls("failed"), HAPPENS, 9)).at(HAPPENS + MINUTE).check()


@pytest.mark.parametrize(
    ("share", "hours", "expected"),
    [
        (0.1, 8, ["ErrorBudgetBurn", "ErrorBudgetBurnSlow"]),
        (0.02, 8, ["ErrorBudgetBurnSlow"]),
        (0.005, 8, []),
    ],
    ids=["ten in a hundred", "two in a hundred", "within the objective"],
)
def test_a_budget_that_burns_slowly(timeline: Start, share: float, hours: int, expected: list[str]) -> None:
    step = 10 * MINUTE
    samples = hours * HOUR // step
    (
        timeline(
            process('up{job="otel-collector"}', (1, samples)),
            growing('catalog_sync_duration_seconds_count{catalog_outcome="COMPLETE"}', 1, samples),
            growing(calls("ok"), 1000 * (1 - share), samples),
            growing(calls("failed"), 1000 * share, samples),
            step=step,
            evaluate_every=step,
        )
        .at(hours * HOUR, *expected)
        .check()
    )


def bucket(at_most: str, instance: str = "i") -> str:
    return calls("ok", instance).replace("_count{", f'_bucket{{le="{at_most}",')


def runs_of_a_job(count: int, each: int, slow: int, cut: int) -> list[dict[str, str]]:
    """Runs of a job within a minute, with calls of which some are slow and some have an attempt that was cut off."""
    found = []
    for number in range(count):
        ends, name = HAPPENS + 60 * number // count // 15 * 15, f"run {number}"
        found += [
            job(calls("ok", name), ends, each),
            job(bucket("2.5", name), ends, each - slow),
            job(bucket("+Inf", name), ends, each),
        ]
        if cut:
            found.append(job(errors("attempt_timeout", "MEDIUM").replace('"i"', f'"{name}"'), ends, cut))
    return found


def slow(share: str) -> Reported:
    return Reported(
        "DependencySlow", f"esim-go is slow: {share} of calls are slow or cut off by a time limit.", SUPPLIER
    )


@pytest.mark.fault("O14")
@pytest.mark.parametrize("runs", [1, 20], ids=["slow machine", "fast machine"])
@pytest.mark.parametrize("cut", [3, 15], ids=["three cut", "fifteen cut"])
def test_a_brownout_is_seen_by_the_share_of_cut_attempts_however_many_calls_a_machine_makes(
    timeline: Start, around: list[dict[str, str]], runs: int, cut: int
) -> None:
    """One request in thirty, or in seven, is longer than an attempt may be: too few for the 95th percentile."""
    reported = slow("3%" if cut == 3 else "15%")
    (
        timeline(*around, *runs_of_a_job(runs, each=100, slow=0, cut=cut))
        .at(HAPPENS - 30)
        .at(HAPPENS + 90, reported.alert)
        .reports(HAPPENS + 90, reported)
        .at(HAPPENS + WINDOW + HOLD + 2 * MINUTE)
        .check()
    )


@pytest.mark.fault("O14")
@pytest.mark.parametrize("runs", [1, 20], ids=["slow machine", "fast machine"])
def test_a_brownout_below_every_time_limit_is_seen_by_the_share_of_slow_calls(
    timeline: Start, around: list[dict[str, str]], runs: int
) -> None:
    reported = slow("10%")
    (
        timeline(*around, *runs_of_a_job(runs, each=100, slow=10, cut=0))
        .at(HAPPENS + 90, reported.alert)
        .reports(HAPPENS + 90, reported)
        .at(HAPPENS + WINDOW + HOLD + 2 * MINUTE)
        .check()
    )


@pytest.mark.fault("O14")
def test_a_dependency_that_is_always_slow_is_not_a_brownout_until_it_is_four_times_as_slow(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    """An hour with 6 % of slow calls, then 30 %."""
    before, after = HOUR // 15, 40
    (
        timeline(
            *around,
            {"series": calls("ok"), "values": f"0+10x{before + after}"},
            {"series": bucket("+Inf"), "values": f"0+10x{before + after}"},
            {"series": bucket("2.5"), "values": f"0+9.4x{before} {9.4 * before + 7}+7x{after}"},
        )
        .at(20 * MINUTE)
        .at(HOUR)
        .at(HOUR + 8 * MINUTE, "DependencySlow")
        .check()
    )


@pytest.mark.fault("O14")
def test_five_in_a_hundred_slow_calls_are_a_brownout_as_the_runbook_says(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    timeline(*around, *runs_of_a_job(20, each=100, slow=5, cut=0)).at(HAPPENS + 90, "DependencySlow").check()


def daily_runs(*slow: int) -> list[dict[str, str]]:
    """One run a day of a hundred calls, with ``slow`` slow ones per day; a sample every two minutes."""
    found = []
    for day, count in enumerate(slow):
        silent = f"_x{2 + 720 * day} "
        for series, value in (
            (calls("ok", f"day {day}"), 100),
            (bucket("+Inf", f"day {day}"), 100),
            (bucket("2.5", f"day {day}"), 100 - count),
            (f'catalog_sync_duration_seconds_count{{instance="day {day}", catalog_outcome="COMPLETE"}}', 1),
        ):
            found.append({"series": series, "values": f"{silent}{value}"})
    return found


@pytest.mark.slow
@pytest.mark.fault("O14")
@pytest.mark.parametrize(("today", "expected"), [(8, []), (50, ["DependencySlow"])])
def test_what_is_usual_for_a_daily_job_is_its_run_of_the_day_before(
    timeline: Start, today: int, expected: list[str]
) -> None:
    up = {"series": 'up{job="otel-collector"}', "values": "1x1500"}
    (
        timeline(up, *daily_runs(8, 8, today), step=120, evaluate_every=240)
        .at(2 * 24 * HOUR + 8 * MINUTE, *expected)
        .check()
    )


@pytest.mark.parametrize(("each", "slow_calls", "cut"), [(100, 4, 0), (100, 0, 2), (19, 5, 0), (400, 0, 7)])
def test_a_few_slow_calls_are_not_a_brownout(
    timeline: Start, around: list[dict[str, str]], each: int, slow_calls: int, cut: int
) -> None:
    timeline(*around, *runs_of_a_job(1, each, slow_calls, cut)).at(HAPPENS + 90).check()


def test_a_supplier_that_asks_to_wait_is_throttled_and_not_slow(timeline: Start, around: list[dict[str, str]]) -> None:
    timeline(*around, *runs_of_a_job(1, 100, 50, 20), job(errors("429", "MEDIUM"), HAPPENS, 11)).at(
        HAPPENS + 90, "Throttled"
    ).check()


def test_a_queue_that_fills_is_reported_after_a_minute_and_until_it_has_drained(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    labels = '{exporter="otlp_http/tempo", data_type="traces"}'
    reported = Reported(
        "CollectorQueueFilling",
        "The Collector's queue to otlp_http/tempo is 60% full.",
        {"exporter": "otlp_http/tempo", "data_type": "traces"},
    )
    before, full = HAPPENS // 15, 20
    (
        timeline(
            *around,
            process(f"otelcol_exporter_queue_size{labels}", (10, before), (3000, full), (0, 200)),
            process(f"otelcol_exporter_queue_capacity{labels}", (5000, 300)),
        )
        .at(HAPPENS + 30)
        .at(HAPPENS + 90, reported.alert)
        .reports(HAPPENS + 90, reported)
        .at(HAPPENS + full * 15 + HOLD + MINUTE)
        .check()
    )


@pytest.mark.parametrize("scraped", [True, False], ids=["does not answer", "is no target"])
def test_a_dead_collector_is_reported_within_half_a_minute(timeline: Start, scraped: bool) -> None:
    reported = Reported(
        "CollectorDown",
        "The Collector does not respond: no telemetry arrives, and most other rules detect nothing.",
        {"job": "otel-collector"},
    )
    up = [process('up{job="otel-collector"}', (1, 8), (0, 20), (1, 20))] if scraped else []
    started = timeline(job('catalog_sync_duration_seconds_count{catalog_outcome="COMPLETE"}', 0, 1), *up)
    if scraped:
        started.at(2 * MINUTE - 30).at(3 * MINUTE, reported.alert).reports(3 * MINUTE, reported).at(8 * MINUTE)
    else:
        started.at(MINUTE, reported.alert)
    started.check()


IN_FLIGHT = 'otelcol_exporter_in_flight_requests{instance="c", exporter="otlp_http/loki", data_type="logs"}'


@pytest.mark.fault("O1")
def test_a_request_that_a_store_refuses_again_and_again_fires_within_two_minutes_also_while_others_pass(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    reported = Reported(
        "CollectorExportStuck",
        "The Collector's exporter otlp_http/loki has 1 requests that its backend does not accept.",
        {"instance": "c", "exporter": "otlp_http/loki", "data_type": "logs"},
    )
    before, stuck = HAPPENS // 15, 20
    (
        timeline(*around, process(IN_FLIGHT, (0, before), (1, stuck), (0, 200)), evaluate_every=10)
        .at(HAPPENS + MINUTE)
        .at(HAPPENS + 2 * MINUTE, reported.alert)
        .reports(HAPPENS + 2 * MINUTE, reported)
        .at(HAPPENS + stuck * 15 + HOLD + MINUTE)
        .check()
    )


def test_an_exporter_at_work_is_not_stuck(timeline: Start, around: list[dict[str, str]]) -> None:
    busy = [(5, 3), (0, 1)] * 20
    of_relay = IN_FLIGHT.replace("otlp_http/loki", "prometheus_remote_write")
    timeline(*around, process(IN_FLIGHT, *busy), process(of_relay, (1, 80)), evaluate_every=10).at(15 * MINUTE).check()


@pytest.mark.fault("O7")
@pytest.mark.parametrize("store", ["tempo", "loki"])
def test_a_dead_store_fires_within_two_minutes(timeline: Start, around: list[dict[str, str]], store: str) -> None:
    reported = Reported(
        "StoreDown",
        f"The backend {store} does not respond: alerts still fire, but their traces and logs wait in the Collector.",
        {"job": store},
    )
    before = HAPPENS // 15
    up = process(f'up{{job="{store}"}}', (1, before), (0, 40), (1, 40))
    (
        timeline(*around, up, process('up{job="prometheus"}', (1, 200)), evaluate_every=10)
        .at(HAPPENS - 10)
        .at(HAPPENS + MINUTE, reported.alert)
        .reports(HAPPENS + MINUTE, reported)
        .at(HAPPENS + 11 * MINUTE)
        .check()
    )


@pytest.mark.fault("O7")
def test_a_dead_store_hides_no_request_that_another_store_refuses(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    tempo, loki = process('up{job="tempo"}', (0, 80)), process(IN_FLIGHT, (1, 80))
    to_tempo = process(IN_FLIGHT.replace("loki", "tempo"), (1, 80))
    timeline(*around, tempo, loki, to_tempo, evaluate_every=10).at(
        10 * MINUTE, "CollectorExportStuck", "StoreDown"
    ).check()


@pytest.mark.fault("O7")
def test_a_prometheus_that_cannot_reach_itself_fires(timeline: Start, around: list[dict[str, str]]) -> None:
    """In Grafana a query that fails or brings nothing fires the same rule: see test_provisioning.py."""
    up = process('up{job="prometheus"}', (1, HAPPENS // 15), (0, 40))
    timeline(*around, up, evaluate_every=10).at(HAPPENS + 2 * MINUTE, "PrometheusDown").check()


def test_nothing_is_reported_while_all_is_well(timeline: Start) -> None:
    """An API that stays, a job every half hour, errors that retries cure, and a catalogue that is renewed."""
    every, until = 30 * MINUTE, 2 * HOUR
    samples = until // 15
    jobs = [
        job(f'{series}instance="job {number}", {labels}}}', number * every, value)
        for number in range(until // every)
        for series, labels, value in (
            ("catalog_sync_duration_seconds_count{", 'catalog_kind="full", catalog_outcome="COMPLETE"', 1),
            ("catalog_age_seconds{", 'job="catalog-sync"', 4),
            ("resilience_operation_duration_seconds_count{", f'{_OF_SUPPLIER}, resilience_outcome="ok"', 200),
            ("resilience_operation_duration_seconds_count{", f'{_OF_SUPPLIER}, resilience_outcome="ok_after_retry"', 6),
            ("resilience_errors_total{", f'{_OF_SUPPLIER}, error_type="503", resilience_error_severity="MEDIUM"', 6),
            ("otel_sdk_processor_span_processed_total{", 'job="catalog-sync"', 900),
        )
    ]
    lasting = [
        process('up{job="otel-collector"}', (1, samples)),
        process(status("closed"), (1, samples)),
        process(status("open"), (0, samples)),
        process('otelcol_exporter_queue_size{exporter="otlp_http/loki", data_type="logs"}', (3, samples)),
        process('otelcol_exporter_queue_capacity{exporter="otlp_http/loki", data_type="logs"}', (5000, samples)),
        growing(calls("ok", "api"), 3, samples),
        growing('catalog_reads_total{catalog_source="fresh"}', 20, samples),
        growing('resilience_alert_notifications_total{resilience_outcome="delivered"}', 0, samples),
        process(errors("401", "CRITICAL"), (0, samples)),
    ]
    calm = timeline(*lasting, *jobs)
    for minute in range(1, until // MINUTE, 7):
        calm.at(minute * MINUTE)
    calm.check()


_OF_SUPPLIER = 'resilience_dependency="esim-go"'


@pytest.mark.parametrize("off", [3600, -3600, 310])
def test_a_clock_that_is_off_is_reported(timeline: Start, around: list[dict[str, str]], off: int) -> None:
    """Whichever way; the sample has the time of the Collector."""
    right = {"series": 'catalog_clock_seconds{job="catalog-api", instance="a"}', "values": "0+15x200"}
    wrong = {
        "series": 'catalog_clock_seconds{job="catalog-sync"}',
        "values": f"_x{HAPPENS // 15} {HAPPENS + off}+15x40",
    }
    reported = Reported(
        "ClockOff",
        f"A clock of catalog-sync is off by {'5m 10s' if off == 310 else '1h 0m 0s'}.",
        {"job": "catalog-sync"},
    )
    (
        timeline(*around, right, wrong)
        .at(HAPPENS - 30)
        .at(HAPPENS + MINUTE, "ClockOff")
        .reports(HAPPENS + MINUTE, reported)
        .at(HAPPENS + 20 * MINUTE + HOLD)
        .check()
    )


def test_a_clock_that_is_off_by_less_than_a_request_may_wait_is_not_news(
    timeline: Start, around: list[dict[str, str]]
) -> None:
    late = {"series": 'catalog_clock_seconds{job="catalog-sync"}', "values": "-200+15x100"}
    timeline(*around, late).at(10 * MINUTE).check()


def test_a_sync_that_no_worker_takes_is_reported(timeline: Start, around: list[dict[str, str]]) -> None:
    """Two processes say so; a queue that is long while workers take from it is none."""
    waits = [
        {
            "series": f'catalog_queue_wait_seconds{{job="catalog-api", instance="{name}"}}',
            "values": "0x19 0+15x20 0x100",
        }
        for name in ("a", "b")
    ]
    long = process('catalog_queue_size{job="catalog-api", instance="a"}', (900, 200))
    reported = Reported("QueueStuck", "A sync has been waiting for 3m 0s, and no worker has taken it.")
    (
        timeline(*around, *waits, long)
        .at(HAPPENS + MINUTE)
        .at(HAPPENS + 3 * MINUTE, "QueueStuck")
        .reports(HAPPENS + 3 * MINUTE, reported)
        .at(HAPPENS + 5 * MINUTE + HOLD + 2 * MINUTE)
        .check()
    )
