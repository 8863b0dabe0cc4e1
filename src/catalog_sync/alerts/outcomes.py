"""The consequences of a sync's outcome for alerting: the alert that it raises, and the incidents that it ends. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.countries import country_code
from catalog_sync.domain.errors import STORE, SUPPLIER
from catalog_sync.domain.groups import same_spelling
from catalog_sync.domain.models import Outcome, SyncKind
from otel_resilience import Severity
from otel_resilience.alerting import Alert, Inhibition, fingerprint
from otel_resilience.alerting.model.alert import format_duration
from otel_resilience.alerting.sources import AUTHENTICATION, CIRCUIT_BREAKER, CONTRACT_DRIFT, CRITICAL_ERROR, ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog_sync.domain.models import ErrorInfo, SyncReport
    from otel_resilience.alerting import AlertService
    from otel_resilience.alerting.model.alert import Scalar

SYNC_FAILED: Final = "sync_failed"
SYNC_PARTIAL: Final = "sync_partial"
PUBLISH_REFUSED: Final = "publish_refused"
LOCK_LOST: Final = "lock_lost"
STORE_UNAVAILABLE: Final = "store_unavailable"
STALE: Final = "stale_catalogue"

KINDS: Final = (AUTHENTICATION, SYNC_FAILED, SYNC_PARTIAL, PUBLISH_REFUSED, LOCK_LOST, STORE_UNAVAILABLE, STALE)
"""Kinds of alerts that the application adds to those of the library."""

NAMES: Final = {SUPPLIER: "eSIM Go", STORE: "Redis"}
"""The names that people know our dependencies by."""

_ENDED_BY_A_FULL_SYNC: Final = frozenset({SYNC_FAILED, SYNC_PARTIAL, PUBLISH_REFUSED, LOCK_LOST, STALE})
"""Whatever their scope: a full sync reads and publishes everything that a scoped one would."""

_OF_A_SYNC: Final = frozenset({SYNC_FAILED, SYNC_PARTIAL, STALE, STORE_UNAVAILABLE})
INHIBITIONS: Final = (
    Inhibition(frozenset({CIRCUIT_BREAKER, AUTHENTICATION, CRITICAL_ERROR, CONTRACT_DRIFT}), _OF_A_SYNC | {ERRORS}),
    Inhibition(frozenset({SYNC_FAILED, STORE_UNAVAILABLE}), frozenset({CIRCUIT_BREAKER, ERRORS, STALE})),
)
"""An outage is one incident, whether it is first noticed by the circuit breaker or by the end of a sync."""

STREAK_WINDOW: Final = 7 * 86_400.0
"""Seconds within which PARTIAL syncs count as repeated."""

_AUTHENTICATION_TYPES: Final = frozenset({"401", "403", "redis_auth"})
_STORE_CLASSES: Final = frozenset({"transient", "transient_slow"})
"""Unreachable, or accepting no writes; other errors concern the stored data."""
_OWN_KINDS: Final = {"publish_refused": PUBLISH_REFUSED, "lock_lost": LOCK_LOST}
_TITLES: Final = {
    SYNC_FAILED: "The catalogue sync failed: {type}",
    PUBLISH_REFUSED: "A guard refused to publish the catalogue",
    LOCK_LOST: "A catalogue sync lost its lock",
    STORE_UNAVAILABLE: "The catalogue's store cannot be used: {type}",
    AUTHENTICATION: "{dependency} refuses our credentials ({type})",
}


@dataclasses.dataclass(frozen=True, slots=True)
class ResolvedIncident:
    """Incidents that have ended."""

    fingerprint: str | None = None
    dependency: str | None = None
    """All incidents of this dependency."""
    kinds: frozenset[str] | None = None
    """All incidents of these kinds; if a dependency is given, only those of it."""

    def end(self, service: AlertService) -> None:
        """Ends them, whichever process opened them."""
        if self.fingerprint is not None:
            service.resolve_fingerprint(self.fingerprint, certain=True)
        elif self.dependency is not None:
            service.resolve_dependency(self.dependency, kinds=self.kinds, certain=True)
        elif self.kinds is not None:
            service.resolve_kinds(self.kinds, certain=True)


def raised(
    report: SyncReport, *, age: float | None, stale_after: float, partial_threshold: int, credential: str | None
) -> Iterator[Alert]:
    """The alerts for this report. ``age``: seconds since readers' data was fetched, ``None`` if there is none."""
    if report.outcome is Outcome.FAILED and report.error is not None and not _is_harmless(report):
        yield _failed(report, report.error, credential)
    elif report.outcome is Outcome.LOCK_UNAVAILABLE and report.error is not None:
        yield _failed(report, report.error, credential, STORE_UNAVAILABLE)
    elif report.outcome is Outcome.PARTIAL:
        yield _partial(report, partial_threshold)
    if age is not None and age > stale_after:
        yield _stale(report, age)


