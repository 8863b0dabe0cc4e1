"""Names of the contract in Prometheus and Loki."""

from __future__ import annotations

import pytest
from grafana.generate import names
from grafana.generate.rules import recording

from catalog_sync.observability import contract as catalog
from otel_resilience.telemetry import contract as resilience
from otel_resilience.telemetry.contract import Metric


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (resilience.ERRORS, "resilience_errors_total"),
        (resilience.OPERATION_DURATION, "resilience_operation_duration_seconds"),
        (resilience.OPERATION_ATTEMPTS, "resilience_operation_attempts"),
        (resilience.BREAKER_STATUS, "resilience_circuit_breaker_status"),
        (resilience.BUDGET_UTILIZATION, "resilience_retry_budget_utilization_ratio"),
        (resilience.ALERT_QUEUE, "resilience_alert_queue_size"),
        (catalog.AGE, "catalog_age_seconds"),
        (catalog.SYNC_BUNDLES, "catalog_sync_bundles"),
        (catalog.SYNC_QUARANTINED, "catalog_sync_quarantined_total"),
    ],
    ids=lambda value: value.name if isinstance(value, Metric) else "",
)
def test_units_and_counters_become_suffixes(metric: Metric, name: str) -> None:
    assert names.prometheus_name(metric) == name


def test_a_suffix_that_the_name_has_already_is_not_repeated() -> None:
    assert names.prometheus_name(catalog.AGE._replace(name="age.in.seconds")) == "age_in_seconds"


def test_an_unknown_unit_is_refused_rather_than_guessed() -> None:
    with pytest.raises(ValueError, match="'furlong'"):
        names.prometheus_name(catalog.AGE._replace(unit="furlong"))


def test_a_histogram_is_three_series() -> None:
    base = "catalog_sync_duration_seconds"
    assert names.series_names(catalog.SYNC_DURATION) == (f"{base}_bucket", f"{base}_sum", f"{base}_count")


def test_every_metric_of_the_contract_has_a_name_of_its_own() -> None:
    metrics = (*resilience.METRICS, *catalog.METRICS)
    assert len({name for metric in metrics for name in names.series_names(metric)}) == sum(
        len(names.series_names(metric)) for metric in metrics
    )


def test_remembered_moments_do_not_collide_with_metrics() -> None:
    assert not recording.SERIES.keys() & names.known_series().keys()
