"""Which alert the end of a sync raises, and which incidents it ends."""

from __future__ import annotations

from typing import Any

import pytest

from catalog_sync.alerts import outcomes
from catalog_sync.domain.errors import (
    AuthenticationError,
    CacheAuthenticationError,
    CacheConnectionError,
    CacheWritesPausedError,
    CatalogSyncError,
    LockLostError,
    PublishRefusedError,
    SupplierUnavailableError,
)
from catalog_sync.domain.models import GroupReport, Outcome, SyncKind, SyncReport
from catalog_sync.store.errors import CacheReplyError
from catalog_sync.sync.reporting import error_info
from otel_resilience import Severity
from otel_resilience.alerting import Alert, AlertConfig, AlertService, fingerprint
from otel_resilience.testing import FakeClock
from support.sync_reports import raised, report


@pytest.mark.parametrize(
    ("error", "kind", "dependency", "severity"),
    [
        (SupplierUnavailableError("not sent"), "sync_failed", "esim-go", Severity.HIGH),
        (CacheConnectionError("gone"), "store_unavailable", "redis", Severity.HIGH),
        (AuthenticationError("refused"), "authentication", "esim-go", Severity.CRITICAL),
        (CacheAuthenticationError("NOAUTH"), "authentication", "redis", Severity.CRITICAL),
        (PublishRefusedError("too many bad rows"), "publish_refused", None, Severity.HIGH),
        (LockLostError("the lease is gone"), "lock_lost", None, Severity.HIGH),
    ],
)
def test_a_failed_sync_raises_one_alert_that_says_whose_fault_it_is(
    error: CatalogSyncError, kind: str, dependency: str | None, severity: Severity
) -> None:
    (alert,) = raised(report(Outcome.FAILED, error))
    assert (alert.kind, alert.dependency, alert.severity) == (kind, dependency, severity)
    assert alert.summary == str(error)
    assert alert.context["outcome"] == "FAILED"


def test_the_supplier_refusing_a_key_is_one_incident_per_key() -> None:
    (alert,) = raised(report(Outcome.FAILED, AuthenticationError("refused")))
    assert alert.fingerprint == fingerprint("authentication", "esim-go", "cafe")


def test_no_store_is_an_alert_about_redis() -> None:
    (alert,) = raised(report(Outcome.LOCK_UNAVAILABLE, CacheConnectionError("refused")))
    assert (alert.kind, alert.dependency) == ("store_unavailable", "redis")


@pytest.mark.parametrize("error", [CacheConnectionError("refused"), CacheWritesPausedError("OOM")])
def test_a_store_that_fails_in_mid_run_is_the_incident_of_the_runs_that_get_no_lock_afterwards(
    error: CatalogSyncError,
) -> None:
    (first,) = raised(report(Outcome.FAILED, error))
    (later,) = raised(report(Outcome.LOCK_UNAVAILABLE, error))
    assert first.fingerprint == later.fingerprint


def test_a_reply_that_concerns_what_is_stored_fails_the_sync_and_not_the_store() -> None:
    (alert,) = raised(report(Outcome.FAILED, CacheReplyError("WRONGTYPE")))
    assert alert.kind == "sync_failed"


def test_partial_syncs_are_told_when_they_repeat_and_name_the_groups() -> None:
    bad = GroupReport("Unlimited", "stale", 5, error_info(SupplierUnavailableError("no")))
    (alert,) = raised(report(Outcome.PARTIAL, groups=(GroupReport("Fixed", "ok", 5), bad)))
    assert (alert.kind, alert.threshold, alert.error_type) == ("sync_partial", 2, "circuit_open")
    assert "Unlimited" in alert.title
    assert "Fixed" not in alert.title


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.SKIPPED_LOCKED])
def test_what_went_well_raises_nothing(outcome: Outcome) -> None:
    assert raised(report(outcome)) == []


def test_a_sync_that_somebody_stopped_raises_nothing() -> None:
    info = error_info(SupplierUnavailableError("x"))
    stopped = report(Outcome.FAILED, error=None)
    object.__setattr__(stopped, "error", type(info)("cancelled", "cancelled", "LOW", "stopped", None, "ab" * 16))
    assert raised(stopped) == []


def test_an_old_catalogue_is_an_alert_of_its_own() -> None:
    kinds = [alert.kind for alert in raised(report(Outcome.PARTIAL), age=3601)]
    assert kinds == ["sync_partial", "stale_catalogue"]


