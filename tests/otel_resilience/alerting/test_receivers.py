"""The receivers of the tests refuse what the originals refuse; without that, other tests would prove nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from otel_resilience.alerting.channels.pagerduty import build_event
from otel_resilience.alerting.channels.slack import build_message
from otel_resilience.testing import FakeClock
from support.alert_payloads import RefusedError, check_generic, check_pagerduty, check_slack
from support.alert_receivers import ROUTING_KEY, FakePagerDuty, FakeSlack, FakeWebhook, Receiver, Reply
from support.notifications import SAMPLES

SLACK = build_message(SAMPLES["firing"])
PAGERDUTY = {"routing_key": ROUTING_KEY, **build_event(SAMPLES["firing"])}
GENERIC = SAMPLES["firing"].to_json()
JSON = {"content-type": "application/json"}


def changed(original: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    payload = copy.deepcopy(original)
    change(payload)
    return payload


def block(message: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(each for each in message["blocks"] if each["type"] == kind)


def fields(message: dict[str, Any]) -> list[Any]:
    return next(each["fields"] for each in message["blocks"] if "fields" in each)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("text"),
        lambda m: m.update(blocks=[]),
        lambda m: m.update(blocks=[{"type": "divider"}] * 51),
        lambda m: m.update(colour="red"),
        lambda m: m["blocks"].append({"type": "carousel"}),
        lambda m: block(m, "header")["text"].update(text="x" * 151),
        lambda m: block(m, "header")["text"].update(text="😀" * 76),
        lambda m: block(m, "header")["text"].update(type="mrkdwn"),
        lambda m: block(m, "header")["text"].update(text=""),
        lambda m: block(m, "section")["text"].update(text="x" * 3001),
        lambda m: block(m, "section")["text"].update(text="<!channel>"),
        lambda m: block(m, "section")["text"].update(text="this & that"),
        lambda m: fields(m).extend(fields(m) * 10),
        lambda m: fields(m)[0].update(text="x" * 2001),
        lambda m: block(m, "actions")["elements"][0].update(url="https://x.example/" + "x" * 3000),
        lambda m: block(m, "actions")["elements"][0].update(url="javascript:alert(1)"),
        lambda m: block(m, "actions").update(elements=[]),
        lambda m: block(m, "context").update(elements=[]),
    ],
)
def test_slack_refuses(change: Callable[[dict[str, Any]], object]) -> None:
    check_slack(SLACK)
    with pytest.raises(RefusedError):
        check_slack(changed(SLACK, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.update(routing_key="short"),
        lambda e: e.update(event_action="close"),
        lambda e: e.update(dedup_key="x" * 256),
        lambda e: e.pop("payload"),
        lambda e: e["payload"].update(summary="x" * 1025),
        lambda e: e["payload"].update(summary=" "),
        lambda e: e["payload"].update(severity="HIGH"),
        lambda e: e["payload"].pop("source"),
        lambda e: e["payload"].update(timestamp="yesterday"),
        lambda e: e["payload"].update(custom_details=[]),
        lambda e: e["links"].append({"href": "not a link"}),
        lambda e: e.update(client_url="/home"),
        lambda e: (e.update(event_action="resolve"), e.pop("dedup_key")),
    ],
)
def test_pagerduty_refuses(change: Callable[[dict[str, Any]], object]) -> None:
    check_pagerduty(PAGERDUTY)
    with pytest.raises(RefusedError):
        check_pagerduty(changed(PAGERDUTY, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("fingerprint"),
        lambda m: m.update(status="FIRING"),
        lambda m: m.update(severity="bad"),
        lambda m: m.update(count="1"),
        lambda m: m.update(count=-1),
        lambda m: m.update(first_seen=1.0),
        lambda m: m.update(duration_s=1.0),
        lambda m: m.update(status="resolved"),
        lambda m: m["links"].pop("trace"),
    ],
)
def test_a_generic_receiver_refuses(change: Callable[[dict[str, Any]], object]) -> None:
    check_generic(GENERIC)
    with pytest.raises(RefusedError):
        check_generic(changed(GENERIC, change))


def take(receiver: Receiver, payload: object, **headers: str) -> Reply:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    reply = receiver.take(receiver.path, {**JSON, **headers}, body)
    assert isinstance(reply, Reply)
    return reply


def test_slack_takes_one_message_a_second_and_can_be_revoked() -> None:
    clock = FakeClock()
    slack = FakeSlack(clock)
    assert take(slack, SLACK) == Reply(200, "ok")
    clock.advance(0.4)
    assert take(slack, SLACK) == Reply(429, "rate_limited", retry_after=1)
    clock.advance(0.6)
    assert take(slack, SLACK).status == 200
    clock.advance(1)
    assert take(slack, b"{").body == "invalid_payload"
    slack.revoke()
    assert take(slack, SLACK) == Reply(404, "no_service")
    assert len(slack.accepted) == 2
    assert len(slack.requests) == 5


def test_pagerduty_limits_size_and_pace_and_knows_its_key() -> None:
    clock = FakeClock()
    pagerduty = FakePagerDuty(clock)
    assert take(pagerduty, b" " * (512 * 1024 + 1)).status == 413
    assert take(pagerduty, {**PAGERDUTY, "routing_key": "x" * 32}).status == 400
    for _ in range(120):
        assert take(pagerduty, PAGERDUTY).status == 202
    assert take(pagerduty, PAGERDUTY).status == 429
    clock.advance(60)
    reply = take(pagerduty, PAGERDUTY)
    assert json.loads(reply.body)["dedup_key"] == PAGERDUTY["dedup_key"]
    assert (len(pagerduty.incidents), pagerduty.incidents[0].triggers) == (1, 121)


def test_a_generic_receiver_wants_the_id_as_key_and_real_json() -> None:
    webhook = FakeWebhook()
    assert take(webhook, GENERIC).status == 400
    assert take(webhook, GENERIC, **{"idempotency-key": GENERIC["id"]}).status == 204
    broken = json.dumps({**GENERIC, "context": {"x": float("nan")}}).encode()
    assert take(webhook, broken, **{"idempotency-key": GENERIC["id"]}).status == 400


def test_a_script_is_followed_and_then_over() -> None:
    slack = FakeSlack(rate_limit=False)
    slack.script(503, Reply(429, retry_after=3))
    assert [take(slack, SLACK).status for _ in range(3)] == [503, 429, 200]
    slack.script(500, forever=True)
    assert [take(slack, SLACK).status for _ in range(3)] == [500, 500, 500]
    slack.script()
    assert take(slack, SLACK).status == 200
    slack.script(Reply(delay=0.01))
    assert take(slack, SLACK) == Reply(200, "ok", delay=0.01)
