"""Which channels the settings make."""

from __future__ import annotations

import pytest

from catalog_sync.alerts.routes import routes
from catalog_sync.settings.settings import Settings
from otel_resilience import Severity
from otel_resilience.alerting.channels import LogChannel, PagerDutyChannel, SlackChannel, WebhookChannel

SLACK = "https://hooks.slack.com/services/T000/B000/XXXXXXXX"
HOOK = "https://alerts.example/hook"


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
        ({"FALLBACK_WEBHOOK_URL": HOOK}, {"log": LogChannel, "fallback": WebhookChannel}),
        ({"WEBHOOK_URL_CRITICAL": HOOK}, {"webhook-critical": WebhookChannel}),
    ],
)
def test_a_slack_host_gets_slacks_format_any_other_the_generic_one(
    variables: dict[str, str], expected: dict[str, type]
) -> None:
    assert channels(**variables) == expected


def test_a_url_for_one_severity_gets_that_one_alone() -> None:
    settings = Settings.from_env({"ERROR_ALERT_WEBHOOK_URL": HOOK, "ERROR_ALERT_WEBHOOK_URL_CRITICAL": HOOK + "/pager"})
    by_name = {route.name: route for route in routes(settings.alerts)}
    assert by_name["webhook"].only is None
    assert by_name["webhook-critical"].only == frozenset({Severity.CRITICAL})
