"""A custom message for the generic webhook: it follows the template, and is always JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_resilience.alerting.channels import MessageTemplate, WebhookChannel, from_url
from otel_resilience.alerting.channels.template import FIELDS
from otel_resilience.redaction import redact
from support.alert_payloads import require
from support.alert_receivers import Received, Receiver, Reply, served
from support.doc_blocks import ROOT, blocks
from support.notifications import SAMPLES, notification

PUSH = """
{
  "topic": "alerts",
  "title": "{{ severity }}: {{ title }}",
  "message": "{{summary}} ({{ dependency }}{{ environment }}, {{ count }} times)",
  "priority": {{ count }},
  "tags": ["{{ status }}", "{{ kind }}", {"all": {{ links }}, "of": "{{ context }}"}],
  "click": "{{ links.trace }}",
  "lasted": {{ duration_s }},
  "fixed": [1, true, null, "{ {{ id }} }"]
}
"""


class PushService(Receiver):
    """Accepts one object, with its own fields and types."""

    path = "/publish"

    def answer(self, request: Received) -> Reply:
        message = request.json
        names = {"topic", "title", "message", "priority", "tags", "click", "lasted", "fixed"}
        require(set(message) == names, "names")
        require(isinstance(message["priority"], int) and isinstance(message["title"], str), "types")
        require(message["lasted"] is None or isinstance(message["lasted"], float), "lasted")
        require(isinstance(message["tags"][2]["all"], dict), "links")
        require(request.headers["content-type"].startswith("application/json"), "content type")
        require(request.headers.get("idempotency-key"), "no key")
        require(request.headers.get("x-signature-256", "").startswith("sha256="), "not signed")
        self.accepted.append(message)
        return Reply(200)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_receiver_with_a_form_of_its_own_takes_every_message(sample: str) -> None:
    with served(PushService()) as receiver:
        channel = WebhookChannel(receiver.url, secret="webhook-secret-1", template=MessageTemplate(PUSH))
        channel.deliver(SAMPLES[sample], timeout=30)
        (message,) = receiver.accepted
    told = SAMPLES[sample]
    assert message["title"] == f"{told.severity}: {told.title}"
    assert message["click"] == told.links.trace
    assert message["tags"][:2] == [told.status.value, told.kind]
    assert message["tags"][2]["of"] == dict(told.context)
    assert message["fixed"] == [1, True, None, f"{{ {told.id} }}"]


@pytest.mark.parametrize("text", ['"}, "admin": true, {"', "\\", "\\u0000 \x00 \n\t", "{{ id }}", "é 😀 \ud83d", ""])
def test_whatever_an_alert_holds_it_stays_one_text(text: str) -> None:
    template = MessageTemplate('{"a": "<{{ title }}>", "b": "{{ title }}", "c": {"d": [{{ title }}]}}')
    with served(_Any()) as receiver:
        WebhookChannel(receiver.url, template=template).deliver(notification(title=text), timeout=30)
    whole = text.replace("\ud83d", "\ufffd")
    assert receiver.accepted == [{"a": f"<{whole}>", "b": whole, "c": {"d": [whole]}}]


class _Any(Receiver):
    def answer(self, request: Received) -> Reply:
        self.accepted.append(request.json)
        return Reply(204)


def test_every_field_can_be_asked_for() -> None:
    text = json.dumps({field: f"{{{{ {field} }}}}" for field in FIELDS})
    filled = MessageTemplate(text).fill(SAMPLES["resolved"])
    assert set(filled) == FIELDS
    told: dict[str, Any] = SAMPLES["resolved"].to_json()
    assert {name: value for name, value in filled.items() if name in told} == told
    assert set(told) <= FIELDS
    assert filled["headline"].endswith(SAMPLES["resolved"].title)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "JSON"),
        ("[]", "JSON object"),
        ('{"a": }', "line 1, column 7"),
        ('{"a": {{ title }}', "JSON"),
        ('{"a": "{{ titel }}"}', "did you mean title"),
        ('{"a": "{{ os.environ }}"}', "no 'os.environ'"),
        ('{"a": "{{ }}"}', "no ''"),
        ('{"a": "{{ title }"}', "every {{"),
        ('{"a": "{{ {{ title }} }}"}', "every {{"),
        ('{"a{{ title }}": 1}', "without placeholders in its names"),
        ('{"a": ' + "[" * 20_000 + "]" * 20_000 + "}", "nested"),
        ('{"a": "' + "x" * 70_000 + '"}', "at most 65,536 characters"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("{", r"\{")) as caught:
        MessageTemplate(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_token_in_it_is_masked_and_its_text_is_not_shown() -> None:
    template = MessageTemplate(
        '{"token": "s3cr3t-0f-push", "auth": {"password": ["an0ther-s3cret"]}, "text": "{{ title }}"}'
    )
    assert redact("sent with s3cr3t-0f-push and an0ther-s3cret") == "sent with *** and ***"
    assert "s3cr3t" not in repr(template)
    assert template.fill(SAMPLES["firing"])["token"] == "s3cr3t-0f-push"


def test_slack_keeps_its_own_format() -> None:
    template = MessageTemplate('{"text": "{{ title }}"}')
    assert type(from_url("https://hooks.slack.com/services/T0/B0/x", template=template)).__name__ == "SlackChannel"


def test_the_one_of_the_page_can_be_filled() -> None:
    page = ROOT / "docs/alerting-channels.md"
    (shown,) = [block.code for block in blocks(page) if block.language == "json" and "{{" in block.code]
    MessageTemplate(shown)
