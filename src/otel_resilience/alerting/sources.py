"""Turns what the policies report into alerts: classified errors by their thresholds, transitions of breakers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Final, NamedTuple

from otel_resilience._internal import validation as check
from otel_resilience._internal.foreign import is_a, text_of
from otel_resilience.alerting import telemetry as signals
from otel_resilience.alerting.delivery.dispatch import DEPENDENCY_PREFIX
from otel_resilience.alerting.model.alert import Alert, Scalar
from otel_resilience.alerting.model.book import RecoverySign
from otel_resilience.alerting.model.config import Thresholds
from otel_resilience.alerting.model.incident import Incident, Phase
from otel_resilience.alerting.service import AlertService
from otel_resilience.circuitbreaker.breaker import CircuitBreaker
from otel_resilience.circuitbreaker.config import CircuitBreakerMetrics
from otel_resilience.circuitbreaker.states import BreakerState, Transition
from otel_resilience.classification.model import Classification, Severity
from otel_resilience.errors import CircuitOpenError
from otel_resilience.telemetry.gauges import living_breakers
from otel_resilience.telemetry.hooks import await_success, subscribe, unsubscribe

CIRCUIT_BREAKER: Final = "circuit_breaker"
AUTHENTICATION: Final = "authentication"
CONTRACT_DRIFT: Final = "contract_drift"
ERRORS: Final = "errors"
CRITICAL_ERROR: Final = "critical_error"

AUTHENTICATION_TYPES: Final = frozenset({"401", "403", "407", "redis_auth"})
"""``error.type`` values that mean refused credentials if the error is CRITICAL."""
DRIFT_TYPES: Final = frozenset({"schema_mismatch"})

FAILING: Final = 0.5
"""Failure ratio from which on a closed circuit, such as that of a new process, is not a sign of recovery."""

_ENDED_BY_SUCCESS: Final = frozenset({AUTHENTICATION, CRITICAL_ERROR, CONTRACT_DRIFT})
_OPEN: Final = frozenset({BreakerState.OPEN, BreakerState.FORCED_OPEN})


class _Awaited(NamedTuple):
    fingerprint: str
    operation: str | None
    """If set, only a success of this operation counts; ``None``: any."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """How reports become alerts. Raises ``TypeError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import SourceConfig
        >>> config = SourceConfig(breaker_severity=Severity.CRITICAL, titles={"supplier": "the eSIM supplier"})
    """

    thresholds: Thresholds = dataclasses.field(default_factory=Thresholds)
    """How many errors raise an alert."""
    breaker_severity: Severity = Severity.HIGH
    """Severity of the alert about an open circuit."""
    credentials: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By dependency, a name for the credential in use that is not itself secret, such as the start of its hash: each
    refused credential makes its own incident."""
    ignored_error_types: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    """By dependency, ``error.type`` values that raise no alert: the application reports them itself."""
    titles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By dependency, the name that people know it by."""

    def __post_init__(self) -> None:
        check.instance("thresholds", self.thresholds, Thresholds)
        check.instance("breaker_severity", self.breaker_severity, Severity)
        for name in ("credentials", "ignored_error_types", "titles"):
            check.instance(name, getattr(self, name), Mapping)


class ResilienceSource:
    """Observes policies and breakers, and feeds an alert service. A context manager: subscribed within its block.

    It ends what it opens, even if another process opened it: an open circuit when a breaker is closed, refused
    credentials, CRITICAL errors and contract drift when a call succeeds.

    Raises ``TypeError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import AlertConfig, AlertService, ResilienceSource
        >>> service = AlertService(AlertConfig(), [])
        >>> breaker = CircuitBreaker("supplier")
        >>> with ResilienceSource(service):
        ...     breaker.force_open()
        ...     [incident.kind for incident in service.incidents()]
        ['circuit_breaker']
    """

    def __init__(self, service: AlertService, config: SourceConfig | None = None) -> None:
        check.instance("service", service, AlertService)
        check.instance("config", config, SourceConfig, NoneType)
        self._service = service
        self._config = config or SourceConfig()
        self._awaited: dict[str, list[_Awaited]] = {}
        """By dependency: incidents that a success ends."""
        self._forget: Callable[[], None] = lambda: None

    def __enter__(self) -> ResilienceSource:
        """Subscribes, and compares open incidents with the breakers of this process."""
        subscribe(self)
        self._forget = self._service.check_with(self._compare_with_breakers)
        self._compare_with_breakers()
        return self

    def __exit__(self, *_: object) -> None:
        self._compare_with_breakers()
        self._forget()
        self._awaited = {}
        await_success(self, frozenset())
        unsubscribe(self)

    def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
        """A failed attempt counts against the threshold of its severity."""
        if dependency.startswith(DEPENDENCY_PREFIX) or is_a(error, CircuitOpenError):
            return
        if verdict.error_type in self._config.ignored_error_types.get(dependency, ()):
            return
        threshold = self._config.thresholds.by_severity.get(verdict.severity)
        if verdict.error_type in DRIFT_TYPES and verdict.severity < Severity.CRITICAL:
            self._service.report(self.drift(dependency, operation, verdict, error))
        elif threshold is None:
            return
        elif verdict.severity < self._service.config.min_severity:
            signals.suppressed("below_severity")
        elif verdict.severity is Severity.CRITICAL:
            self._service.report(self.critical(dependency, operation, verdict, error))
        else:
            self._service.report(self._frequent(dependency, operation, verdict, error, threshold))

    def on_transition(self, dependency: str, transition: Transition) -> None:
        """An open circuit is an incident until it has been closed for a while."""
        if dependency.startswith(DEPENDENCY_PREFIX):
            return
        if transition.target in _OPEN:
            self._service.report(self._opened(dependency, transition))
        elif transition.target is BreakerState.CLOSED:
            self._service.resolve(CIRCUIT_BREAKER, dependency)

    def on_success(self, dependency: str, operation: str) -> None:
        """A sign of recovery for the incidents that wait for it."""
        for awaited in self._awaited.get(dependency, ()):
            if awaited.operation in (None, operation):
                self._service.note(RecoverySign(at=self._service.now(), fingerprint=awaited.fingerprint))
                self._await([each for each in self._service.incidents() if each.fingerprint != awaited.fingerprint])

    def _compare_with_breakers(self) -> None:
        """Compares the open incidents, whichever process opened them, with the state in this process."""
        incidents = [each for each in self._service.incidents() if each.phase is Phase.OPEN]
        for incident in incidents:
            if incident.kind == CIRCUIT_BREAKER and incident.dependency is not None:
                self._look_at_circuit(incident, incident.dependency)
        self._await(incidents)

    def _look_at_circuit(self, incident: Incident, dependency: str) -> None:
        breakers = [each for each in living_breakers() if isinstance(each, CircuitBreaker)]
        known = [breaker.metrics() for breaker in breakers if breaker.dependency == dependency]
        if any(each.state in _OPEN or (each.calls and each.failure_rate >= FAILING) for each in known):
            self._service.mark_ongoing(CIRCUIT_BREAKER, dependency)
        elif incident.calm_since is None and known and all(_is_well(each) for each in known):
            self._service.resolve(CIRCUIT_BREAKER, dependency)

    def _await(self, incidents: Iterable[Incident]) -> None:
        awaited: dict[str, list[_Awaited]] = {}
        for each in incidents:
            goes_on = each.phase is Phase.OPEN and each.calm_since is None
            if each.kind in _ENDED_BY_SUCCESS and each.dependency and goes_on:
                bound = each.kind == CONTRACT_DRIFT or each.alert.error_type == "403"
                operation = each.alert.context.get("operation") if bound else None
                name = None if operation is None else str(operation)
                awaited.setdefault(each.dependency, []).append(_Awaited(each.fingerprint, name))
        self._awaited = awaited
        await_success(self, frozenset(awaited))

    def critical(self, dependency: str, operation: str, verdict: Classification, error: BaseException | str) -> Alert:
        """The alert for a CRITICAL error: notified at once, once per credential or per ``error.type``."""
        name, error_type = self._name(dependency), verdict.error_type
        context: dict[str, Scalar] = {"operation": operation}
        parts: tuple[str, ...] = (error_type,)
        if error_type in AUTHENTICATION_TYPES:
            kind, title, parts = AUTHENTICATION, f"{name} refuses our credentials ({error_type})", ()
            if dependency in self._config.credentials:
                context["identity"] = credential = self._config.credentials[dependency]
                parts = (credential,)
        else:
            kind, title = CRITICAL_ERROR, f"{name}: {error_type}"
        return Alert(
            kind=kind,
            title=title,
            severity=Severity.CRITICAL,
            summary=f"{operation}: {text_of(error)}",
            dependency=dependency,
            error_type=error_type,
            error_class=verdict.error_class.value,
            fingerprint_by=parts,
            context=context,
        )

    def drift(self, dependency: str, operation: str, verdict: Classification, error: BaseException | str) -> Alert:
        """The alert for responses that no longer have the agreed format: one per operation."""
        return Alert(
            kind=CONTRACT_DRIFT,
            title=f"{self._name(dependency)}: unexpected response schema: {operation}",
            severity=max(verdict.severity, Severity.HIGH),
            summary=text_of(error),
            dependency=dependency,
            error_type=verdict.error_type,
            error_class=verdict.error_class.value,
            fingerprint_by=(operation,),
            context={"operation": operation},
        )

    def _frequent(
        self, dependency: str, operation: str, verdict: Classification, error: BaseException, threshold: int
    ) -> Alert:
        window = self._config.thresholds.window
        return Alert(
            kind=ERRORS,
            title=f"{self._name(dependency)} keeps failing",
            severity=verdict.severity,
            summary=(
                f"At least {threshold} {verdict.severity} errors within {window:g} s; {operation}: {text_of(error)}"
            ),
            dependency=dependency,
            error_type=verdict.error_type,
            error_class=verdict.error_class.value,
            context={"operation": operation},
            threshold=threshold,
            window=window,
            quiet_after=self._service.config.keep_firing,
        )

    def _opened(self, dependency: str, transition: Transition) -> Alert:
        reason = transition.reason.value.replace("_", " ")
        lasts = "" if transition.open_for is None else f" A probe may pass in {transition.open_for:.0f} s."
        return Alert(
            kind=CIRCUIT_BREAKER,
            title=f"{self._name(dependency)} is down: the circuit is open",
            severity=self._config.breaker_severity,
            summary=f"{transition.failures} of {transition.calls} calls in the window failed ({reason}).{lasts}",
            dependency=dependency,
            error_type=transition.error_type,
            context={
                "from": transition.source.value,
                "to": transition.target.value,
                "reason": transition.reason.value,
                "failures": transition.failures,
                "calls": transition.calls,
            },
        )

    def _name(self, dependency: str) -> str:
        return self._config.titles.get(dependency, dependency)


def _is_well(breaker: CircuitBreakerMetrics) -> bool:
    return breaker.state is BreakerState.CLOSED and breaker.consecutive_failures == 0
