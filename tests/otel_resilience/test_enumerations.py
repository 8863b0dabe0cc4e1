"""Names that are members of an enumeration: the value is the name, wherever it is shown."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from otel_resilience import (
    CircuitBreaker,
    CircuitOpenError,
    Classification,
    ErrorClass,
    Policy,
    PolicyRegistry,
    RetryBudget,
    RetryService,
    Severity,
)
from otel_resilience.alerting import Alert, AlertConfig, Silence
from otel_resilience.storage import MemoryStorage, SharedState
from otel_resilience.testing import RecordedTelemetry


class Supplier(str, enum.Enum):  # noqa: UP042  # as it is often written; its text is that of the member
    ESIM = "esim go"


class Operation(str, enum.Enum):  # noqa: UP042  # as above
    LIST = "list plans"


class Other(enum.StrEnum):
    ESIM = "esim go"


@pytest.mark.parametrize("dependency", [Supplier.ESIM, Other.ESIM])
def test_telemetry_has_the_value(dependency: Any) -> None:
    with RecordedTelemetry().recording() as recorded:
        policy = Policy(dependency)
        policy.execute(lambda: "value", name=Operation.LIST)
        for attempt in policy.attempts(name=Operation.LIST):
            with attempt:
                pass
        policy.decorator(name=Operation.LIST)(lambda: "value")()
    calls = [span for span in recorded.spans if span.name != "attempt"]
    assert {span.name for span in calls} == {"esim go list plans"}
    assert all(type(value) is not Operation for span in calls for value in (span.attributes or {}).values())


class Trouble(str, enum.Enum):  # noqa: UP042  # as above
    STOCK = "out_of_stock"


def test_verdicts_and_alerts_have_the_value() -> None:
    verdict = Classification(ErrorClass.TRANSIENT, Severity.LOW, Trouble.STOCK)
    assert type(verdict.error_type) is type(verdict.replace(error_type=Trouble.STOCK).error_type) is str
    alert = Alert(kind=Trouble.STOCK, title="No stock", severity=Severity.HIGH, error_type=Trouble.STOCK)
    assert (f"{alert.kind}", f"{alert.error_type}") == ("out_of_stock", "out_of_stock")
    assert Silence(kind=Trouble.STOCK).matches(alert)
    config = AlertConfig(service=Supplier.ESIM, environment=Supplier.ESIM)
    assert [f"{name}" for name in config.owner] == ["esim go", "esim go"]


def test_errors_say_the_value() -> None:
    breaker = CircuitBreaker(Supplier.ESIM)
    breaker.force_open()
    with pytest.raises(CircuitOpenError, match="the circuit of esim go was forced open") as rejection:
        breaker.execute(lambda: "value")
    assert type(rejection.value.dependency) is str


def test_state_is_shared_with_those_that_write_the_value() -> None:
    shared = SharedState(MemoryStorage())
    one, other = (Policy(name, breaker=CircuitBreaker(name), shared=shared) for name in (Supplier.ESIM, "esim go"))
    assert shared.key(one.dependency) == shared.key(other.dependency)
    assert RetryBudget.for_dependency(Supplier.ESIM) is RetryBudget.for_dependency("esim go")
    assert RetryService(Supplier.ESIM).dependency == "esim go"
    assert SharedState(MemoryStorage(), scope=Supplier.ESIM).key("plans") == "plans@esim go"
    policies = PolicyRegistry(Policy)
    assert policies[Supplier.ESIM] is policies["esim go"]
