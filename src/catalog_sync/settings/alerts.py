"""The ``ERROR_ALERT_*`` variables, and readers for those that are small tables: escalation steps and silences."""

from __future__ import annotations

import math
from typing import Final

from catalog_sync.domain.times import epoch
from catalog_sync.settings import values
from catalog_sync.settings.values import Secret
from catalog_sync.settings.variables import VariableGroup, variable
from otel_resilience import Severity
from otel_resilience.alerting.channels.template import MessageTemplate
from otel_resilience.alerting.model.config import EscalationStep, Silence

CHANNELS: Final = (
    "pagerduty", "opsgenie", "discord", "teams", "mattermost", "email", "slack", "webhook", "fallback",
    "webhook-low", "webhook-medium", "webhook-high", "webhook-critical",
)  # fmt: skip
"""The names of all channels that the settings can configure."""
_STEPS: Final = (
    "steps separated by semicolons, each with after= (seconds) or returns= (a number), and optionally severity= and"
    f" channels= joined by +, out of {', '.join(CHANNELS)}; or none"
)
_SILENCES: Final = (
    "silences separated by semicolons, each with any of kind=, dependency=, error_type=, severity=, and until= a time"
    " as in RFC 3339; or none"
)


def escalation(text: str) -> tuple[EscalationStep, ...]:
    """The escalation table."""
    if text.strip().lower() == "none":
        return ()
    return tuple(_step(entry) for entry in _entries(text, {"after", "returns", "severity", "channels"}, _STEPS))


def silences(text: str) -> tuple[Silence, ...]:
    """Alerts for which no notification is sent."""
    if text.strip().lower() == "none":
        return ()
    allowed = {"kind", "dependency", "error_type", "severity", "until"}
    return tuple(_silence(entry) for entry in _entries(text, allowed, _SILENCES))


def _step(entry: dict[str, str]) -> EscalationStep:
    channels = tuple(name for name in entry.get("channels", "").lower().split("+") if name)
    if not set(channels).issubset(CHANNELS):
        raise ValueError(_STEPS)
    try:
        return EscalationStep(
            after=float(entry["after"]) if "after" in entry else None,
            returns=int(entry["returns"]) if "returns" in entry else None,
            severity=Severity(entry["severity"].upper()) if "severity" in entry else None,
            channels=channels,
        )
    except ValueError:
        raise ValueError(_STEPS) from None


def _silence(entry: dict[str, str]) -> Silence:
    try:
        return Silence(
            kind=entry.get("kind"),
            dependency=entry.get("dependency"),
            error_type=entry.get("error_type"),
            severity=Severity(entry["severity"].upper()) if "severity" in entry else None,
            until=epoch(entry["until"]) if "until" in entry else math.inf,
        )
    except ValueError:
        raise ValueError(_SILENCES) from None


def _entries(text: str, allowed: set[str], message: str) -> list[dict[str, str]]:
    entries = []
    for part in text.split(";"):
        words = part.replace(",", " ").split()
        pairs = [word.partition("=") for word in words]
        entry = {name.lower(): value for name, equals, value in pairs if equals and value}
        if len(entry) != len(words) or not allowed.issuperset(entry):
            raise ValueError(message)
        if entry:
            entries.append(entry)
    return entries


