"""Arguments of the alert service are checked where they are passed, and the message names the parameter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_resilience import Severity
from otel_resilience.alerting import (
    Alert,
    AlertConfig,
    AlertService,
    DeliveryConfig,
    DiskStore,
    EscalationStep,
    Inhibition,
    MemoryStore,
    Outbox,
    ResilienceSource,
    Route,
    Silence,
    SourceConfig,
    Thresholds,
)
from otel_resilience.alerting.channels import (
    EmailChannel,
    LogChannel,
    OpsgenieChannel,
    PagerDutyChannel,
    SlackChannel,
    WebhookChannel,
    from_url,
)

ALERT = Alert(kind="trouble", title="Trouble", severity=Severity.HIGH)
GOOD: list[Any] = [
    ALERT, AlertConfig(), DeliveryConfig(), EscalationStep(after=60.0), Inhibition(frozenset({"a"}), frozenset({"b"})),
    Route(LogChannel()), Silence(kind="trouble"), SourceConfig(), Thresholds(),
]  # fmt: skip
WRONG: list[Any] = [object(), b"x", {"x": 1}, float("nan"), ["x"], Severity]
HOLDS_TEXTS = ("channels", "causes", "consequences", "fingerprint_by")
MAPS_TEXTS = ("context", "credentials", "ignored_error_types", "titles")


def wrong_values(name: str) -> list[Any]:
    """Values that a parameter of that name cannot have."""
    allowed = list if name in HOLDS_TEXTS else dict if name in MAPS_TEXTS else ()
    return [value for value in WRONG if not isinstance(value, allowed)]


@pytest.mark.fault("L17")
@pytest.mark.parametrize(
    ("good", "name"),
    [
        pytest.param(good, field.name, id=f"{type(good).__name__}.{field.name}")
        for good in GOOD
        for field in dataclasses.fields(good)
    ],
)
def test_a_value_of_a_wrong_type_is_refused_by_name(good: Any, name: str) -> None:
    for value in wrong_values(name):
        with pytest.raises((TypeError, ValueError), match=name):
            dataclasses.replace(good, **{name: value})


@pytest.mark.fault("L20")
@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (AlertConfig(), {"group_wait": 0.0, "silences": (Silence(kind="x"),), "min_severity": Severity.LOW}),
        (AlertConfig(escalation=()), {"rate_limit": 1.0}),
        (EscalationStep(after=60.0), {"after": None, "returns": 2}),
        (Silence(kind="x"), {"kind": None, "dependency": "d"}),
        (Thresholds(), {"window": 5.0}),
        (DeliveryConfig(), {"per_minute": 5}),
        (Route(LogChannel()), {"only": frozenset({Severity.HIGH})}),
        (ALERT, {"severity": Severity.LOW, "threshold": 5}),
    ],
)
def test_a_copy_with_changes_has_what_is_written(config: Any, changes: dict[str, Any]) -> None:
    copy = dataclasses.replace(config, **changes)
    for field in dataclasses.fields(config):
        assert getattr(copy, field.name) == changes.get(field.name, getattr(config, field.name))


@pytest.mark.fault("L17")
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"config": None}, "config"),
        ({"routes": "webhook"}, "routes"),
        ({"routes": [LogChannel()]}, "routes"),
        ({"delivery": 5}, "delivery"),
        ({"outbox": "folder"}, "outbox"),
        ({"store": "redis://"}, "store"),
        ({"store": MemoryStore}, "store"),
        ({"clock": 5}, "clock"),
        ({"on_receipt": 5}, "on_receipt"),
    ],
)
def test_a_wrong_part_of_the_service_is_refused_by_name(options: dict[str, Any], name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must "):
        AlertService(**{"config": AlertConfig(), "routes": [], **options})


@pytest.mark.fault("L17")
@pytest.mark.parametrize("make", [Outbox, DiskStore])
def test_a_folder_may_be_a_text_and_is_nothing_else(make: Callable[[Any], Any], tmp_path: Path) -> None:
    service = AlertService(AlertConfig(), [], **{"outbox" if make is Outbox else "store": make(str(tmp_path))})
    service.report(ALERT)
    service.pump()
    service.close()
    assert list(tmp_path.rglob("*.json"))
    with pytest.raises(TypeError, match=r"^folder must be a Path or str, not 5$"):
        make(5)


@pytest.mark.fault("L17")
def test_an_alert_where_its_kind_belongs_is_refused_by_name() -> None:
    service = AlertService(AlertConfig(), [])
    with pytest.raises(TypeError, match=r"^kind must be a string"):
        service.resolve(ALERT)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match=r"^dependency must be a string"):
        service.resolve_dependency(None)  # type: ignore[arg-type]  # which would be all incidents
    with pytest.raises(TypeError, match=r"^service must be an AlertService"):
        ResilienceSource(None)  # type: ignore[arg-type]  # on purpose


@pytest.mark.fault("L17")
@pytest.mark.parametrize("value", [None, b"https://hooks.example/hunter2", ["hunter2"], 5])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (SlackChannel, "url"),
        (WebhookChannel, "url"),
        (from_url, "url"),
        (EmailChannel, "url"),
        (lambda value: OpsgenieChannel("key", url=value), "url"),
        (PagerDutyChannel, "a PagerDuty routing key"),
        (OpsgenieChannel, "an Opsgenie API key"),
    ],
)
def test_what_is_not_text_is_refused_by_name_and_not_shown(
    make: Callable[[Any], object], name: str, value: Any
) -> None:
    """As where an environment variable is not set."""
    with pytest.raises(TypeError, match=f"^{name} must be a string, not an? {type(value).__name__}$"):
        make(value)


@pytest.mark.fault("L17")
def test_a_secret_that_is_not_text_is_refused_and_not_shown() -> None:
    with pytest.raises(TypeError, match=r"^secret must be a string, not a bytes$"):
        WebhookChannel("https://hooks.example/", secret=b"hunter2")  # type: ignore[arg-type]  # on purpose
