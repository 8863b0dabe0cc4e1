"""A group, country or bundle that does not exist is the caller's mistake, not a failed sync."""

from __future__ import annotations

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import StatusCode

from catalog_sync.alerts.outcomes import raised
from catalog_sync.domain.countries import COUNTRIES
from catalog_sync.domain.errors import UnknownScopeError
from catalog_sync.domain.groups import GroupNames
from catalog_sync.domain.index import Filter
from catalog_sync.domain.models import Outcome, SyncKind, SyncRequest
from catalog_sync.observability import instruments
from catalog_sync.sync.scopes import KnownScopes, check_scope, known_scopes
from otel_resilience import Severity
from otel_resilience.testing import RecordedTelemetry
from support.redis_server import RedisServer
from support.sync_world import BUNDLES, World

KNOWN = KnownScopes(("Standard - Fixed", "Standard - Unlimited Lite"), ("PT", "QX"))


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        (SyncKind.GROUP, "Standard - Fixed"),
        (SyncKind.GROUP, "standardfixed"),
        (SyncKind.GROUP, " STANDARD_FIXED "),
        (SyncKind.COUNTRY, "pt"),
        (SyncKind.COUNTRY, " AQ "),
        (SyncKind.COUNTRY, "us-hi"),
        (SyncKind.COUNTRY, "cyp"),
        (SyncKind.COUNTRY, "QX"),
        (SyncKind.BUNDLE, "esim_new_at_the_supplier"),
    ],
)
def test_what_may_exist_passes(kind: SyncKind, scope: str) -> None:
    check_scope(SyncRequest(kind, scope), KNOWN)
    check_scope(SyncRequest(), KNOWN)


@pytest.mark.fault("A3")
@pytest.mark.parametrize(
    ("kind", "scope", "nearest"),
    [
        (SyncKind.GROUP, "Standard - Fixd", "'Standard - Fixed'"),
        (SyncKind.GROUP, "Regional", "there are: 'Standard - Fixed', 'Standard - Unlimited Lite'"),
        (SyncKind.COUNTRY, "Portugal", "PT (Portugal)"),
        (SyncKind.COUNTRY, "portugall", "PT (Portugal)"),
        (SyncKind.COUNTRY, "PRT", "PT (Portugal)"),
        (SyncKind.COUNTRY, "ZZ", "ISO 3166-1 alpha-2"),
        (SyncKind.COUNTRY, "P T", "PT (Portugal)"),
        (SyncKind.COUNTRY, "\u00df", "ISO 3166-1 alpha-2"),
        (SyncKind.BUNDLE, "..", "cannot be the name of a bundle"),
        (SyncKind.BUNDLE, ".", "cannot be"),
        (SyncKind.BUNDLE, " ", "cannot be"),
        (SyncKind.BUNDLE, "a\x00b", "cannot be"),
        (SyncKind.GROUP, "half \ud83d", "cannot be"),
        (SyncKind.GROUP, "a\nb", "cannot be"),
    ],
)
@pytest.mark.fault("S9")
def test_a_typo_is_refused_with_the_nearest_names(kind: SyncKind, scope: str, nearest: str) -> None:
    with pytest.raises(UnknownScopeError) as caught:
        check_scope(SyncRequest(kind, scope), KNOWN)
    assert nearest in str(caught.value)
    assert str(caught.value).encode()
    assert caught.value.severity is Severity.LOW


def test_without_a_catalogue_a_group_may_be_any_and_a_country_is_an_iso_code() -> None:
    check_scope(SyncRequest(SyncKind.GROUP, "anything"), None)
    check_scope(SyncRequest(SyncKind.COUNTRY, "PT"), None)
    with pytest.raises(UnknownScopeError):
        check_scope(SyncRequest(SyncKind.COUNTRY, "QX"), None)