def ended(report: SyncReport, *, age: float | None = None, stale_after: float = 0.0) -> Iterator[ResolvedIncident]:
    """The incidents that this report proves to have ended, whichever process saw them start. Takes the same arguments
    as :func:`raised`."""
    whole = report.kind is SyncKind.FULL
    worked = report.outcome in {Outcome.COMPLETE, Outcome.PARTIAL}
    if report.outcome is Outcome.COMPLETE:
        yield ResolvedIncident(fingerprint=fingerprint(SYNC_FAILED, SUPPLIER, *_scope(report)))
        if whole:
            yield ResolvedIncident(dependency=SUPPLIER)
            yield ResolvedIncident(kinds=_ENDED_BY_A_FULL_SYNC)
    if worked:
        yield ResolvedIncident(dependency=STORE)
        for kind, dependency in ((LOCK_LOST, None), (STALE, SUPPLIER)):
            if whole or kind is LOCK_LOST:
                yield ResolvedIncident(fingerprint=fingerprint(kind, dependency))
        for dependency in (SUPPLIER, STORE, None):
            yield ResolvedIncident(fingerprint=fingerprint(SYNC_FAILED, dependency, *_scope(report)))
        yield ResolvedIncident(fingerprint=fingerprint(PUBLISH_REFUSED, None, *_scope(report)))
    if report.outcome is Outcome.COMPLETE or (worked and any(group.status == "ok" for group in report.groups)):
        yield ResolvedIncident(dependency=SUPPLIER, kinds=frozenset({AUTHENTICATION}))
    if report.outcome is Outcome.SKIPPED_LOCKED:
        yield ResolvedIncident(dependency=STORE, kinds=frozenset({STORE_UNAVAILABLE}))
    if age is not None and age <= stale_after:
        yield ResolvedIncident(kinds=frozenset({STALE}))


def _is_harmless(report: SyncReport) -> bool:
    """The sync was stopped, or asked for a scope that does not exist: the report says so, and no alert is raised."""
    return report.unknown_scope or (report.error is not None and report.error.error_class == "cancelled")


def _failed(report: SyncReport, error: ErrorInfo, credential: str | None, kind: str | None = None) -> Alert:
    dependency = STORE if kind is STORE_UNAVAILABLE else error.dependency
    severity = max(Severity(error.severity), Severity.HIGH)
    own = _OWN_KINDS.get(error.type)
    parts = _scope(report)
    if kind is None and dependency == STORE and error.error_class in _STORE_CLASSES:
        kind = STORE_UNAVAILABLE  # gone or full in mid-run: the next run, which gets no lock, must not report it again
    if error.type in _AUTHENTICATION_TYPES and severity is Severity.CRITICAL:
        kind, parts = AUTHENTICATION, (credential,) if credential is not None and dependency == SUPPLIER else ()
    elif own is not None:
        kind, dependency, severity = own, None, Severity.HIGH
        parts = () if own is LOCK_LOST else parts
    elif kind is None:
        kind = SYNC_FAILED
    else:
        parts = ()
    return Alert(
        kind=kind,
        title=_TITLES[kind].format(type=error.type, dependency=NAMES.get(dependency or "", dependency)),
        severity=severity,
        summary=error.message,
        dependency=dependency,
        error_type=error.type,
        error_class=error.error_class,
        fingerprint_by=parts,
        context=_context(report),
    )


def _partial(report: SyncReport, threshold: int) -> Alert:
    bad = [group for group in report.groups if group.status != "ok"]
    names = ", ".join(group.name for group in bad) or "the list of groups"
    worst = next((group.error for group in bad if group.error is not None), report.error)
    return Alert(
        kind=SYNC_PARTIAL,
        title=f"The catalogue is only partly renewed: {names}",
        severity=Severity.HIGH,
        summary=f"{threshold} syncs in a row left groups out; readers get their last good data."
        if threshold > 1
        else "A sync left groups out; readers get their last good data.",
        dependency=SUPPLIER,
        error_type=None if worst is None else worst.type,
        error_class=None if worst is None else worst.error_class,
        context=_context(report),
        threshold=threshold,
        window=STREAK_WINDOW,
    )


def _stale(report: SyncReport, age: float) -> Alert:
    return Alert(
        kind=STALE,
        title=f"The catalogue is stale: {format_duration(age)} old",
        severity=Severity.HIGH,
        summary="Readers are served data that is marked as stale.",
        dependency=SUPPLIER,
        error_type="catalog_too_old",
        context={**_context(report), "age_s": round(age)},
    )


def _scope(report: SyncReport) -> tuple[str, ...]:
    """The part that was synced, in one spelling however it was asked for; a bundle's name has no other."""
    if report.scope is None:
        return ()
    spell = {SyncKind.GROUP: same_spelling, SyncKind.COUNTRY: country_code}.get(report.kind, str)
    return report.kind.value, spell(report.scope)


def _context(report: SyncReport) -> dict[str, Scalar]:
    bad = [
        f"{group.name} ({group.error.type if group.error else group.status})"
        for group in report.groups
        if group.status != "ok"
    ]
    context: dict[str, Scalar] = {
        "outcome": report.outcome.value,
        "kind": report.kind.value,
        "version": report.version,
        "bundles": report.bundles,
        "attempts": report.attempts,
        "retries": report.retries,
        "duration_s": round(report.duration_s, 3),
    }
    if report.scope is not None:
        context["scope"] = report.scope
    if bad:
        context["groups_not_ok"] = ", ".join(bad)
    return context
