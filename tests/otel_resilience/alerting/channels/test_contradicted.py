"""A success status whose body says that nothing was delivered is a failure."""

from __future__ import annotations

import pytest

from otel_resilience import ErrorClass, classify
from otel_resilience.alerting.channels import ChannelError, MattermostChannel, SlackChannel, TeamsChannel
from otel_resilience.alerting.channels._http import reports_failure
from support.alert_channels import channel_for, receiver_for
from support.alert_receivers import Reply, served
from support.notifications import SAMPLES

TIMEOUT = 30.0
REFUSALS = {
    "the login of a proxy": "\r\n<!DOCTYPE html><html><body>Sign in to the guest network</body></html>",
    "a page": "<html><head><title>Moved</title></head></html>",
    "Slack's own API": '{"ok": false, "error": "channel_not_found"}',
    "Rocket.Chat": '{"success": false, "error": "Invalid integration"}',
    "Teams": "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429",
}
CONFIRMATIONS = (
    "ok", "1", "", '{"ok": true}', '{"success": true}', '{"status": "success"}', '{"id": "<1>"}', "{", "[]", "\x00",
    '{"a":' * 800,
)  # fmt: skip


@pytest.mark.parametrize("said", REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("kind", ["slack", "pagerduty"])
def test_it_is_tried_again(kind: str, said: str) -> None:
    with served(receiver_for(kind)) as receiver:
        receiver.script(Reply(200, said))
        with pytest.raises(ChannelError) as caught:
            channel_for(kind, receiver.url).deliver(SAMPLES["firing"], timeout=TIMEOUT)
    verdict = classify(caught.value)
    assert (verdict.error_class, verdict.error_type) == (ErrorClass.TRANSIENT, "invalid_response")
    assert said not in str(caught.value)


@pytest.mark.parametrize("channel", [MattermostChannel, SlackChannel, TeamsChannel])
def test_every_chat_looks(channel: type[MattermostChannel | SlackChannel | TeamsChannel]) -> None:
    with served(receiver_for("slack")) as receiver:
        receiver.script(Reply(200, "<html>"))
        with pytest.raises(ChannelError):
            channel(receiver.url).deliver(SAMPLES["firing"], timeout=TIMEOUT)


@pytest.mark.parametrize("said", CONFIRMATIONS)
def test_what_receivers_say_confirms(said: str) -> None:
    assert not reports_failure(said.encode())


@pytest.mark.parametrize("said", REFUSALS.values(), ids=REFUSALS.keys())
def test_any_success_of_the_generic_webhook_confirms(said: str) -> None:
    with served(receiver_for("webhook")) as receiver:
        receiver.script(Reply(200, said))
        channel_for("webhook", receiver.url).deliver(SAMPLES["firing"], timeout=TIMEOUT)
