"""The examples of docs/alerting-channels.md, verbatim: a custom channel, and a receiver that checks our messages."""

from __future__ import annotations

import hashlib
import hmac
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from otel_resilience import Policy, RetryConfig, Severity, classify
from otel_resilience.alerting.channels import Channel, WebhookChannel
from otel_resilience.alerting.model.alert import Notification
from otel_resilience.alerting.model.digest import digest
from support.alert_receivers import FakeWebhook, Received, Receiver, Reply, served
from support.notifications import SAMPLES, notification

DOCUMENT = Path(__file__).parents[3] / "docs" / "alerting-channels.md"


class NtfyChannel:
    """Pushes alerts to phones through an ntfy server."""

    name = "ntfy"
    min_interval = 1.0  # seconds between two messages
    coalesce_from = 3  # from this many waiting messages on they are sent as one digest
    keeps_incidents = False  # the receiver keeps no incident open until it gets the resolution

    def __init__(self, url: str, topic: str) -> None:
        self._url, self._topic = url, topic
        self._client = httpx.Client()

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        message = {
            "topic": self._topic,
            "title": f"{notification.severity}, {notification.status}: {notification.title}",
            "message": notification.summary,
            "priority": 5 if notification.severity is Severity.CRITICAL else 3,
            "click": notification.links.trace,
        }
        headers = {"Idempotency-Key": notification.id}  # says that this POST may be repeated
        answer = self._client.post(self._url, json=message, headers=headers, timeout=timeout)
        answer.raise_for_status()  # the classifier knows what every status means

    def close(self) -> None:
        self._client.close()


def is_genuine(body: bytes, headers: Mapping[str, str], secret: bytes, now: float) -> bool:
    """Whether a message of the generic webhook comes from us, and not from the day before."""
    timestamp = headers.get("X-Timestamp", "")
    signed = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    given = headers.get("X-Signature-256", "")
    fresh = timestamp.isdecimal() and abs(now - int(timestamp)) <= 300
    return fresh and hmac.compare_digest(f"sha256={signed}".encode(), given.encode())


class FakeNtfy(Receiver):
    path = "/alerts"

    def answer(self, request: Received) -> Reply:
        self.accepted.append(request.json)
        return Reply(200, '{"id": "x"}')


@pytest.fixture
def ntfy() -> Iterator[FakeNtfy]:
    with served(FakeNtfy()) as receiver:
        yield receiver


@pytest.fixture
def channel(ntfy: FakeNtfy) -> Iterator[NtfyChannel]:
    channel = NtfyChannel(ntfy.url, "ops")
    yield channel
    channel.close()


@pytest.mark.parametrize("example", [NtfyChannel, is_genuine])
def test_the_document_shows_what_is_tested_here(example: object) -> None:
    source = inspect.getsource(example)  # type: ignore[arg-type]
    assert source.rstrip() in DOCUMENT.read_text("utf-8")


def test_it_takes_thirty_lines() -> None:
    assert len(inspect.getsource(NtfyChannel).splitlines()) <= 30


def test_it_is_a_channel(channel: NtfyChannel) -> None:
    assert isinstance(channel, Channel)


def test_it_delivers_every_kind_of_message(channel: NtfyChannel, ntfy: FakeNtfy) -> None:
    for sample in SAMPLES.values():
        channel.deliver(sample, timeout=5)
    channel.deliver(digest([notification(incident=str(number)) for number in range(3)]), timeout=5)
    assert len(ntfy.accepted) == len(SAMPLES) + 1
    first = ntfy.accepted[0]
    assert first["title"] == "CRITICAL, firing: The circuit of supplier is open"
    assert (first["topic"], first["message"], first["priority"]) == ("ops", SAMPLES["firing"].summary, 5)


def test_its_failures_are_classified_and_repeated_as_those_of_any_channel(channel: NtfyChannel, ntfy: FakeNtfy) -> None:
    policy = Policy("ntfy", retry=RetryConfig(max_attempts=3, base_delay=0))
    ntfy.script(503, 502)
    policy.execute(lambda: channel.deliver(notification(), timeout=5))
    assert len(ntfy.requests) == 3
    ntfy.script(404)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        policy.execute(lambda: channel.deliver(notification(), timeout=5))
    assert classify(caught.value).error_type == "404", "by this the channel is known to be revoked"
    assert len(ntfy.requests) == 4


def test_a_receiver_can_recognise_our_messages() -> None:
    secret, now = b"shared", 1_800_000_000.0
    with served(FakeWebhook()) as webhook:
        WebhookChannel(webhook.url, secret="shared", now=lambda: now).deliver(notification(), timeout=5)
    (request,) = webhook.requests
    headers = {name.title(): value for name, value in request.headers.items()}
    assert is_genuine(request.body, headers, secret, now)
    assert not is_genuine(request.body + b" ", headers, secret, now)
    assert not is_genuine(request.body, headers, b"other", now)
    assert not is_genuine(request.body, headers, secret, now + 301)
    assert not is_genuine(request.body, headers | {"X-Timestamp": "1800000001"}, secret, now)
    assert not is_genuine(request.body, {}, secret, now)
    assert not is_genuine(request.body, headers | {"X-Signature-256": "é"}, secret, now)
