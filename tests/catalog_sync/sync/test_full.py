"""A full sync: what it publishes, and what it keeps when parts of it fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.models import Outcome
from catalog_sync.sync.progress import Progress
from otel_resilience import CircuitBreakerConfig
from support.redis_server import RedisServer
from support.sync_world import BUNDLES, World, world_with


async def test_a_full_sync_publishes_every_bundle(world: World) -> None:
    report = await world.sync()

    assert report.outcome is Outcome.COMPLETE
    assert report.error is None
    assert report.bundles == BUNDLES
    meta, bundles = await world.meta(), await world.bundles()
    assert meta.version == report.version
    assert len(bundles) == BUNDLES
    assert not any(bundle.stale for bundle in bundles.values())
    assert sum(group.bundles for group in report.groups) >= BUNDLES
    assert {group.status for group in report.groups} == {"ok"}
    assert report.attempts == len(world.simulator.requests)
    assert report.retries == 0
    assert meta.last_full_sync is not None
    assert {name: group.bundles for name, group in meta.groups.items()} == {g.name: g.bundles for g in report.groups}


async def test_the_snapshot_holds_what_was_published(world: World) -> None:
    await world.sync()

    saved = await world.snapshot.load()

    assert saved is not None
    assert saved.meta == await world.meta()
    assert {bundle.name: bundle for bundle in saved.bundles()} == await world.bundles()


async def test_the_duration_of_a_run_is_never_zero(world: World) -> None:
    """The original computed ``Date.now() - Date.now()``."""
    ticks = iter(range(1000, 100_000, 7))

    report = await world.sync(clock=lambda: float(next(ticks)))

    assert report.duration_s >= 7


async def test_withdrawn_bundles_are_gone_after_a_full_sync(world: World) -> None:
    """In the original they could still be sold for 30 days."""
    await world.sync()
    before = await world.bundles()
    withdrawn = sorted(before)[:5]
    world.simulator.edit_catalogue(withdraw=withdrawn)

    report = await world.sync()

    assert report.outcome is Outcome.COMPLETE
    assert set(await world.bundles()) == set(before) - set(withdrawn)


async def test_progress_ends_with_everything_done(world: World) -> None:
    seen: list[Progress] = []

    await world.sync(on_progress=seen.append)

    last = seen[-1]
    assert last.groups_done == last.groups_total == 5
    assert last.pages_done == last.pages_total > 5
    assert last.bundles >= BUNDLES
    assert [step.groups_done for step in seen] == sorted(step.groups_done for step in seen)


async def test_a_failed_group_keeps_its_last_good_bundles_marked_stale(world: World) -> None:
    """In the original one group that worked made the whole run a success."""
    await world.sync()
    before, meta_before = await world.bundles(), await world.meta()
    world.simulator.set_scenario("group-unavailable")

    async with world.other_client() as again:
        report = await again.sync()

    assert report.outcome is Outcome.PARTIAL
    (failed,) = [group for group in report.groups if group.status != "ok"]
    assert failed.status == "stale"
    assert failed.error is not None
    assert failed.error.type == "500"
    after, meta = await world.bundles(), await world.meta()
    assert set(after) == set(before)
    assert {name for name, bundle in after.items() if bundle.stale} == {
        name for name, bundle in before.items() if bundle.groups == (failed.name,)
    }
    assert meta.groups[failed.name].stale
    assert meta.groups[failed.name].as_of == meta_before.groups[failed.name].as_of
    assert meta.last_full_sync == meta_before.last_full_sync


async def test_a_first_sync_with_a_failed_group_publishes_what_it_has(world: World) -> None:
    world.simulator.set_scenario("group-denied")

    report = await world.sync()

    assert report.outcome is Outcome.PARTIAL
    (failed,) = [group for group in report.groups if group.status != "ok"]
    assert (failed.status, failed.bundles) == ("failed", 0)
    assert failed.error is not None
    assert failed.error.type == "403"
    assert failed.error.severity == "MEDIUM"
    meta = await world.meta()
    assert failed.name not in meta.groups
    assert meta.last_full_sync is None
    assert report.bundles == len(await world.bundles()) > 0


async def test_a_group_that_fails_twice_is_still_as_old_as_its_data(world: World) -> None:
    await world.sync()
    first = await world.meta()
    world.simulator.set_scenario("group-denied")
    for _ in range(2):
        report = await world.sync()
        assert report.outcome is Outcome.PARTIAL
    (stale,) = [name for name, group in (await world.meta()).groups.items() if group.stale]

    assert (await world.meta()).groups[stale].as_of == first.groups[stale].as_of
    world.simulator.set_scenario("calm")
    assert (await world.sync()).outcome is Outcome.COMPLETE
    assert not any(bundle.stale for bundle in (await world.bundles()).values())


async def test_when_all_groups_fail_nothing_is_published(world: World) -> None:
    """workers_v2 turned an outage into empty pages and logged success."""
    await world.sync()
    before = await world.meta()
    world.simulator.set_scenario({"rules": [{"fault": "status", "status": 500, "when": {"endpoint": "catalogue"}}]})

    report = await world.sync()

    assert report.outcome is Outcome.FAILED
    assert {group.status for group in report.groups} == {"stale"}
    assert (await world.meta()) == before
    assert report.version == before.version


async def test_a_failed_discovery_uses_the_last_good_groups_and_says_so(world: World) -> None:
    await world.sync()
    before = await world.meta()
    world.simulator.set_scenario({"rules": [{"fault": "status", "status": 500, "when": {"endpoint": "groups"}}]})

    report = await world.sync()

    assert report.outcome is Outcome.PARTIAL
    assert report.error is not None
    assert report.error.type == "500"
    assert {group.status for group in report.groups} == {"ok"}
    assert (await world.meta()).last_full_sync == before.last_full_sync
    assert len(await world.bundles()) == BUNDLES


async def test_a_failed_discovery_without_any_catalogue_fails_the_run(world: World) -> None:
    """There is no silent literal list of groups."""
    world.simulator.set_scenario({"rules": [{"fault": "status", "status": 500, "when": {"endpoint": "groups"}}]})

    report = await world.sync()

    assert report.outcome is Outcome.FAILED
    assert await world.store.current() is None


@pytest.mark.parametrize("scenario", ["key-revoked", "unauthorized"])
async def test_a_dead_key_fails_the_run_at_once(world: World, scenario: str) -> None:
    await world.sync()
    before = await world.meta()
    sent = len(world.simulator.requests)
    world.simulator.set_scenario(scenario)

    report = await world.sync()

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.severity == "CRITICAL"
    assert report.error.type in {"401", "403"}
    assert len(world.simulator.requests) - sent == 2
    assert (await world.meta()) == before


async def test_a_key_that_dies_in_the_middle_ends_the_run(world: World) -> None:
    world.simulator.set_scenario(
        {"rules": [{"fault": "status", "status": 403, "when": {"endpoint": ["catalogue", "organisation"], "skip": 3}}]}
    )

    report = await world.sync()

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.severity == "CRITICAL"
    assert await world.store.current() is None


@pytest.mark.parametrize(
    ("scenario", "outcome"),
    [
        ("rate-limited", Outcome.COMPLETE),
        ("string-prices", Outcome.COMPLETE),
        ("bare-array", Outcome.COMPLETE),
        ("few-bad-rows", Outcome.COMPLETE),
        ("drift", Outcome.COMPLETE),
        ("bad-rows", Outcome.FAILED),
        ("resets", Outcome.FAILED),
        ("closes", Outcome.FAILED),
        ("repeated-page", Outcome.PARTIAL),
        ("contradiction", Outcome.FAILED),
        ("garbage", Outcome.FAILED),
        ("oversized", Outcome.FAILED),
        ("gzip-bomb", Outcome.FAILED),
        ("redirect-other-host", Outcome.FAILED),
        ("redirect-loop", Outcome.FAILED),
    ],
)
async def test_how_a_first_sync_ends_in_each_scenario(
    redis_server: RedisServer, tmp_path: Path, scenario: str, outcome: Outcome
) -> None:
    redis_server.command("FLUSHALL")
    async with world_with(redis_server.url, tmp_path, scenario=scenario) as world:
        async with world.other_client(page_size=10, max_body_bytes=1_000_000) as client:
            report = await client.sync()

        assert report.outcome is outcome, report.error
        assert (report.error is None) == (outcome is not Outcome.FAILED)
        assert (await world.store.current() is None) == (outcome is Outcome.FAILED)
        # Requests that a restart cut short may not have reached the supplier.
        assert report.attempts >= len(world.simulator.requests)


EACH_FAILURE: list[tuple[dict[str, Any], str, int]] = [
    ({"fault": "status", "status": 400, "message": "Invalid group value"}, "400", 3),
    ({"fault": "status", "status": 404}, "404", 1),
    ({"fault": "status", "status": 429, "retry_after": "none"}, "429", 3),
    ({"fault": "status", "status": 500}, "500", 3),
    ({"fault": "status", "status": 502}, "502", 3),
    ({"fault": "status", "status": 504}, "504", 3),
    ({"fault": "status", "status": 503, "retry_after": "none"}, "503", 3),
    ({"fault": "html"}, "invalid_response", 2),
    ({"fault": "empty"}, "invalid_response", 2),
    ({"fault": "truncated"}, "response_ended", 3),
    ({"fault": "null_bundles"}, "invalid_response", 2),
    ({"fault": "contradiction"}, "invalid_response", 2),
    ({"fault": "bad_encoding"}, "invalid_response", 2),
    ({"fault": "reset"}, "response_ended", 3),
    ({"fault": "hang"}, "read_timeout", 3),
    ({"fault": "drip", "bytes_per_s": 100}, "attempt_timeout", 3),
    ({"fault": "gzip_bomb"}, "payload_too_large", 1),
    ({"fault": "oversized"}, "payload_too_large", 1),
]


def patience(error_type: str) -> float:
    """Timeout of an attempt in seconds: short only in tests that reach it, since a busy machine may be slow."""
    return 1.0 if error_type in {"attempt_timeout", "read_timeout"} else 20.0


@pytest.mark.parametrize(("fault", "error_type", "requests"), EACH_FAILURE, ids=lambda value: str(value)[:60])
async def test_each_failure_of_one_group_costs_only_that_group(
    world: World, fault: dict[str, Any], error_type: str, requests: int
) -> None:
    await world.sync()
    before = await world.bundles()
    victim = {"endpoint": "catalogue", "group": -1}
    world.simulator.set_scenario({"rules": [{**fault, "when": victim}]})
    async with world.other_client(attempt_timeout=patience(error_type), max_body_bytes=1_000_000) as client:
        already = len(world.simulator.requests)
        report = await client.sync()

    (failed,) = [group for group in report.groups if group.status != "ok"]
    assert report.outcome is Outcome.PARTIAL
    assert failed.status == "stale"
    assert failed.error is not None
    assert failed.error.type == error_type
    assert set(await world.bundles()) == set(before)
    seen = [entry for entry in list(world.simulator.requests)[already:] if entry.group == failed.name]
    assert len(seen) == requests


@pytest.mark.parametrize("fault", EACH_FAILURE[2:15], ids=lambda value: str(value)[:60])
async def test_each_passing_failure_is_cured_by_a_retry(world: World, fault: tuple[dict[str, Any], str, int]) -> None:
    when = {"endpoint": "catalogue", "group": -1, "attempt": 1, "page": 1}
    world.simulator.set_scenario({"rules": [{**fault[0], "when": when}]})

    async with world.other_client(attempt_timeout=patience(fault[1])) as client:
        report = await client.sync()

    assert report.outcome is Outcome.COMPLETE
    assert report.retries == 1
    assert len(await world.bundles()) == BUNDLES


async def test_an_open_circuit_lets_the_remaining_groups_fail_fast(world: World) -> None:
    await world.sync()
    before = await world.meta()
    world.simulator.set_scenario({"rules": [{"fault": "reset", "when": {"endpoint": "catalogue"}}]})
    already = len(world.simulator.requests)
    breaker = CircuitBreakerConfig(failure_threshold=2, reset_timeout=60, monitoring_period=60)

    async with world.other_client(breaker=breaker) as client:
        report = await client.sync()

    assert report.outcome is Outcome.FAILED
    # Each shows what was behind the open circuit, as far as it has met it.
    assert {group.error.type for group in report.groups if group.error} <= {"response_ended", "circuit_open"}
    assert report.error is not None
    assert report.error.type == "response_ended"
    assert len(world.simulator.requests) - already < 5 * 3
    assert (await world.meta()) == before


async def test_a_group_that_moves_between_pages_leaves_nothing_of_the_first_pass(world: World) -> None:
    async with world.other_client(page_size=10) as client:
        world.simulator.set_scenario({"rules": [{"fault": "paging_drift", "keep": 0.9, "when": {"skip": 12}}]})
        report = await client.sync()

    meta, bundles = await world.meta(), await world.bundles()
    assert report.outcome is Outcome.COMPLETE
    assert report.bundles == len(bundles) == meta.bundles < BUNDLES
