"""What people get to see, as reviewed files: one per kind of message and channel, as it goes over the wire."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from otel_resilience.alerting.channels import Channel, PagerDutyChannel, SlackChannel, WebhookChannel
from support.alert_receivers import ROUTING_KEY, FakePagerDuty, FakeSlack, FakeWebhook, Receiver, served
from support.notifications import SAMPLES

SNAPSHOTS = Path(__file__).parent / "snapshots"
RENEW = "RENEW_SNAPSHOTS"

RECEIVERS = {"slack": FakeSlack, "pagerduty": FakePagerDuty, "webhook": FakeWebhook}


def channel(kind: str, url: str) -> Channel:
    if kind == "slack":
        return SlackChannel(url)
    return PagerDutyChannel(ROUTING_KEY, url=url) if kind == "pagerduty" else WebhookChannel(url)


@pytest.mark.parametrize("kind", RECEIVERS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_message_is_accepted_and_reads_as_reviewed(kind: str, sample: str) -> None:
    receiver: Receiver
    with served(RECEIVERS[kind]()) as receiver:
        channel(kind, receiver.url).deliver(SAMPLES[sample], timeout=5)
    assert receiver.failures == []
    (payload,) = receiver.accepted
    text = json.dumps(payload, ensure_ascii=False, indent=2) + "\n"
    path = SNAPSHOTS / f"{sample}.{kind}.json"
    if os.environ.get(RENEW):
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"no snapshot; write it with {RENEW}=1 and review it"
    assert text == path.read_text("utf-8"), f"if the change is meant, renew with {RENEW}=1 and review the difference"


def test_every_snapshot_belongs_to_a_sample() -> None:
    expected = {f"{sample}.{kind}.json" for sample in SAMPLES for kind in RECEIVERS}
    assert {path.name for path in SNAPSHOTS.iterdir()} == expected
