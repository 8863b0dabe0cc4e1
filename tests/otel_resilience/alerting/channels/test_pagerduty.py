"""PagerDuty: one incident there for each incident here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from otel_resilience import Severity
from otel_resilience.alerting.channels import ChannelError, PagerDutyChannel
from otel_resilience.alerting.channels.pagerduty import EVENTS_URL, build_event, dedup_key
from otel_resilience.alerting.model.alert import Links
from support.alert_receivers import ROUTING_KEY, FakePagerDuty, Reply, served
from support.notifications import LINKS, SAMPLES, notification

FIRING, RESOLVED = SAMPLES["firing"], SAMPLES["resolved"]


@pytest.fixture
def pagerduty() -> Iterator[FakePagerDuty]:
    with served(FakePagerDuty()) as receiver:
        yield receiver


@pytest.fixture
def channel(pagerduty: FakePagerDuty) -> PagerDutyChannel:
    return PagerDutyChannel(ROUTING_KEY, url=pagerduty.url)


class TestIncidents:
    def test_it_opens_with_the_first_message_and_ends_with_the_last(
        self, channel: PagerDutyChannel, pagerduty: FakePagerDuty
    ) -> None:
        channel.deliver(FIRING, timeout=5)
        (incident,) = pagerduty.incidents
        assert (incident.status, incident.severity) == ("triggered", "critical")
        channel.deliver(SAMPLES["escalated"], timeout=5)
        assert incident.triggers == 2
        channel.deliver(RESOLVED, timeout=5)
        assert [incident.status for incident in pagerduty.incidents] == ["resolved"]
        assert pagerduty.dropped == []

    def test_who_acknowledged_it_is_left_alone(self, channel: PagerDutyChannel, pagerduty: FakePagerDuty) -> None:
        channel.deliver(FIRING, timeout=5)
        pagerduty.acknowledge(dedup_key(FIRING))
        channel.deliver(SAMPLES["escalated"], timeout=5)
        assert [incident.status for incident in pagerduty.incidents] == ["acknowledged"]
        channel.deliver(RESOLVED, timeout=5)
        assert [incident.status for incident in pagerduty.incidents] == ["resolved"]

    def test_one_that_comes_back_is_a_new_one(self, channel: PagerDutyChannel, pagerduty: FakePagerDuty) -> None:
        for message in (FIRING, RESOLVED, notification(incident="another", reason="back")):
            channel.deliver(message, timeout=5)
        assert [incident.status for incident in pagerduty.incidents] == ["resolved", "triggered"]
        assert len({incident.dedup_key for incident in pagerduty.incidents}) == 1

    def test_the_same_outage_on_two_machines_is_one(self, pagerduty: FakePagerDuty) -> None:
        for number in range(2):
            channel = PagerDutyChannel(ROUTING_KEY, url=pagerduty.url)
            channel.deliver(notification(id=f"id-{number}", incident=f"machine-{number}"), timeout=5)
        assert len(pagerduty.incidents) == 1

    def test_other_incidents_and_other_services_keep_apart(
        self, channel: PagerDutyChannel, pagerduty: FakePagerDuty
    ) -> None:
        for message in (FIRING, notification(fingerprint="0" * 16), notification(service="catalog-api")):
            channel.deliver(message, timeout=5)
        assert len(pagerduty.incidents) == 3

    def test_a_resolve_of_nothing_is_dropped_there(self, channel: PagerDutyChannel, pagerduty: FakePagerDuty) -> None:
        channel.deliver(RESOLVED, timeout=5)
        assert (len(pagerduty.dropped), pagerduty.incidents) == (1, [])


class TestTheEvent:
    def test_the_key_is_service_and_fingerprint(self) -> None:
        assert dedup_key(FIRING) == f"catalog-sync:{FIRING.fingerprint}"

    def test_a_long_service_name_still_gives_a_key_of_its_own(self) -> None:
        first, second = (dedup_key(notification(service="s" * 300 + tail)) for tail in "ab")
        assert first != second
        assert max(len(first), len(second)) <= 255

    @pytest.mark.parametrize(
        ("severity", "expected"),
        [
            (Severity.CRITICAL, "critical"),
            (Severity.HIGH, "error"),
            (Severity.MEDIUM, "warning"),
            (Severity.LOW, "info"),
        ],
    )
    def test_severities(self, severity: Severity, expected: str) -> None:
        assert build_event(notification(severity=severity))["payload"]["severity"] == expected

    def test_it_carries_the_evidence(self) -> None:
        event = build_event(SAMPLES["aggregated"])
        assert event["payload"]["summary"] == "Calls to supplier fail (412 times in 60 s, 3 error types)"
        details = event["payload"]["custom_details"]
        assert (details["count"], details["total"], len(details["error_types"])) == (412, 412, 3)
        assert details["correlation_id"] == SAMPLES["aggregated"].correlation_id
        assert event["links"] == [{"href": LINKS.trace, "text": "Open trace"}]
        assert event["client_url"] == LINKS.trace

    def test_the_dashboard_is_its_home_where_there_is_one(self) -> None:
        assert build_event(FIRING)["client_url"] == LINKS.dashboard
        assert "client_url" not in build_event(notification(links=Links()))

    def test_the_end_carries_the_duration(self) -> None:
        event = build_event(RESOLVED)
        assert event["event_action"] == "resolve"
        assert event["payload"]["custom_details"]["duration_s"] == 2472.5

    def test_the_most_that_a_notification_can_hold_is_accepted(
        self, channel: PagerDutyChannel, pagerduty: FakePagerDuty
    ) -> None:
        long: dict[str, Any] = dict.fromkeys(
            ("title", "summary", "dependency", "error_type", "service", "kind"), "😀" * 10_000
        )
        huge = dataclasses.replace(
            FIRING,
            **long,
            context={f"{n}" * 200: "😀" * 10_000 for n in range(200)},
        )
        channel.deliver(huge, timeout=5)
        assert pagerduty.failures == []
        assert len(pagerduty.requests[0].body) < 512 * 1024


class TestTheReceiver:
    def test_it_is_pagerdutys_own_by_default(self) -> None:
        assert EVENTS_URL == "https://events.pagerduty.com/v2/enqueue"

    @pytest.mark.parametrize("key", ["", "  "])
    def test_it_needs_a_key(self, key: str) -> None:
        with pytest.raises(ValueError, match="routing key is needed"):
            PagerDutyChannel(key)

    def test_an_unknown_key_is_permanent(self, pagerduty: FakePagerDuty) -> None:
        with pytest.raises(ChannelError) as caught:
            PagerDutyChannel("f" * 32, url=pagerduty.url).deliver(FIRING, timeout=5)
        assert caught.value.status == 400
        assert not caught.value.classification.retryable

    def test_its_pace_stays_below_the_limit(self, pagerduty: FakePagerDuty) -> None:
        channel = PagerDutyChannel(ROUTING_KEY, url=pagerduty.url)
        assert 60.0 / channel.min_interval <= FakePagerDuty.PER_MINUTE
        assert channel.keeps_incidents
        body = json.dumps(build_event(FIRING) | {"routing_key": ROUTING_KEY}).encode()
        for _ in range(FakePagerDuty.PER_MINUTE):
            reply = pagerduty.take(pagerduty.path, {}, body)
            assert isinstance(reply, Reply)
            assert reply.status == 202
        with pytest.raises(ChannelError) as caught:
            channel.deliver(FIRING, timeout=5)
        assert caught.value.status == 429
        assert caught.value.classification.retryable