def test_the_codes_are_those_of_iso_3166_and_of_the_supplier() -> None:
    assert len(COUNTRIES) == 249 + 6
    assert COUNTRIES["CI"] == "C\u00f4te d'Ivoire"
    assert all(code == code.strip().upper() and name == name.strip() for code, name in COUNTRIES.items())


@pytest.mark.parametrize("asked", ["standardfixed", "STANDARD FIXED", "standard_-_fixed", "Standard\u2013Fixed"])
@pytest.mark.fault("S9")
def test_sync_and_search_have_one_rule_of_spelling(asked: str) -> None:
    assert GroupNames(["Standard - Fixed"]).listed(asked) == "Standard - Fixed"
    assert Filter(group=asked).accepts("groups", "Standard - Fixed")


def test_a_listed_name_means_itself_even_if_another_is_spelled_alike() -> None:
    names = GroupNames(["Fixed", "FIXED", "fix-ed"])
    assert [names.listed(name) for name in ("Fixed", "FIXED", "fix-ed", "fixed")] == [
        "Fixed",
        "FIXED",
        "fix-ed",
        "Fixed",
    ]
    assert names.all() == {"Fixed", "FIXED", "fix-ed"}


async def test_what_is_known_comes_from_the_store_or_the_snapshot(world: World, redis_server: RedisServer) -> None:
    assert await known_scopes(world.store, world.snapshot) is None
    await world.sync()
    in_store = await known_scopes(world.store, world.snapshot)
    redis_server.command("FLUSHALL")
    in_snapshot = await known_scopes(world.store, world.snapshot)
    assert in_store is not None
    assert in_snapshot is not None
    assert set(in_store.groups) == set(in_snapshot.groups)
    assert set(in_store.countries) == set(in_snapshot.countries) > {"PT"}


@pytest.mark.fault("A3")
@pytest.mark.parametrize(
    ("kind", "scope", "hint"),
    [
        (SyncKind.GROUP, "Standard - Fixd", "'Standard - Fixed'"),
        (SyncKind.COUNTRY, "AQ", "country AQ"),
        (SyncKind.BUNDLE, "esim_typo", "neither the supplier nor the catalogue"),
    ],
)
async def test_what_only_the_supplier_could_know_is_neither_published_nor_counted_nor_paged(
    world: World, kind: SyncKind, scope: str, hint: str
) -> None:
    await world.sync()
    before = await world.meta()
    recorded = RecordedTelemetry()
    with instruments.use_providers(
        tracer_provider=recorded.tracer_provider,
        meter_provider=recorded.meter_provider,
        logger_provider=recorded.logger_provider,
    ):
        report = await world.sync(kind, scope)

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.severity == "LOW"
    assert hint in report.error.message
    assert await world.meta() == before
    assert recorded.points("catalog.sync.duration") == []
    [span] = [span for span in recorded.spans if span.name == "catalog.sync"]
    assert span.status.status_code is StatusCode.UNSET
    [event] = [e.log_record for e in recorded.events if e.log_record.event_name == "catalog.sync.finished"]
    assert event.severity_number is SeverityNumber.WARN
    assert not list(raised(report, age=1.0, stale_after=86_400.0, partial_threshold=3, credential=None))


async def test_a_bundle_that_is_new_at_the_supplier_is_taken_up(world: World) -> None:
    await world.sync()
    name = sorted(await world.bundles())[3]
    world.simulator.edit_catalogue(withdraw=[name])
    await world.sync(SyncKind.BUNDLE, name)
    assert name not in await world.bundles()
    world.simulator.reset()

    report = await world.sync(SyncKind.BUNDLE, name)

    assert (report.outcome, report.bundles) == (Outcome.COMPLETE, BUNDLES)


async def test_the_nearest_bundles_are_named(world: World) -> None:
    await world.sync()
    name = sorted(await world.bundles())[3]
    report = await world.sync(SyncKind.BUNDLE, name + "x")
    assert report.error is not None
    assert repr(name) in report.error.message
