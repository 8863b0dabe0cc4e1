"""Alerts as their receivers and the command line show them: real processes, a real webhook."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from otel_resilience.alerting import DeliveryConfig
from support.alert_receivers import BLACK_HOLE, FakePagerDuty, FakeSlack, FakeWebhook, served
from support.cli import Cli, Supplier

SECRET = "webhook-signing-key"


@pytest.fixture
def webhook() -> Iterator[FakeWebhook]:
    with served(FakeWebhook(secret=SECRET)) as receiver:
        yield receiver


@pytest.fixture
def told(cli: Cli, webhook: FakeWebhook) -> Cli:
    """The command line with a webhook."""
    cli.env.update(ERROR_ALERT_WEBHOOK_URL=webhook.url, ERROR_ALERT_WEBHOOK_SECRET=SECRET)
    return cli


def summary(webhook: FakeWebhook) -> list[tuple[str, str, str]]:
    return [(each["status"], each["severity"], each["kind"]) for each in webhook.accepted]


def test_an_outage_over_several_runs_is_one_message_and_its_end_another(
    told: Cli, supplier: Supplier, webhook: FakeWebhook
) -> None:
    supplier.play("outage")
    first = told("run", "--json").json
    assert told("run").code == 1
    assert len(webhook.accepted) == 1
    (message,) = webhook.accepted
    assert (message["status"], message["dependency"]) == ("firing", "esim-go")
    assert message["correlation_id"] == first["correlation_id"]
    supplier.reset()
    assert told("run").code == 0
    assert [each["status"] for each in webhook.accepted] == ["firing", "resolved"]
    resolved = webhook.accepted[1]
    assert resolved["fingerprint"] == message["fingerprint"]
    assert resolved["duration_s"] > 0
    assert sum(each["count"] for each in webhook.accepted) == resolved["total"]


def test_a_refused_key_is_critical_and_told_once_per_key(told: Cli, webhook: FakeWebhook) -> None:
    assert told("run", ESIM_GO_API_KEY="wrong-key-one").code == 1
    assert told("run", ESIM_GO_API_KEY="wrong-key-one").code == 1
    assert told("run", ESIM_GO_API_KEY="wrong-key-two").code == 1
    assert summary(webhook) == [("firing", "CRITICAL", "authentication")] * 2
    assert "wrong-key" not in json.dumps(webhook.accepted)


def test_a_dead_redis_is_told(told: Cli, webhook: FakeWebhook) -> None:
    assert told("run", REDIS_URL="redis://:s3cret-pass@127.0.0.1:9").code == 5
    assert [each["dependency"] for each in webhook.accepted] == ["redis"]
    assert "s3cret-pass" not in json.dumps(webhook.accepted)


def test_a_webhook_that_never_answers_changes_nothing_and_the_next_run_delivers(
    told: Cli, supplier: Supplier, webhook: FakeWebhook
) -> None:
    supplier.play("outage")
    webhook.script(BLACK_HOLE, forever=True)
    report = told("run", "--json").json
    assert report["outcome"] == "FAILED"
    assert report["duration_s"] < DeliveryConfig().attempt_timeout
    waiting = told("alerts", "--json").json["outbox"]
    assert [each["status"] for each in waiting] == ["firing"]
    assert len(told("status", "--json").json["alerts"]["outbox"]) == 1
    webhook.script()
    told("run")
    assert [each["id"] for each in webhook.accepted] == [waiting[0]["id"]]
    assert told("alerts", "--json").json["outbox"] == []


def test_what_nobody_takes_is_a_dead_letter_that_status_shows(
    told: Cli, supplier: Supplier, webhook: FakeWebhook
) -> None:
    supplier.play("outage")
    webhook.script(400, forever=True)
    told("run")
    (letter,) = told("status", "--json").json["alerts"]["dead_letters"]
    assert (letter["reason"], letter["severity"]) == ("400", "HIGH")
    assert "DEAD LETTER" in told("status").out
    assert "NOT DELIVERED" in told("alerts").out
    webhook.script(200, forever=True)
    (incident,) = told("alerts", "--json").json["incidents"]
    assert told("alerts", "resend", incident["id"]).code == 0
    shown = told("alerts").out
    assert "delivered by webhook" in shown
    assert "NOT DELIVERED" not in shown


def test_a_revoked_webhook_is_told_through_the_fallback(told: Cli, supplier: Supplier, webhook: FakeWebhook) -> None:
    supplier.play("outage")
    webhook.script(410, forever=True)
    with served(FakeSlack(rate_limit=False)) as slack:
        told("run", ERROR_ALERT_FALLBACK_WEBHOOK_URL=slack.url)
        texts = json.dumps([json.loads(each.body) for each in slack.requests])
    assert len(webhook.requests) == 1
    assert "is disabled" in texts


def test_slack_and_pagerduty_get_their_own_formats(told: Cli, supplier: Supplier) -> None:
    supplier.play("outage")
    with served(FakeSlack()) as slack, served(FakePagerDuty()) as pagerduty:
        keys = {
            "ERROR_ALERT_SLACK_WEBHOOK_URL": slack.url,
            "ERROR_ALERT_PAGERDUTY_ROUTING_KEY": "0123456789abcdef0123456789abcdef",
            "ERROR_ALERT_PAGERDUTY_URL": pagerduty.url,
        }
        told("run", **keys)
        assert [each["event_action"] for each in pagerduty.accepted] == ["trigger"]
        assert len(slack.accepted) == 1
        supplier.reset()
        told("run", **keys)
        assert [each["event_action"] for each in pagerduty.accepted] == ["trigger", "resolve"]
        assert len(slack.accepted) == 2


def test_the_heartbeat_beats_after_a_complete_sync_alone(told: Cli, supplier: Supplier) -> None:
    with served(FakeWebhook()) as heart:
        told("run", ERROR_ALERT_HEARTBEAT_URL=heart.url)
        beats = len(heart.requests)
        supplier.play("outage")
        told("run", ERROR_ALERT_HEARTBEAT_URL=heart.url)
        assert (beats, len(heart.requests)) == (1, 1)


def test_the_test_message_takes_the_real_path_and_says_when_it_was_confirmed(told: Cli, webhook: FakeWebhook) -> None:
    result = told("alerts", "test", "--severity", "critical", "--json")
    assert result.code == 0
    (channel,) = result.json["channels"]
    assert (channel["channel"], channel["confirmed"]) == ("webhook", True)
    assert 0 < channel["seconds"] < 15
    assert summary(webhook) == [("firing", "CRITICAL", "test")]
    webhook.script(500, forever=True)
    failed = told("alerts", "test", "--json")
    assert failed.code == 1
    assert failed.json["channels"][0]["error_type"] == "500"
    assert (failed.json["error"]["type"], failed.json["error"]["message"]) == (
        "not_delivered",
        "no confirmation: webhook: 500",
    )
    assert told("alerts", "test", "--channel", "fax").code == 2


def test_a_silence_keeps_quiet(told: Cli, supplier: Supplier, webhook: FakeWebhook) -> None:
    supplier.play("outage")
    told("run", ERROR_ALERT_SILENCES="dependency=esim-go until=2999-01-01T00:00:00Z")
    assert webhook.accepted == []


def test_an_open_incident_is_listed_with_its_confirmation(told: Cli, supplier: Supplier) -> None:
    supplier.play("outage")
    told("run")
    (incident,) = told("alerts", "--json").json["incidents"]
    assert incident["dependency"] == "esim-go"
    assert [each["channel"] for each in incident["deliveries"]] == ["webhook"]
    assert "eSIM Go" in told("alerts").out or "catalogue sync failed" in told("alerts").out


class TestWhatAPersonDecides:
    @pytest.fixture
    def incident(self, told: Cli, supplier: Supplier) -> str:
        """The ID of one that is open."""
        supplier.play("outage")
        assert told("run").code == 1
        (open_one,) = told("alerts", "--json").json["incidents"]
        return str(open_one["id"])

    def test_a_closed_incident_is_over_for_every_receiver(self, told: Cli, webhook: FakeWebhook, incident: str) -> None:
        answer = told("alerts", "close", incident, "--json")
        assert (answer.code, answer.json["ok"], answer.json["incident"]) == (0, True, incident)
        assert [each["confirmed"] for each in answer.json["channels"]] == [True]
        assert [each["status"] for each in webhook.accepted] == ["firing", "resolved"]
        assert told("alerts", "--json").json["incidents"] == []

    def test_a_message_that_nobody_confirms_is_an_error(self, told: Cli, webhook: FakeWebhook, incident: str) -> None:
        webhook.script(404, forever=True)
        answer = told("alerts", "close", incident, "--json")
        assert (answer.code, answer.json["ok"]) == (1, False)
        assert answer.json["error"]["message"] == "no confirmation: webhook: 404"

    def test_one_that_was_closed_too_early_comes_back(self, told: Cli, webhook: FakeWebhook, incident: str) -> None:
        told("alerts", "close", incident)
        told("run", ERROR_ALERT_RATE_LIMIT="1")
        assert [each["reason"] for each in webhook.accepted][:2] == ["new", "resolved"]
        (again,) = told("alerts", "--json").json["incidents"]
        assert again["id"] != incident

    def test_an_acknowledged_one_says_so_and_is_not_escalated(
        self, told: Cli, webhook: FakeWebhook, incident: str
    ) -> None:
        assert told("alerts", "ack", incident).code == 0
        told("run", ERROR_ALERT_ESCALATION="after=1", ERROR_ALERT_RATE_LIMIT="1")
        assert [each["reason"] for each in webhook.accepted] == ["new"]
        (seen,) = told("alerts", "--json").json["incidents"]
        assert seen["acknowledged_at"] is not None
        assert "acknowledged at" in told("alerts").out

    def test_a_silenced_one_is_heard_of_again_only_at_its_end(
        self, told: Cli, supplier: Supplier, webhook: FakeWebhook, incident: str
    ) -> None:
        assert told("alerts", "silence", incident, "--for", "2h").code == 0
        told("run", ERROR_ALERT_ESCALATION="after=1", ERROR_ALERT_RATE_LIMIT="1")
        assert "silenced until" in told("alerts").out
        supplier.reset()
        told("run")
        assert [each["reason"] for each in webhook.accepted] == ["new", "resolved"], webhook.accepted

    def test_one_is_sent_again_to_all_its_channels(self, told: Cli, webhook: FakeWebhook, incident: str) -> None:
        assert told("alerts", "resend", incident).code == 0
        assert [(each["reason"], each["incident"]) for each in webhook.accepted] == [
            ("new", incident),
            ("repeat", incident),
        ]

    def test_a_dead_letter_is_sent_again(self, told: Cli, supplier: Supplier, webhook: FakeWebhook) -> None:
        supplier.play("outage")
        webhook.script(400, forever=True)
        told("run")
        (letter,) = told("alerts", "--json").json["dead_letters"]
        webhook.script()
        assert told("alerts", "resend", letter["id"]).code == 0
        assert [each["id"] for each in webhook.accepted] == [letter["id"]]
        assert told("alerts", "--json").json["dead_letters"] == []

    @pytest.mark.parametrize("action", ["ack", "close", "silence", "resend"])
    def test_an_id_that_is_none_is_said(self, told: Cli, action: str) -> None:
        answer = told("alerts", action, "0123456789abcdef", "--json")
        assert (answer.code, answer.json["error"]["type"]) == (1, "incident_not_found")
        assert told("alerts", action).code == 2

    @pytest.mark.parametrize("duration", ["4", "4 h", "h", "0h", "-1h", "1w"])
    def test_a_duration_has_a_unit(self, told: Cli, duration: str) -> None:
        assert told("alerts", "silence", "0123456789abcdef", f"--for={duration}").code == 2


@pytest.mark.fault("U6")
def test_an_incident_that_redis_alone_may_know_is_not_said_to_be_none(cli: Cli) -> None:
    away = {"REDIS_URL": "redis://127.0.0.1:9/0"}
    result = cli("alerts", "ack", "0123456789abcdef", "--json", **away)
    assert result.code == 1
    assert "cannot be read" in result.json["error"]["message"]
    nothing = cli("alerts", "ack", "0123456789abcdef", "--json")
    assert nothing.json["error"]["type"] == "incident_not_found"
