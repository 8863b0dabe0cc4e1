"""Which channels follow from the settings."""

from __future__ import annotations

import pytest

from catalog_sync.alerts.routes import routes
from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings.alerts import CHANNELS
from catalog_sync.settings.settings import Settings
from otel_resilience import Severity
from otel_resilience.alerting.channels import (
    DiscordChannel,
    EmailChannel,
    LogChannel,
    MattermostChannel,
    OpsgenieChannel,
    PagerDutyChannel,
    SlackChannel,
    TeamsChannel,
    WebhookChannel,
)
from otel_resilience.redaction import redact

SLACK = "https://hooks.slack.com/services/T000/B000/XXXXXXXX"
HOOK = "https://alerts.example/hook"
MAIL = "smtp://user:s3cret-of-mail@mail.example/?from=a@shop.example&to=b@shop.example"


def channels(**variables: str) -> dict[str, type]:
    settings = Settings.from_env({f"ERROR_ALERT_{name}": value for name, value in variables.items()})
    return {route.name: type(route.channel) for route in routes(settings.alerts)}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"log": LogChannel}),
        ({"WEBHOOK_URL": HOOK}, {"webhook": WebhookChannel}),
        ({"WEBHOOK_URL": SLACK}, {"slack": SlackChannel}),
        ({"WEBHOOK_URL": "https://hooks.slack.com.example/x"}, {"webhook": WebhookChannel}),
        ({"SLACK_WEBHOOK_URL": "http://127.0.0.1:1/services/x"}, {"slack": SlackChannel}),
        ({"SLACK_WEBHOOK_URL": SLACK, "WEBHOOK_URL": SLACK}, {"slack": SlackChannel}),
        ({"SLACK_WEBHOOK_URL": SLACK, "WEBHOOK_URL": SLACK + "2"}, {"slack": SlackChannel, "webhook": SlackChannel}),
        ({"PAGERDUTY_ROUTING_KEY": "R0UTING"}, {"pagerduty": PagerDutyChannel}),
        ({"OPSGENIE_API_KEY": "0PSGEN1E"}, {"opsgenie": OpsgenieChannel}),
        ({"DISCORD_WEBHOOK_URL": HOOK}, {"discord": DiscordChannel}),
        ({"TEAMS_WEBHOOK_URL": HOOK}, {"teams": TeamsChannel}),
        (
            {"MATTERMOST_WEBHOOK_URL": HOOK, "WEBHOOK_URL": HOOK},
            {"mattermost": MattermostChannel, "webhook": WebhookChannel},
        ),
        ({"EMAIL": MAIL}, {"email": EmailChannel}),
        ({"FALLBACK_WEBHOOK_URL": HOOK}, {"log": LogChannel, "fallback": WebhookChannel}),
        ({"WEBHOOK_URL_CRITICAL": HOOK}, {"webhook-critical": WebhookChannel}),
    ],
)
def test_a_slack_host_gets_slacks_format_any_other_the_generic_one(
    variables: dict[str, str], expected: dict[str, type]
) -> None:
    assert channels(**variables) == expected
    assert expected.keys() - {"log"} <= set(CHANNELS), "an escalation step can name every channel"


def test_a_url_for_one_severity_gets_that_one_alone() -> None:
    settings = Settings.from_env({"ERROR_ALERT_WEBHOOK_URL": HOOK, "ERROR_ALERT_WEBHOOK_URL_CRITICAL": HOOK + "/pager"})
    by_name = {route.name: route for route in routes(settings.alerts)}
    assert by_name["webhook"].only is None
    assert by_name["webhook-critical"].only == frozenset({Severity.CRITICAL})


def test_a_mail_address_that_is_not_one_is_named_but_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="ERROR_ALERT_EMAIL") as caught:
        channels(EMAIL=MAIL.replace("&to=", "&cc="))
    assert "s3cret-of-mail" not in str(caught.value)


def test_the_password_of_a_mail_server_is_masked() -> None:
    Settings.from_env({"ERROR_ALERT_EMAIL": MAIL})
    assert "s3cret-of-mail" not in redact("AUTH user s3cret-of-mail")
