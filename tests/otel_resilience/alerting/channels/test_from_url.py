"""Which channel a URL creates, and that nothing is imported before that."""

from __future__ import annotations

import subprocess
import sys

import pytest

from otel_resilience.alerting import channels
from otel_resilience.alerting.channels import SlackChannel, WebhookChannel, from_url


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T0/B0/x",
        "https://HOOKS.Slack.com/services/T0/B0/x",
        "https://hooks.slack.com:443/services/T0/B0/x",
        "https://hooks.slack-gov.com/services/T0/B0/x",
    ],
)
def test_slacks_own_hosts_get_slacks_format(url: str) -> None:
    channel = from_url(url, secret="not used by slack")
    assert isinstance(channel, SlackChannel)
    assert channel.name == "slack"


@pytest.mark.parametrize(
    "url",
    [
        "https://alerts.example/hooks.slack.com",
        "https://hooks.slack.com.example/services/T0/B0/x",
        "https://my-hooks.slack.com/services/T0/B0/x",
        "https://slack.com/services/T0/B0/x",
        "https://hooks.slack.com@alerts.example/services/T0/B0/x",
        "https://alerts.example/?to=https://hooks.slack.com/",
        "http://127.0.0.1:8080/alerts",
    ],
)
def test_any_other_host_gets_the_generic_format(url: str) -> None:
    channel = from_url(url)
    assert isinstance(channel, WebhookChannel)
    assert channel.name == "webhook"


def test_a_name_of_your_own() -> None:
    assert from_url("https://hooks.slack.com/services/T0/B0/x", name="ops").name == "ops"
    assert from_url("https://alerts.example/", name="fallback").name == "fallback"


def test_a_broken_url_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="URL of an alert channel") as caught:
        from_url("hooks.slack.com/services/T0/B0/s3cr3t")
    assert "s3cr3t" not in str(caught.value)


def test_every_name_is_there_when_asked_for() -> None:
    for name in channels.__all__:
        assert getattr(channels, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'FaxChannel'"):
        getattr(channels, "FaxChannel")  # noqa: B009  # a type checker knows that it is not there


def test_httpx_is_imported_when_a_channel_is_made_and_not_before() -> None:
    script = """
import sys
import otel_resilience.alerting.channels as channels
channels.LogChannel(), channels.SlackChannel
assert "httpx" not in sys.modules
channels.from_url("https://alerts.example/")
assert "httpx" in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
