"""No secret reaches a receiver, the disk or a log, wherever it is in an alert or an exception."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from otel_resilience import BreakerEffect, Classification, ErrorClass, Policy, Severity
from otel_resilience.alerting import AlertConfig, AlertService, DiskStore, Outbox, ResilienceSource, Route
from otel_resilience.alerting.channels import PagerDutyChannel, SlackChannel, WebhookChannel
from otel_resilience.redaction import register_secret
from support.alert_receivers import ROUTING_KEY, FakePagerDuty, FakeSlack, FakeWebhook, Receiver, served
from support.alerting import alert
from support.resilience import Fault, Script

CONFIG = AlertConfig(escalation=(), min_severity=Severity.LOW, group_wait=0.0, max_incidents=10_000)
WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ23456789", min_size=12, max_size=40)

SHAPES = (
    "https://user:{}@supplier.example/v2",
    "https://supplier.example/v2?api_key={}&page=1",
    "GET https://hooks.slack.com/services/T00000000/B00000000/{} failed",
    "Authorization: Bearer {}",
    "X-API-Key: {}",
    '{{"password": "{}"}}',
    "{{'token': '{}'}}",
    "redis://:{}@127.0.0.1:6379/0",
    "secret={}",
)
"""Texts in which a secret is known by its place."""


class LeakyError(Fault):
    verdict = Classification(ErrorClass.PERMANENT, Severity.CRITICAL, "401", BreakerEffect.NEUTRAL)


def channel(receiver: Receiver) -> Any:
    if isinstance(receiver, FakeSlack):
        return SlackChannel(receiver.url, min_interval=0.0, coalesce_from=None)
    if isinstance(receiver, FakePagerDuty):
        return PagerDutyChannel(ROUTING_KEY, url=receiver.url, min_interval=0.0)
    return WebhookChannel(receiver.url)


def everything_with(service: AlertService, text: str) -> None:
    """One alert with it in every place, and an exception that tells it."""
    service.report(
        alert(
            f"kind {text}", Severity.HIGH, title=f"title {text}", summary=f"summary {text}", dependency=f"d {text}",
            error_type=text, error_class=text, fingerprint_by=(text,),
            context={"said": text, text: "name", "url": f"https://x.example/?token={quote(text)}", "password": text},
        )
    )  # fmt: skip
    policy = Policy("supplier")
    with contextlib.suppress(LeakyError):
        policy.execute(Script(LeakyError(f"refused: {text}")).play, name="list")


@pytest.fixture(scope="module")
def receivers() -> Iterator[list[Receiver]]:
    with contextlib.ExitStack() as stack:
        all_kinds: list[Receiver] = [FakeWebhook(), FakeSlack(rate_limit=False), FakePagerDuty()]
        yield [stack.enter_context(served(receiver)) for receiver in all_kinds]


def told_with(text: str, receivers: list[Receiver]) -> tuple[str, str]:
    """What receivers got, and what lay on the disk, of one run with this text everywhere."""
    for receiver in receivers:
        receiver.requests.clear()
        receiver.accepted.clear()
        if isinstance(receiver, FakePagerDuty):
            receiver.forgive()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        service = AlertService(
            CONFIG,
            [Route(channel(receiver)) for receiver in receivers],
            outbox=Outbox(folder),
            store=DiskStore(folder / "incidents"),
        )
        with ResilienceSource(service):
            everything_with(service, text)
        written = "".join(path.read_text() for path in folder.rglob("*.json"))
        assert "kind" in written
        assert service.start().close(60.0)
        written += "".join(path.read_text() for path in folder.rglob("*.json"))
    assert all(not receiver.failures for receiver in receivers)
    assert all(len(receiver.accepted) >= 2 for receiver in receivers)
    got = "".join(request.body.decode() for receiver in receivers for request in receiver.requests)
    return got.replace(ROUTING_KEY, ""), written


FEW = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(secret=WORDS, shape=st.sampled_from(SHAPES))
@example(secret="s3cr3tS3cr3tValue", shape=SHAPES[0])
def test_a_secret_in_its_usual_place_is_not_shown(
    receivers: list[Receiver], caplog: pytest.LogCaptureFixture, secret: str, shape: str
) -> None:
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        got, written = told_with(shape.format(secret), receivers)
    assert secret not in got
    assert secret not in written
    assert secret not in caplog.text


@FEW
@given(secret=WORDS, around=st.tuples(st.text(max_size=10), st.text(max_size=10)))
@example(secret="0123456789abcdef", around=("", ""))
def test_a_registered_secret_is_not_shown_wherever_it_stands(
    receivers: list[Receiver], caplog: pytest.LogCaptureFixture, secret: str, around: tuple[str, str]
) -> None:
    register_secret(secret)
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        got, written = told_with(f"{around[0]}{secret}{around[1]}", receivers)
    assert secret not in got
    assert secret not in written
    assert secret not in caplog.text
