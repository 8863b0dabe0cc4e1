"""Every environment variable: its meaning, what is allowed, and the message for a wrong value."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import NoReturn

import certifi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools import settings as config_docs

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings.settings import VARIABLES, Secret, Settings, default_state_dir
from otel_resilience import Jitter, Policy, Severity
from otel_resilience.alerting.model.config import EscalationStep, Silence

ROOT = Path(__file__).parents[2]
HOME = {"HOME": "/home/someone"}

GOOD = [
    ("ESIM_GO_API_KEY", "k-12345", lambda s: s.api_key.reveal(), "k-12345"),
    ("ESIM_GO_API_KEY", "  k-12345\n", lambda s: s.api_key.reveal(), "k-12345"),
    ("ESIM_GO_BASE_URL", "http://127.0.0.1:8080/v2.5/", lambda s: s.base_url, "http://127.0.0.1:8080/v2.5"),
    ("ESIM_GO_CA_FILE", certifi.where(), lambda s: s.ca_file, Path(certifi.where())),
    ("ESIM_GO_PROXY", "http://u:p@proxy.example:3128", lambda s: s.proxy, "http://u:p@proxy.example:3128"),
    ("CATALOG_KEY_PREFIX", "shop:", lambda s: s.key_prefix, "shop:"),
    ("REDIS_URL", "redis://:secret@cache:6379/1", lambda s: s.redis_url, "redis://:secret@cache:6379/1"),
    ("REDIS_URL", "rediss://cache", lambda s: s.redis_url, "rediss://cache"),
    ("REDIS_URL", "unix:///run/redis.sock", lambda s: s.redis_url, "unix:///run/redis.sock"),
    ("REDIS_URL", "unix:///r.sock?db=3", lambda s: s.redis_url, "unix:///r.sock?db=3"),
    ("REDIS_URL", "rediss://h?ssl_cert_reqs=none", lambda s: s.redis_url, "rediss://h?ssl_cert_reqs=none"),
    ("CATALOG_STATE_DIR", "/var/lib/never-made", lambda s: s.state_dir, Path("/var/lib/never-made")),
    ("ERROR_RETRY_MAX_ATTEMPTS", "1", lambda s: s.retry.max_attempts, 1),
    ("ERROR_RETRY_BASE_DELAY", "0", lambda s: s.retry.base_delay, 0.0),
    ("ERROR_RETRY_BASE_DELAY", "250.5", lambda s: s.retry.base_delay, 0.2505),
    ("ERROR_RETRY_MAX_DELAY", "2e3", lambda s: s.retry.max_delay, 2.0),
    ("ERROR_RETRY_EXPONENTIAL_BASE", "1.5", lambda s: s.retry.exponential_base, 1.5),
    ("ERROR_RETRY_JITTER", "false", lambda s: s.retry.jitter, Jitter.NONE),
    ("ERROR_RETRY_JITTER", "ON", lambda s: s.retry.jitter, Jitter.FULL),
    ("ERROR_RETRY_JITTER", "0", lambda s: s.retry.jitter, Jitter.NONE),
    ("ERROR_RETRY_JITTER", "yes", lambda s: s.retry.jitter, Jitter.FULL),
    ("ERROR_RETRY_JITTER", "equal", lambda s: s.retry.jitter, Jitter.EQUAL),
    ("ERROR_CIRCUIT_BREAKER_THRESHOLD", "3", lambda s: s.breaker.failure_threshold, 3),
    ("ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT", "1500", lambda s: s.breaker.reset_timeout, 1.5),
    ("ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD", "120000", lambda s: s.breaker.monitoring_period, 120.0),
    ("ERROR_ALERT_WEBHOOK_URL", "https://h.example/x", lambda s: s.alerts.webhook_url.reveal(), "https://h.example/x"),
    ("ERROR_ALERT_RATE_LIMIT", "0", lambda s: s.alerts.rate_limit, 0.0),
    ("ERROR_ALERT_SLACK_WEBHOOK_URL", "https://s.example/x", lambda s: bool(s.alerts.slack_webhook_url), True),
    ("ERROR_ALERT_PAGERDUTY_ROUTING_KEY", "R012345", lambda s: s.alerts.pagerduty_routing_key.reveal(), "R012345"),
    ("ERROR_ALERT_PAGERDUTY_URL", "http://127.0.0.1:1/e", lambda s: s.alerts.pagerduty_url, "http://127.0.0.1:1/e"),
    ("ERROR_ALERT_OPSGENIE_API_KEY", "og-key-1", lambda s: s.alerts.opsgenie_api_key.reveal(), "og-key-1"),
    ("ERROR_ALERT_OPSGENIE_URL", "https://o.example/v2", lambda s: s.alerts.opsgenie_url, "https://o.example/v2"),
    ("ERROR_ALERT_DISCORD_WEBHOOK_URL", "https://d.example/x", lambda s: bool(s.alerts.discord_webhook_url), True),
    ("ERROR_ALERT_TEAMS_WEBHOOK_URL", "https://t.example/x", lambda s: bool(s.alerts.teams_webhook_url), True),
    ("ERROR_ALERT_MATTERMOST_WEBHOOK_URL", "https://m.example", lambda s: bool(s.alerts.mattermost_webhook_url), True),
    (
        "ERROR_ALERT_EMAIL",
        "smtp://mail.example/?from=a@shop.example&to=b@shop.example",
        lambda s: s.alerts.email.reveal(),
        "smtp://mail.example/?from=a@shop.example&to=b@shop.example",
    ),
    ("ERROR_ALERT_WEBHOOK_SECRET", "signing-key", lambda s: s.alerts.webhook_secret.reveal(), "signing-key"),
    ("ERROR_ALERT_MIN_SEVERITY", "low", lambda s: s.alerts.min_severity, Severity.LOW),
    ("ERROR_ALERT_HEARTBEAT_URL", "https://hc.example/1", lambda s: s.alerts.heartbeat_url.reveal(), "https://hc.example/1"),
    ("ERROR_ALERT_WEBHOOK_URL_LOW", "https://h.example/l", lambda s: bool(s.alerts.webhook_url_low), True),
    ("ERROR_ALERT_WEBHOOK_URL_MEDIUM", "https://h.example/m", lambda s: bool(s.alerts.webhook_url_medium), True),
    ("ERROR_ALERT_WEBHOOK_URL_HIGH", "https://h.example/h", lambda s: bool(s.alerts.webhook_url_high), True),
    ("ERROR_ALERT_WEBHOOK_URL_CRITICAL", "https://h.example/c", lambda s: bool(s.alerts.webhook_url_critical), True),
    ("ERROR_ALERT_FALLBACK_WEBHOOK_URL", "https://h.example/f", lambda s: bool(s.alerts.fallback_webhook_url), True),
    ("ERROR_ALERT_GROUP_WAIT_S", "0", lambda s: s.alerts.group_wait, 0.0),
    ("ERROR_ALERT_KEEP_FIRING_S", "60", lambda s: s.alerts.keep_firing, 60.0),
    ("ERROR_ALERT_REPEAT_S", "7200", lambda s: s.alerts.repeat, 7200.0),
    ("ERROR_ALERT_WINDOW_S", "30", lambda s: s.alerts.window, 30.0),
    ("ERROR_ALERT_HIGH_THRESHOLD", "0", lambda s: s.alerts.high_threshold, 0),
    ("ERROR_ALERT_MEDIUM_THRESHOLD", "9", lambda s: s.alerts.medium_threshold, 9),
    ("ERROR_ALERT_PARTIAL_THRESHOLD", "1", lambda s: s.alerts.partial_threshold, 1),
    ("ERROR_ALERT_ESCALATION", "none", lambda s: s.alerts.escalation, ()),
    (
        "ERROR_ALERT_ESCALATION",
        "after=60 severity=critical channels=pagerduty+slack; returns=2",
        lambda s: s.alerts.escalation,
        (
            EscalationStep(after=60, severity=Severity.CRITICAL, channels=("pagerduty", "slack")),
            EscalationStep(returns=2),
        ),
    ),
    (
        "ERROR_ALERT_SILENCES",
        "kind=sync_partial; dependency=redis, error_type=redis_oom, until=1970-01-01T00:01:00Z",
        lambda s: s.alerts.silences,
        (Silence(kind="sync_partial"), Silence(dependency="redis", error_type="redis_oom", until=60.0)),
    ),
    ("ERROR_ALERT_WEBHOOK_TEMPLATE", '{"text": "{{ title }}"}', lambda s: s.alerts.webhook_template is None, False),
    ("ERROR_ALERT_TRACE_URL", "http://g/t/{trace_id}", lambda s: s.alerts.trace_url, "http://g/t/{trace_id}"),
    ("ERROR_ALERT_DASHBOARD_URL", "http://g/d/{name}", lambda s: s.alerts.dashboard_url, "http://g/d/{name}"),
    ("ERROR_ALERT_DASHBOARD_URL", "http://g/d", lambda s: s.alerts.dashboard_url, "http://g/d"),
    ("ERROR_ALERT_RUNBOOK_URL", "http://g/r/{name}", lambda s: s.alerts.runbook_url, "http://g/r/{name}"),
    ("CATALOG_ATTEMPT_TIMEOUT_MS", "2500", lambda s: s.attempt_timeout, 2.5),
    ("CATALOG_SYNC_DEADLINE_MS", "60000", lambda s: s.sync_deadline, 60.0),
    ("CATALOG_PAGE_SIZE", "100", lambda s: s.page_size, 100),
    ("CATALOG_SUPPLIER_RATE_PER_S", "0", lambda s: s.supplier_rate, 0.0),
    ("CATALOG_SUPPLIER_RATE_PER_S", "2.5", lambda s: s.supplier_rate, 2.5),
    ("CATALOG_MAX_BAD_ROW_RATIO", "1", lambda s: s.max_bad_row_ratio, 1.0),
    ("CATALOG_MAX_DROP_RATIO", "0", lambda s: s.max_drop_ratio, 0.0),
    ("CATALOG_STALE_AFTER_S", "60", lambda s: s.stale_after, 60.0),
    ("CATALOG_SYNC_EVERY_S", "90", lambda s: s.sync_every, 90.0),
    ("CATALOG_MAX_BODY_BYTES", "1024", lambda s: s.max_body_bytes, 1024),
    ("CATALOG_API_HOST", "0.0.0.0", lambda s: s.api.host, "0.0.0.0"),
    ("CATALOG_API_PORT", "0", lambda s: s.api.port, 0),
    ("CATALOG_API_PUBLIC_URL", "https://c.example/x/", lambda s: s.api.public_url, "https://c.example/x"),
    ("CATALOG_API_TOKEN", "token-1234567", lambda s: s.api.token.reveal(), "token-1234567"),
    ("CATALOG_API_OPEN_READS", "yes", lambda s: s.api.open_reads, True),
    ("CATALOG_API_TRACE_FROM", "Token", lambda s: s.api.trace_from, "token"),
    ("CATALOG_API_MAX_CONCURRENCY", "1", lambda s: s.api.max_concurrency, 1),
    ("CATALOG_API_MAX_STREAMS", "1", lambda s: s.api.max_streams, 1),
    ("CATALOG_API_MAX_REQUESTS_PER_CLIENT", "1", lambda s: s.api.max_requests_per_client, 1),
    ("CATALOG_API_MAX_STREAMS_PER_CLIENT", "1", lambda s: s.api.max_streams_per_client, 1),
    ("CATALOG_API_TRUSTED_PROXIES", "10.1.0.0/16", lambda s: str(s.api.trusted_proxies[0]), "10.1.0.0/16"),
    ("CATALOG_TRACE_REDIS_FROM_MS", "0", lambda s: s.trace_redis_from, 0.0),
    ("CATALOG_API_MAX_BODY_BYTES", "1024", lambda s: s.api.max_body_bytes, 1024),
    ("CATALOG_JOB_LEASE_MS", "2500", lambda s: s.job_lease, 2.5),
    ("CATALOG_JOBS", "Workers", lambda s: s.jobs, "workers"),
    ("CATALOG_SYNC_EVERY_S", "0", lambda s: s.sync_every, 0.0),
    ("CATALOG_WORKERS", "4", lambda s: s.workers, 4),
    ("CATALOG_ENVIRONMENT", "production-eu.1", lambda s: s.environment, "production-eu.1"),
    ("CATALOG_ENV_FILE", "None", lambda s: s.env_file, None),
    ("CATALOG_ENV_FILE", "other.env", lambda s: s.env_file, Path("other.env")),
    ("CATALOG_TRACE_HEADERS_TO", "*", lambda s: s.trace_headers_to, ("*",)),
    ("CATALOG_TRACE_HEADERS_TO", "A.example., [::1] ,b", lambda s: s.trace_headers_to, ("a.example", "::1", "b")),
]  # fmt: skip

NO_NUMBER = ("abc", "nan", "inf", "-inf", "-1", "1,5", "1_000", "0x10", "1e400", "٣", "")
BAD = {
    "ESIM_GO_API_KEY": ("two words", "line\nbreak", "ключ"),
    "ESIM_GO_BASE_URL": (
        *("api.esim-go.com", "ftp://x/y", "http://", "http://h:99999/", "http://h/?key=1", "http://[::1/"),
        "http://h:0/",
    ),
    "ESIM_GO_CA_FILE": ("/nowhere/ca.pem", __file__, "/"),
    "ESIM_GO_PROXY": ("proxy:3128", "socks5://proxy:1080", "http://proxy:3128/path", "http://"),
    "CATALOG_KEY_PREFIX": ("{cat}", "two words", "x" * 65, "shop*"),
    "REDIS_URL": (
        *("cache:6379", "http://cache", "redis://", "redis://cache/zero", "unix://", "redis://h:port", "redis://h:0/7"),
        *("redis://h?decode_responses=true", "redis://h?socket_timeout=soon", "redis://h?max_connections=1"),
        *("redis://h?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=perhaps", "rediss://h?ssl_ca_certs=/nowhere"),
        *("unix:///run/r.sock?db=one", "redis://user:12#34@h", "redis://user:12?34@h"),
        "rediss://h?ssl_cert_reqs=none&ssl_cert_reqs=required",
    ),
    "CATALOG_STATE_DIR": (__file__, "nul\0byte"),
    "ERROR_RETRY_MAX_ATTEMPTS": (*NO_NUMBER, "0", "2.5", "101"),
    "ERROR_RETRY_BASE_DELAY": (*NO_NUMBER, "99999999999"),
    "ERROR_RETRY_MAX_DELAY": NO_NUMBER,
    "ERROR_RETRY_EXPONENTIAL_BASE": (*NO_NUMBER, "0.5"),
    "ERROR_RETRY_JITTER": ("maybe", "2", "-1"),
    "ERROR_CIRCUIT_BREAKER_THRESHOLD": (*NO_NUMBER, "0"),
    "ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT": (*NO_NUMBER, "0"),
    "ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD": (*NO_NUMBER, "0"),
    "ERROR_ALERT_WEBHOOK_URL": ("hook", "mailto:a@b"),
    "ERROR_ALERT_RATE_LIMIT": NO_NUMBER,
    "ERROR_ALERT_SLACK_WEBHOOK_URL": ("hooks.slack.com/x", "slack://x"),
    "ERROR_ALERT_PAGERDUTY_ROUTING_KEY": ("with space",),
    "ERROR_ALERT_PAGERDUTY_URL": ("events.pagerduty.com",),
    "ERROR_ALERT_OPSGENIE_API_KEY": ("with space",),
    "ERROR_ALERT_OPSGENIE_URL": ("api.opsgenie.com",),
    "ERROR_ALERT_DISCORD_WEBHOOK_URL": ("discord.com/api/webhooks/1", "discord://x"),
    "ERROR_ALERT_TEAMS_WEBHOOK_URL": ("teams.example/x",),
    "ERROR_ALERT_MATTERMOST_WEBHOOK_URL": ("chat.example/hooks/x",),
    "ERROR_ALERT_EMAIL": ("oncall@shop.example", "https://mail.example/", "smtp://mail.example/?from=a@shop.example"),
    "ERROR_ALERT_WEBHOOK_SECRET": ("with\ttab",),
    "ERROR_ALERT_MIN_SEVERITY": ("URGENT", "3"),
    "ERROR_ALERT_WEBHOOK_URL_LOW": ("hook",),
    "ERROR_ALERT_WEBHOOK_URL_MEDIUM": ("hook",),
    "ERROR_ALERT_WEBHOOK_URL_HIGH": ("hook",),
    "ERROR_ALERT_WEBHOOK_URL_CRITICAL": ("hook",),
    "ERROR_ALERT_FALLBACK_WEBHOOK_URL": ("hook",),
    "ERROR_ALERT_GROUP_WAIT_S": NO_NUMBER,
    "ERROR_ALERT_KEEP_FIRING_S": NO_NUMBER,
    "ERROR_ALERT_REPEAT_S": (*NO_NUMBER, "0"),
    "ERROR_ALERT_WINDOW_S": (*NO_NUMBER, "0"),
    "ERROR_ALERT_HIGH_THRESHOLD": ("-1", "1.5"),
    "ERROR_ALERT_MEDIUM_THRESHOLD": ("-1", "1.5"),
    "ERROR_ALERT_PARTIAL_THRESHOLD": ("0", "x"),
    "ERROR_ALERT_ESCALATION": (
        *("3600", "after=soon", "after=1 returns=2", "after=60 severity=LOUD", "severity=HIGH"),
        *("after=60 channels=pager-duty", "after=60 channels=Slack+e-mail"),
    ),
    "ERROR_ALERT_SILENCES": ("until=2026-01-01T00:00:00Z", "host=x", "kind=a until=tomorrow", "until=2026-01-01"),
    "ERROR_ALERT_HEARTBEAT_URL": ("hc.example",),
    "ERROR_ALERT_TRACE_URL": ("http://g/t", "http://g/{other}", "http://g/{trace_id", "g/{trace_id}", "http://g/{trace_id!r}",
        "http://me:pass@g/{trace_id}"),
    "ERROR_ALERT_WEBHOOK_TEMPLATE": ("no such file", '{"text": "{{ titel }}"}', '{"text": }', '{"{{ id }}": 1}'),
    "ERROR_ALERT_DASHBOARD_URL": ("http://g/{trace_id}", "g", "http://me@g/d"),
    "ERROR_ALERT_RUNBOOK_URL": ("http://g/{}", "file:///etc/passwd"),
    "CATALOG_ATTEMPT_TIMEOUT_MS": (*NO_NUMBER, "0"),
    "CATALOG_SYNC_DEADLINE_MS": (*NO_NUMBER, "0"),
    "CATALOG_PAGE_SIZE": (*NO_NUMBER, "0"),
    "CATALOG_SUPPLIER_RATE_PER_S": NO_NUMBER,
    "CATALOG_MAX_BAD_ROW_RATIO": (*NO_NUMBER, "1.1"),
    "CATALOG_MAX_DROP_RATIO": (*NO_NUMBER, "5"),
    "CATALOG_STALE_AFTER_S": NO_NUMBER,
    "CATALOG_MAX_BODY_BYTES": (*NO_NUMBER, "10"),
    "CATALOG_API_HOST": ("http://h", "h:80"),
    "CATALOG_API_PORT": (*NO_NUMBER, "65536"),
    "CATALOG_API_PUBLIC_URL": ("c.example", "https://c.example/?x=1", "https://me:pass@c.example"),
    "CATALOG_API_TOKEN": ("two words", "short-4711"),
    "CATALOG_API_MAX_REQUESTS_PER_CLIENT": (*NO_NUMBER, "0"),
    "CATALOG_API_MAX_STREAMS_PER_CLIENT": (*NO_NUMBER, "0"),
    "CATALOG_TRACE_REDIS_FROM_MS": NO_NUMBER,
    "CATALOG_API_TRUSTED_PROXIES": ("10.0.0.0/33", "proxy.internal"),
    "CATALOG_API_OPEN_READS": ("maybe", "2"),
    "CATALOG_API_TRACE_FROM": ("nobody",),
    "CATALOG_API_MAX_CONCURRENCY": (*NO_NUMBER, "0"),
    "CATALOG_API_MAX_STREAMS": (*NO_NUMBER, "0"),
    "CATALOG_API_MAX_BODY_BYTES": (*NO_NUMBER, "1"),
    "CATALOG_JOB_LEASE_MS": (*NO_NUMBER, "0"),
    "CATALOG_JOBS": ("threads",),
    "CATALOG_SYNC_EVERY_S": NO_NUMBER,
    "CATALOG_WORKERS": (*NO_NUMBER, "0", "65"),
    "CATALOG_ENVIRONMENT": ("a b", "pro:duction", "x" * 64),
    "CATALOG_ENV_FILE": ("nul\0byte",),
    "CATALOG_TRACE_HEADERS_TO": ("http://h", "h:80", "a b", "*.example"),
}  # fmt: skip
BAD_PAIRS = [(name, value) for name, values in BAD.items() for value in values if value]


def test_without_any_variable_the_documented_defaults_hold() -> None:
    settings = Settings.from_env(HOME)
    assert (settings.retry.max_attempts, settings.retry.base_delay, settings.retry.max_delay) == (5, 1.0, 30.0)
    assert (settings.retry.exponential_base, settings.retry.jitter) == (2.0, Jitter.FULL)
    assert (settings.breaker.failure_threshold, settings.breaker.reset_timeout) == (10, 60.0)
    assert settings.breaker.monitoring_period == 60.0
    assert settings.breaker.failure_rate is None
    assert settings.base_url == "https://api.esim-go.com/v2.5"
    assert settings.redis_url is None
    assert (settings.attempt_timeout, settings.sync_deadline) == (10.0, 900.0)
    assert (settings.page_size, settings.supplier_rate, settings.max_body_bytes) == (50, 10.0, 16_777_216)
    assert (settings.max_bad_row_ratio, settings.max_drop_ratio, settings.stale_after) == (0.05, 0.3, 86_400.0)
    assert settings.trace_headers_to == ()
    assert settings.alerts.pagerduty_url == "https://events.pagerduty.com/v2/enqueue"
    assert (settings.alerts.rate_limit, settings.alerts.min_severity) == (60.0, Severity.HIGH)
    assert settings.alerts.webhook_url is None


def test_a_variable_set_to_nothing_counts_as_not_set() -> None:
    assert Settings.from_env({**{variable.name: " " for variable in VARIABLES}, **HOME}) == Settings.from_env(HOME)


@pytest.mark.parametrize(("name", "value", "read", "expected"), GOOD, ids=[f"{row[0]}={row[1]!r}" for row in GOOD])
def test_a_good_value_is_taken(name: str, value: str, read: object, expected: object) -> None:
    assert read(Settings.from_env({name: value, **HOME})) == expected  # type: ignore[operator]


@pytest.mark.parametrize(("name", "value"), BAD_PAIRS, ids=[f"{name}={value!r}" for name, value in BAD_PAIRS])
def test_a_bad_value_is_told_in_one_line_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({name: value, **HOME})
    message = str(caught.value)
    assert message.startswith(f"{name}=")
    assert "must be" in message
    assert "\n" not in message
    secret = next(variable.secret for variable in VARIABLES if variable.name == name)
    assert (value in message) is False if secret else "***" in message or repr(value)[1:20] in message


def test_every_variable_has_a_good_and_a_bad_example_here() -> None:
    names = {variable.name for variable in VARIABLES}
    assert {row[0] for row in GOOD} == names
    assert set(BAD) == names


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        (
            {"ERROR_RETRY_BASE_DELAY": "5000", "ERROR_RETRY_MAX_DELAY": "1000"},
            ("ERROR_RETRY_BASE_DELAY=5000", "ERROR_RETRY_MAX_DELAY=1000"),
        ),
        (
            {"CATALOG_ATTEMPT_TIMEOUT_MS": "30001"},
            ("CATALOG_ATTEMPT_TIMEOUT_MS=30001", "half of ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD=60000 (the default)"),
        ),
        (
            {"ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD": "10000"},
            ("CATALOG_ATTEMPT_TIMEOUT_MS=10000 (the default)", "ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD=10000"),
        ),
        (
            {"CATALOG_SYNC_DEADLINE_MS": "5000"},
            ("CATALOG_ATTEMPT_TIMEOUT_MS=10000 (the default)", "CATALOG_SYNC_DEADLINE_MS=5000"),
        ),
    ],
)
def test_values_that_do_not_fit_each_other_are_told_together(environ: dict[str, str], names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(environ | HOME)
    assert all(name in str(caught.value) for name in names)
    assert "\n" not in str(caught.value)


@given(timeout=st.integers(1, 100_000), window=st.integers(1, 100_000), deadline=st.integers(1, 100_000))
def test_accepted_settings_always_make_a_policy(timeout: int, window: int, deadline: int) -> None:
    environ = {
        "CATALOG_ATTEMPT_TIMEOUT_MS": str(timeout),
        "ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD": str(window),
        "CATALOG_SYNC_DEADLINE_MS": str(deadline),
    }
    try:
        settings = Settings.from_env(environ | HOME)
    except ConfigurationError:
        assert timeout * 2 > window or timeout > deadline
    else:
        Policy(
            "supplier",
            retry=settings.retry,
            breaker=settings.breaker,
            deadline=settings.sync_deadline,
            attempt_timeout=settings.attempt_timeout,
        )


@given(st.dictionaries(st.sampled_from([variable.name for variable in VARIABLES]), st.text(max_size=30)))
def test_arbitrary_values_give_settings_or_one_line(environ: dict[str, str]) -> None:
    try:
        Settings.from_env(environ | HOME)
    except ConfigurationError as error:
        lines = str(error).splitlines()
    else:
        return
    assert len(lines) == 1


def test_settings_do_not_show_their_secrets() -> None:
    settings = Settings.from_env(
        {
            "ESIM_GO_API_KEY": "key-in-the-env",
            "REDIS_URL": "redis://u:hidden-pass@h",
            "ERROR_ALERT_WEBHOOK_SECRET": "sign-me",
        }
    )
    assert not any(secret in repr(settings) for secret in ("key-in-the-env", "hidden-pass", "sign-me"))


def test_a_password_in_a_wrong_url_is_not_told() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({"REDIS_URL": "http://user:hidden-pass@h"})
    assert "hidden-pass" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({"REDIS_URL": "redis:/user:hidden-word@h"})
    assert "hidden-word" not in str(caught.value)


def test_a_missing_key_is_told_only_where_it_is_needed() -> None:
    settings = Settings.from_env(HOME)
    with pytest.raises(ConfigurationError, match="ESIM_GO_API_KEY"):
        settings.require_api_key()


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("hush-hush")
    assert f"{secret} {secret!r} {secret!s:>5}" == "*** ***   ***"
    assert secret.reveal() == "hush-hush"
    assert secret == Secret("hush-hush")
    assert not Secret("")
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"HOME": "/h"}, "/h/.local/state/catalog-sync"),
        ("linux", {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/catalog-sync"),
        ("linux", {"HOME": "/h", "XDG_STATE_HOME": "not/absolute"}, "/h/.local/state/catalog-sync"),
        ("darwin", {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/h/Library/Application Support/catalog-sync"),
    ],
)
def test_state_lives_in_the_users_state_folder(platform: str, environ: dict[str, str], expected: str) -> None:
    assert default_state_dir(environ, platform) == Path(expected)


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"XDG_STATE_HOME": "state"}])
def test_a_user_without_a_home_folder_is_asked_for_one(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(user: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ConfigurationError, match=r"^CATALOG_STATE_DIR is not set, and neither is HOME"):
        Settings.from_env(environ)
    assert Settings.from_env({**environ, "CATALOG_STATE_DIR": "/s"}).state_dir == Path("/s")
    assert Settings.from_env({**environ, "XDG_STATE_HOME": "/s"}).state_dir == Path("/s/catalog-sync")


def test_the_example_file_and_the_page_are_current() -> None:
    hint = "run `make docs`"
    assert (ROOT / ".env.example").read_text("utf-8") == config_docs.render_env_example(), hint
    assert (ROOT / "docs" / "configuration.md").read_text("utf-8") == config_docs.render_markdown(), hint


def test_the_example_file_changes_nothing() -> None:
    lines = [line[1:] for line in config_docs.render_env_example().splitlines() if line.startswith("#") and "=" in line]
    environ = dict(line.split("=", 1) for line in lines if not line.startswith(" "))
    assert {variable.name for variable in VARIABLES} <= set(environ)
    assert Settings.from_env(environ | HOME) == Settings.from_env(HOME)