class World:
    """An alert service whose only channel keeps what it is given."""

    name = "kept"
    min_interval = 0.0
    coalesce_from = None
    keeps_incidents = False

    def __init__(self) -> None:
        from otel_resilience.alerting import Route

        self.clock = FakeClock(1_700_000_000)
        self.got: list[tuple[str, str]] = []
        config = AlertConfig(group_wait=0, inhibitions=outcomes.INHIBITIONS)
        self.service = AlertService(config, [Route(self)], clock=self.clock, wall_clock=self.clock)

    def deliver(self, notification: Any, *, timeout: float) -> None:
        del timeout
        self.got.append((notification.kind, notification.status.value))

    def close(self) -> None:
        """Nothing to close."""

    def ends(self, of: SyncReport) -> list[tuple[str, str]]:
        for ending in outcomes.ended(of):
            ending.end(self.service)
        for alert in raised(of):
            self.service.report(alert)
        self.service.pump()
        self.clock.advance(120)
        got, self.got = self.got, []
        return got


def test_a_complete_sync_ends_what_earlier_ones_raised() -> None:
    world = World()
    assert world.ends(report(Outcome.FAILED, PublishRefusedError("too many bad rows"))) == [
        ("publish_refused", "firing")
    ]
    assert world.ends(report(Outcome.FAILED, PublishRefusedError("too many bad rows"))) == []
    assert world.ends(report(Outcome.COMPLETE)) == [("publish_refused", "resolved")]


def test_one_partial_sync_is_not_news_two_are_and_a_complete_one_ends_them() -> None:
    world = World()
    assert world.ends(report(Outcome.PARTIAL)) == []
    assert world.ends(report(Outcome.PARTIAL)) == [("sync_partial", "firing")]
    assert world.ends(report(Outcome.COMPLETE)) == [("sync_partial", "resolved")]
    assert world.ends(report(Outcome.PARTIAL)) == [], "the row was broken: counting begins again"


def test_a_failed_group_sync_is_not_ended_by_another_group() -> None:
    world = World()
    of: dict[str, Any] = {"kind": SyncKind.GROUP, "scope": "A"}
    assert world.ends(report(Outcome.FAILED, SupplierUnavailableError("x"), **of)) == [("sync_failed", "firing")]
    assert world.ends(report(Outcome.COMPLETE, kind=SyncKind.GROUP, scope="B")) == []
    assert world.ends(report(Outcome.COMPLETE, **of)) == [("sync_failed", "resolved")]


@pytest.mark.parametrize(
    ("kind", "asked", "again"),
    [(SyncKind.GROUP, "standardfixed", "Standard - Fixed"), (SyncKind.COUNTRY, "pt", " PT")],
)
def test_the_same_part_in_another_spelling_is_the_same_incident(kind: SyncKind, asked: str, again: str) -> None:
    world = World()
    failed = SupplierUnavailableError("x")
    assert world.ends(report(Outcome.FAILED, failed, kind=kind, scope=asked)) == [("sync_failed", "firing")]
    assert world.ends(report(Outcome.FAILED, failed, kind=kind, scope=again)) == []
    assert world.ends(report(Outcome.COMPLETE, kind=kind, scope=again)) == [("sync_failed", "resolved")]


def test_bundles_whose_names_differ_in_case_are_two() -> None:
    world = World()
    asked: dict[str, Any] = {"kind": SyncKind.BUNDLE, "scope": "esim_1GB"}
    assert world.ends(report(Outcome.FAILED, SupplierUnavailableError("x"), **asked)) == [("sync_failed", "firing")]
    assert world.ends(report(Outcome.COMPLETE, kind=SyncKind.BUNDLE, scope="esim_1gb")) == []
    assert world.ends(report(Outcome.COMPLETE, **asked)) == [("sync_failed", "resolved")]


def test_an_open_circuit_silences_the_failed_sync_that_it_causes() -> None:
    world = World()
    world.service.report(Alert(kind="circuit_breaker", title="down", severity=Severity.HIGH, dependency="esim-go"))
    assert world.ends(report(Outcome.FAILED, SupplierUnavailableError("x"))) == [("circuit_breaker", "firing")]
    assert world.ends(report(Outcome.COMPLETE)) == [("circuit_breaker", "resolved")]


def test_a_refused_key_is_told_although_the_supplier_is_known_to_be_down() -> None:
    world = World()
    world.ends(report(Outcome.FAILED, SupplierUnavailableError("x")))
    assert world.ends(report(Outcome.FAILED, AuthenticationError("no"))) == [("authentication", "firing")]