class AlertSettings(VariableGroup):
    """The ``ERROR_ALERT_*`` variables. Times in seconds."""

    webhook_url: Secret | None = variable("ERROR_ALERT_WEBHOOK_URL", values.secret_url)
    """Webhook for alerts; for a Slack host, Slack's format is used."""
    rate_limit: float = variable("ERROR_ALERT_RATE_LIMIT", values.milliseconds(zero=True), "60000", "ms")
    """Minimum time between two notifications of one incident."""
    slack_webhook_url: Secret | None = variable("ERROR_ALERT_SLACK_WEBHOOK_URL", values.secret_url)
    """Slack webhook for alerts."""
    pagerduty_routing_key: Secret | None = variable("ERROR_ALERT_PAGERDUTY_ROUTING_KEY", values.secret)
    """PagerDuty routing key for alerts."""
    pagerduty_url: str = variable(
        "ERROR_ALERT_PAGERDUTY_URL", values.web_url, "https://events.pagerduty.com/v2/enqueue"
    )
    """URL to which PagerDuty events are sent."""
    opsgenie_api_key: Secret | None = variable("ERROR_ALERT_OPSGENIE_API_KEY", values.secret)
    """Opsgenie or Jira Service Management: key of an API integration."""
    opsgenie_url: str = variable("ERROR_ALERT_OPSGENIE_URL", values.web_url, "https://api.opsgenie.com/v2/alerts")
    """URL to which Opsgenie alerts are sent; in the EU `https://api.eu.opsgenie.com/v2/alerts`."""
    discord_webhook_url: Secret | None = variable("ERROR_ALERT_DISCORD_WEBHOOK_URL", values.secret_url)
    """Discord webhook for alerts."""
    teams_webhook_url: Secret | None = variable("ERROR_ALERT_TEAMS_WEBHOOK_URL", values.secret_url)
    """Microsoft Teams: webhook of a workflow for alerts."""
    mattermost_webhook_url: Secret | None = variable("ERROR_ALERT_MATTERMOST_WEBHOOK_URL", values.secret_url)
    """Mattermost or Rocket.Chat webhook for alerts."""
    email: Secret | None = variable("ERROR_ALERT_EMAIL", values.mail_url)
    """Mail server, sender and recipients: `smtp://user:password@host:587/?from=a@b.example&to=c@d.example,e@f.example`.
    `smtp://` uses STARTTLS, `smtps://` uses TLS from the start."""
    webhook_secret: Secret | None = variable("ERROR_ALERT_WEBHOOK_SECRET", values.secret)
    """Key that signs the generic webhook."""
    webhook_template: MessageTemplate | None = variable("ERROR_ALERT_WEBHOOK_TEMPLATE", values.message_template)
    """Message of your own for the generic webhook: a JSON object with `{{ field }}` placeholders, or the path of a file
    that contains one; see docs/alerting-channels.md."""
    min_severity: Severity = variable("ERROR_ALERT_MIN_SEVERITY", values.severity, "HIGH")
    """Minimum severity to notify: `LOW`, `MEDIUM`, `HIGH`, `CRITICAL`."""
    webhook_url_low: Secret | None = variable("ERROR_ALERT_WEBHOOK_URL_LOW", values.secret_url)
    """An additional webhook, for LOW alerts only."""
    webhook_url_medium: Secret | None = variable("ERROR_ALERT_WEBHOOK_URL_MEDIUM", values.secret_url)
    """An additional webhook, for MEDIUM alerts only."""
    webhook_url_high: Secret | None = variable("ERROR_ALERT_WEBHOOK_URL_HIGH", values.secret_url)
    """An additional webhook, for HIGH alerts only."""
    webhook_url_critical: Secret | None = variable("ERROR_ALERT_WEBHOOK_URL_CRITICAL", values.secret_url)
    """An additional webhook, for CRITICAL alerts only."""
    fallback_webhook_url: Secret | None = variable("ERROR_ALERT_FALLBACK_WEBHOOK_URL", values.secret_url)
    """Webhook that is used when another channel fails; for a Slack host, Slack's format is used."""
    group_wait: float = variable("ERROR_ALERT_GROUP_WAIT_S", values.number(0, 3600, unit="seconds"), "5", "s")
    """How long the first message of an incident waits for further alerts; CRITICAL messages do not wait."""
    keep_firing: float = variable("ERROR_ALERT_KEEP_FIRING_S", values.number(0, 86_400, unit="seconds"), "300", "s")
    """How long an incident must be quiet before it is resolved; a COMPLETE sync ends incidents about the supplier at
    once."""
    repeat: float = variable(
        "ERROR_ALERT_REPEAT_S", values.number(0, 604_800, exclusive=True, unit="seconds"), "14400", "s"
    )
    """Time after its last message at which an ongoing incident is notified again."""
    window: float = variable(
        "ERROR_ALERT_WINDOW_S", values.number(0, 86_400, exclusive=True, unit="seconds"), "60", "s"
    )
    """Window of the thresholds `ERROR_ALERT_HIGH_THRESHOLD` and `ERROR_ALERT_MEDIUM_THRESHOLD`."""
    high_threshold: int = variable("ERROR_ALERT_HIGH_THRESHOLD", values.whole(0, 1_000_000), "5", "errors")
    """Number of HIGH errors within the window that raises an alert; `0` means never. A CRITICAL error always raises
    one."""
    medium_threshold: int = variable("ERROR_ALERT_MEDIUM_THRESHOLD", values.whole(0, 1_000_000), "50", "errors")
    """The same for MEDIUM errors; needs `ERROR_ALERT_MIN_SEVERITY=MEDIUM` or lower."""
    partial_threshold: int = variable("ERROR_ALERT_PARTIAL_THRESHOLD", values.whole(1, 1000), "2", "syncs")
    """Number of PARTIAL syncs in a row that raises an alert."""
    escalation: tuple[EscalationStep, ...] = variable("ERROR_ALERT_ESCALATION", escalation, "after=3600; returns=3")
    """Escalation steps of an incident, separated by semicolons. Each has `after=` (seconds) or `returns=` (how often it
    was reopened), and optionally `severity=` (by default one step up) and `channels=` with names joined by `+`
    (`pagerduty`, `opsgenie`, `discord`, `teams`, `mattermost`, `email`, `slack`, `webhook`, `fallback`). `none` means
    no steps."""
    silences: tuple[Silence, ...] = variable("ERROR_ALERT_SILENCES", silences, "none")
    """Alerts that are not notified, separated by semicolons. Each has any of `kind=`, `dependency=`, `error_type=` and
    `severity=`, and `until=` with an RFC 3339 time. `none` means that nothing is silenced."""
    heartbeat_url: Secret | None = variable("ERROR_ALERT_HEARTBEAT_URL", values.secret_url)
    """URL of a dead man's switch, requested after each COMPLETE sync."""
    trace_url: str | None = variable("ERROR_ALERT_TRACE_URL", values.template("trace_id", required=True))
    """Link to a trace, with `{trace_id}`."""
    dashboard_url: str | None = variable("ERROR_ALERT_DASHBOARD_URL", values.template("name"))
    """Link to a dashboard; may contain `{name}`."""
    runbook_url: str | None = variable("ERROR_ALERT_RUNBOOK_URL", values.template("name"))
    """Link to a runbook; may contain `{name}`."""
