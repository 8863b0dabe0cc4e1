"""The generic webhook: the fields, the idempotency key, the signature."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from otel_resilience.alerting.channels import ChannelError, WebhookChannel
from otel_resilience.alerting.channels.webhook import sign
from support.alert_payloads import GENERIC_FIELDS
from support.alert_receivers import FakeWebhook, served
from support.notifications import SAMPLES, notification

SECRET = "s3cret-of-the-webhook"


def test_it_posts_the_notification_as_it_is() -> None:
    with served(FakeWebhook()) as webhook:
        for sample in SAMPLES.values():
            WebhookChannel(webhook.url).deliver(sample, timeout=5)
    assert webhook.accepted == [sample.to_json() for sample in SAMPLES.values()]
    assert set(GENERIC_FIELDS) <= set(webhook.accepted[0])


def test_only_resolved_ones_have_a_duration() -> None:
    with served(FakeWebhook()) as webhook:
        channel = WebhookChannel(webhook.url)
        channel.deliver(SAMPLES["firing"], timeout=5)
        channel.deliver(SAMPLES["resolved"], timeout=5)
    assert [message.get("duration_s") for message in webhook.accepted] == [None, 2472.5]


def test_a_repetition_is_known_by_its_key() -> None:
    with served(FakeWebhook()) as webhook:
        channel = WebhookChannel(webhook.url)
        channel.deliver(notification(id="once"), timeout=5)
        channel.deliver(notification(id="once"), timeout=5)
        assert len(webhook.accepted) == 1
        assert webhook.repeated == ["once"]


def test_with_a_secret_the_message_is_signed_with_its_time() -> None:
    with served(FakeWebhook(secret=SECRET, now=lambda: 1_795_500_100.9)) as webhook:
        WebhookChannel(webhook.url, secret=SECRET, now=lambda: 1_795_500_000.7).deliver(notification(), timeout=5)
    (request,) = webhook.requests
    assert len(webhook.accepted) == 1
    assert request.headers["x-timestamp"] == "1795500000"
    expected = hmac.new(SECRET.encode(), b"1795500000." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-signature-256"] == f"sha256={expected}"


def test_without_a_secret_nothing_is_signed() -> None:
    with served(FakeWebhook()) as webhook:
        WebhookChannel(webhook.url, secret="").deliver(notification(), timeout=5)
    assert not {"x-timestamp", "x-signature-256"} & set(webhook.requests[0].headers)


@pytest.mark.parametrize(
    ("channel_secret", "age"),
    [("another-secret", 0), (None, 0), (SECRET, 301), (SECRET, -301)],
    ids=["wrong", "none", "old", "from the future"],
)
def test_a_forged_or_replayed_message_is_recognised(channel_secret: str | None, age: int) -> None:
    with served(FakeWebhook(secret=SECRET, now=lambda: 2e9)) as webhook:
        channel = WebhookChannel(webhook.url, secret=channel_secret, now=lambda: 2e9 - age)
        with pytest.raises(ChannelError) as caught:
            channel.deliver(notification(), timeout=5)
    assert (caught.value.status, caught.value.revoked, webhook.accepted) == (401, True, [])


def test_a_signature_that_anybody_can_check() -> None:
    """Computed with ``printf '1700000000.{}' | openssl dgst -sha256 -hmac key``."""
    assert sign(b"key", "1700000000", b"{}") == (
        "sha256=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
    )


def test_the_body_is_compact_utf_8() -> None:
    with served(FakeWebhook()) as webhook:
        WebhookChannel(webhook.url).deliver(notification(title="Tarif für Köln 😀"), timeout=5)
    body = webhook.requests[0].body
    assert "Tarif für Köln 😀".encode() in body
    assert body == json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode()


def test_what_json_and_utf_8_cannot_carry_is_replaced() -> None:
    message = notification(
        title="lone \ud83d and pair \ud83d\ude00", context={"ratio": float("nan"), "\udc00": float("inf")}
    )
    with served(FakeWebhook()) as webhook:
        WebhookChannel(webhook.url).deliver(message, timeout=5)
    (received,) = webhook.accepted
    assert received["title"] == "lone � and pair 😀"
    assert received["context"] == {"ratio": "nan", "�": "inf"}


def test_pace_and_coalescing_are_the_users_choice() -> None:
    channel = WebhookChannel("https://alerts.example/", min_interval=2, coalesce_from=5, name="pager")
    assert (channel.name, channel.min_interval, channel.coalesce_from) == ("pager", 2, 5)
    plain = WebhookChannel("https://alerts.example/")
    assert (plain.name, plain.min_interval, plain.coalesce_from, plain.keeps_incidents) == ("webhook", 0, None, False)
