"""Discord, Teams, Mattermost and Opsgenie accept every message, whatever an alert contains."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from otel_resilience import Severity
from otel_resilience.alerting.channels import (
    Channel,
    ChannelError,
    DiscordChannel,
    MattermostChannel,
    OpsgenieChannel,
    TeamsChannel,
    discord,
    email,
    log,
    mattermost,
    opsgenie,
    pagerduty,
    slack,
    teams,
)
from otel_resilience.alerting.channels.pagerduty import dedup_key
from otel_resilience.alerting.model.alert import Links, Notification
from otel_resilience.alerting.model.digest import digest
from otel_resilience.redaction import redact
from support.alert_chats import (
    API_KEY,
    FakeChat,
    FakeOpsgenie,
    check_discord,
    check_mattermost,
    check_opsgenie,
    check_teams,
)
from support.alert_receivers import served
from support.notifications import SAMPLES, notification

Check = Callable[[Any], None]
CHATS: list[tuple[Callable[[str], Channel], Check, int]] = [
    (DiscordChannel, check_discord, 204),
    (TeamsChannel, check_teams, 202),
    (MattermostChannel, check_mattermost, 200),
]
BUILDERS: list[tuple[Callable[[Notification], Any], Check]] = [
    (discord.build_message, check_discord),
    (teams.build_message, check_teams),
    (mattermost.build_message, check_mattermost),
    (opsgenie.build_alert, check_opsgenie),
]
EVIL = "@everyone @here @channel <@123> **bold** [x](javascript:alert(1)) `code` \\ # heading ~~ "
PAGES = [field.name for field in dataclasses.fields(Links)]


def long_links(length: int) -> Links:
    """Links with that many characters each."""
    return Links(*(f"https://grafana.example/{name}?".ljust(length, "x") for name in PAGES))


@pytest.mark.parametrize(("make", "check", "status"), CHATS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_a_chat_takes_every_message(make: Callable[[str], Channel], check: Check, status: int, sample: str) -> None:
    with served(FakeChat(check, status)) as receiver:
        make(receiver.url).deliver(SAMPLES[sample], timeout=30)
        assert receiver.failures == []
        assert len(receiver.accepted) == 1


def mail_text(notification: Notification) -> str:
    server = email.read_url("smtp://mail.example/?from=a@shop.example&to=b@shop.example")
    return str(email.build_mail(notification, server).get_content())


@pytest.mark.fault("U5")
@pytest.mark.parametrize(
    "build",
    [build for build, _ in BUILDERS]
    + [slack.build_message, pagerduty.build_event, mail_text, Notification.to_json, log.attributes],
)
def test_every_channel_shows_every_link(build: Callable[[Notification], Any]) -> None:
    links = long_links(60)
    message = json.dumps(build(dataclasses.replace(SAMPLES["firing"], links=links)))
    for url in dataclasses.astuple(links):
        assert url in message


@pytest.mark.parametrize(
    "build",
    [build for build, _ in BUILDERS]
    + [slack.build_message, pagerduty.build_event, mail_text, Notification.to_json, log.attributes],
)
@pytest.mark.parametrize("number", [1, 2])
def test_every_channel_shows_the_environment(build: Callable[[Notification], Any], number: int) -> None:
    """Staging and production may share a receiver: a digest of one of them says which one, too."""
    found = [notification(id=str(n), incident=str(n), environment="staging") for n in range(number)]
    assert "staging" in json.dumps(build(digest(found)))


@pytest.mark.parametrize(("build", "check"), BUILDERS)
@pytest.mark.parametrize("text", [EVIL * 400, "😀" * 9000, "\u202e\x00", "", "e\u0301" * 9000])
@pytest.mark.parametrize("links", [long_links(length) for length in (2500, 2000, 900, 500, 60)])
@pytest.mark.parametrize("severity", Severity)
def test_no_alert_breaks_its_limits(
    build: Callable[[Notification], Any], check: Check, text: str, severity: Severity, links: Links
) -> None:
    sample = SAMPLES["firing"]
    context = {f"{text[:50]}{number}": text for number in range(100)}
    broken = dataclasses.replace(
        sample, title=text, summary=text, dependency=text or None, context=context, severity=severity, links=links
    )
    check(json.loads(json.dumps(build(broken))))


@pytest.mark.parametrize(("make", "check", "status"), CHATS)
def test_its_url_is_masked_wherever_text_is_redacted(make: Callable[[str], Channel], check: Check, status: int) -> None:
    make(f"https://chat.example/hooks/s3cretTokenOf{status}Letters")
    assert f"s3cretTokenOf{status}Letters" not in redact(f"POST /hooks/s3cretTokenOf{status}Letters failed")


@pytest.mark.parametrize(("make", "check", "status"), CHATS)
def test_a_refusal_is_an_error_without_the_url(make: Callable[[str], Channel], check: Check, status: int) -> None:
    with served(FakeChat(check, status)) as receiver:
        receiver.script(404)
        with pytest.raises(ChannelError) as caught:
            make(receiver.url).deliver(SAMPLES["firing"], timeout=30)
    assert caught.value.revoked
    assert receiver.path not in str(caught.value)


class TestOpsgenie:
    def test_it_opens_one_alert_and_closes_it(self) -> None:
        with served(FakeOpsgenie()) as opsgenie_api:
            channel = OpsgenieChannel(API_KEY, url=opsgenie_api.url)
            for sample in ("firing", "escalated"):
                channel.deliver(SAMPLES[sample], timeout=30)
            assert opsgenie_api.open == {dedup_key(SAMPLES["firing"]): 2}
            channel.deliver(SAMPLES["resolved"], timeout=30)
            assert (opsgenie_api.open, opsgenie_api.closed) == ({}, [dedup_key(SAMPLES["firing"])])
            assert opsgenie_api.failures == []

    def test_a_wrong_key_revokes_it_and_is_not_shown(self) -> None:
        with served(FakeOpsgenie()) as opsgenie_api:
            channel = OpsgenieChannel("wrong-key-of-opsgenie", url=opsgenie_api.url)
            with pytest.raises(ChannelError) as caught:
                channel.deliver(SAMPLES["firing"], timeout=30)
        assert caught.value.revoked
        assert "wrong-key" not in str(caught.value) + redact("GenieKey wrong-key-of-opsgenie")

    def test_a_key_is_needed(self) -> None:
        with pytest.raises(ValueError, match="key is needed"):
            OpsgenieChannel(" ")
