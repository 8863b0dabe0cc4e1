"""The evidence of a run: one trace, one correlation ID, every failure recorded once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from opentelemetry.trace import StatusCode

from catalog_sync.domain.models import Outcome, SyncKind
from catalog_sync.observability import instruments
from otel_resilience.testing import RecordedTelemetry
from support.sync_world import World


@pytest.fixture
def recorded() -> Iterator[RecordedTelemetry]:
    telemetry = RecordedTelemetry()
    with contextlib.ExitStack() as stack:
        stack.enter_context(telemetry.recording())
        stack.enter_context(
            instruments.use_providers(
                tracer_provider=telemetry.tracer_provider,
                meter_provider=telemetry.meter_provider,
                logger_provider=telemetry.logger_provider,
            )
        )
        yield telemetry


async def test_a_run_is_one_trace_and_its_id_is_the_correlation_id(world: World, recorded: RecordedTelemetry) -> None:
    world.simulator.set_scenario("group-unavailable")

    report = await world.sync()

    assert report.outcome is Outcome.PARTIAL
    spans = [span for span in recorded.spans if span.context]
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {report.correlation_id}
    by_id = {span.context.span_id: span for span in spans if span.context}

    def path(name: str, **attributes: object) -> list[str]:
        span = next(s for s in spans if s.name == name and attributes.items() <= dict(s.attributes or {}).items())
        names = [span.name]
        while span.parent is not None:
            span = by_id[span.parent.span_id]
            names.append(span.name)
        return names

    assert path("attempt", **{"error.type": "500"}) == [
        "attempt",
        "esim-go list bundles",
        "catalog.sync.group",
        "catalog.sync",
    ]
    assert path("catalog.publish") == ["catalog.publish", "catalog.sync"]
    groups = [span.status.status_code for span in spans if span.name == "catalog.sync.group"]
    assert groups.count(StatusCode.ERROR) == 1


async def test_every_failed_attempt_is_recorded_exactly_once(world: World, recorded: RecordedTelemetry) -> None:
    world.simulator.set_scenario("group-unavailable")

    report = await world.sync()

    errors = [point for point in recorded.points("resilience.errors") if point.attributes["error.type"] == "500"]
    assert sum(point.value for point in errors) == report.retries + 1 == 3
    assert recorded.event_names().count("resilience.attempt.failed") == 3
    assert recorded.event_names().count("catalog.sync.finished") == 1


@pytest.mark.fault("F16")
async def test_a_bad_row_is_counted_and_is_not_an_error(world: World, recorded: RecordedTelemetry) -> None:
    world.simulator.set_scenario({"rules": [{"fault": "bad_rows", "ratio": 0.02}]})

    report = await world.sync()

    points = recorded.points("catalog.sync.quarantined")
    assert sum(point.value for point in points) == report.quarantined > 0
    assert not recorded.points("resilience.errors")


@pytest.mark.fault("W9")
async def test_a_bundle_that_is_gone_is_an_answer_and_no_error(world: World, recorded: RecordedTelemetry) -> None:
    await world.sync()
    name = min(await world.bundles())
    world.simulator.edit_catalogue(withdraw=[name])
    before = len(recorded.spans)

    assert (await world.sync(SyncKind.BUNDLE, name)).outcome is Outcome.COMPLETE

    spans = recorded.spans[before:]
    assert "esim-go get bundle" in {span.name for span in spans}
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}
    assert not recorded.points("resilience.errors")


async def test_a_lock_that_is_taken_is_not_an_error(world: World, recorded: RecordedTelemetry) -> None:
    await world.store.lock.acquire("5" * 32)

    assert (await world.sync()).outcome is Outcome.SKIPPED_LOCKED

    assert {span.status.status_code for span in recorded.spans} == {StatusCode.UNSET}
