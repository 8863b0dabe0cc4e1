"""Every environment variable of the application: the code reads them from here, and documentation is generated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings import alerts as alert_values
from catalog_sync.settings import values
from otel_resilience.redaction import redact_url


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable. Set to nothing, it counts as not set."""

    name: str
    default: str
    """As it would be written; empty where there is none."""
    unit: str
    description: str
    read: values.Reader
    secret: bool = False
    """Its value is never shown."""

    def value(self, environ: Mapping[str, str]) -> Any:
        """The value from the environment or the default, ``None`` where there is neither.

        Raises ``ConfigurationError``.
        """
        text = environ.get(self.name, "").strip() or self.default
        if not text:
            return None
        try:
            return self.read(text)
        except (ValueError, OSError, RuntimeError) as error:
            reason = str(error) if isinstance(error, ValueError) else "the path of a folder that can be reached"
            raise ConfigurationError(f"{self.name}={self.shown(text)} is not allowed: it must be {reason}") from error

    def shown(self, text: str) -> str:
        """The value as a message may show it: short, on one line, no secret."""
        if self.secret:
            return "***"
        if self.name.endswith("_URL") or "://" in text or "@" in text:
            return values.shown_address(text)
        return values.shortened(redact_url(text))


VARIABLES: Final = (
    Variable(
        "ESIM_GO_API_KEY",
        "",
        "",
        "API key of eSIM Go; needed by every command that asks the supplier.",
        values.secret,
        secret=True,
    ),
    Variable("ESIM_GO_BASE_URL", "https://api.esim-go.com/v2.5", "", "Base URL of the eSIM Go API.", values.base_url),
    Variable(
        "REDIS_URL",
        "",
        "",
        "The store: `redis://`, `rediss://` or `unix://`. After a question mark only what every client of ours takes:"
        " `ssl_cert_reqs`, `ssl_check_hostname`, `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` with `rediss://`,"
        " `db` with `unix://`. Not set: a private `redis-server` where one is on the PATH,"
        " else an in-process store.",
        values.redis_url,
    ),
    Variable(
        "CATALOG_STATE_DIR",
        "",
        "",
        "Folder for the snapshot, the private Redis, the alert outbox and persisted state. Not set: the user's state"
        " folder (`$XDG_STATE_HOME/catalog-sync`, `~/.local/state/catalog-sync`;"
        " on macOS `~/Library/Application Support/catalog-sync`).",
        values.folder,
    ),
    Variable(
        "ERROR_RETRY_MAX_ATTEMPTS", "5", "attempts", "Attempts of a call, the first included.", values.whole(1, 100)
    ),
    Variable(
        "ERROR_RETRY_BASE_DELAY", "1000", "ms", "Longest wait before the first retry.", values.milliseconds(zero=True)
    ),
    Variable(
        "ERROR_RETRY_MAX_DELAY",
        "30000",
        "ms",
        "Longest wait before any retry; a server's Retry-After may be longer.",
        values.milliseconds(zero=True),
    ),
    Variable(
        "ERROR_RETRY_EXPONENTIAL_BASE",
        "2",
        "",
        "Growth of the longest wait from retry to retry.",
        values.number(1, 100),
    ),
    Variable(
        "ERROR_RETRY_JITTER",
        "true",
        "",
        "Whether waits are drawn at random: `true` (as `full`), `false` (as `none`), `full`,"
        " `equal`, `decorrelated`, `none`.",
        values.jitter,
    ),
    Variable(
        "ERROR_CIRCUIT_BREAKER_THRESHOLD",
        "10",
        "failures",
        "Failures within the monitoring period that open the circuit.",
        values.whole(1, 1_000_000),
    ),
    Variable(
        "ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT",
        "60000",
        "ms",
        "Time until an open circuit lets a probe pass.",
        values.milliseconds(),
    ),
    Variable(
        "ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD",
        "60000",
        "ms",
        "Window in which failures are counted; at least twice `CATALOG_ATTEMPT_TIMEOUT_MS`.",
        values.milliseconds(),
    ),
    Variable(
        "ERROR_ALERT_WEBHOOK_URL",
        "",
        "",
        "Webhook for alerts; a Slack host gets Slack's format.",
        values.secret_url,
        secret=True,
    ),
    Variable(
        "ERROR_ALERT_RATE_LIMIT",
        "60000",
        "ms",
        "Least time between two notifications of one incident.",
        values.milliseconds(zero=True),
    ),
    Variable("ERROR_ALERT_SLACK_WEBHOOK_URL", "", "", "Slack webhook for alerts.", values.secret_url, secret=True),
    Variable(
        "ERROR_ALERT_PAGERDUTY_ROUTING_KEY", "", "", "PagerDuty routing key for alerts.", values.secret, secret=True
    ),
    Variable(
        "ERROR_ALERT_PAGERDUTY_URL",
        "https://events.pagerduty.com/v2/enqueue",
        "",
        "Where PagerDuty events are sent.",
        values.web_url,
    ),
    Variable("ERROR_ALERT_WEBHOOK_SECRET", "", "", "Key that signs the generic webhook.", values.secret, secret=True),
    Variable(
        "ERROR_ALERT_MIN_SEVERITY",
        "HIGH",
        "",
        "Least severity that is told: `LOW`, `MEDIUM`, `HIGH`, `CRITICAL`.",
        values.severity,
    ),
    *(
        Variable(
            f"ERROR_ALERT_WEBHOOK_URL_{name}",
            "",
            "",
            f"A further webhook, for {name} alerts alone.",
            values.secret_url,
            secret=True,
        )
        for name in ("LOW", "MEDIUM", "HIGH", "CRITICAL")
    ),
    Variable(
        "ERROR_ALERT_FALLBACK_WEBHOOK_URL",
        "",
        "",
        "A webhook that gets what another channel does not take; a Slack host gets Slack's format.",
        values.secret_url,
        secret=True,
    ),
    Variable(
        "ERROR_ALERT_GROUP_WAIT_S",
        "5",
        "s",
        "How long the first message of an incident waits for more to tell; CRITICAL ones do not wait.",
        values.number(0, 3600, unit="seconds"),
    ),
    Variable(
        "ERROR_ALERT_KEEP_FIRING_S",
        "300",
        "s",
        "How long an incident must be calm before it is over; a COMPLETE sync ends those of the supplier at once.",
        values.number(0, 86_400, unit="seconds"),
    ),
    Variable(
        "ERROR_ALERT_REPEAT_S",
        "14400",
        "s",
        "An incident that goes on is told again this long after the last message.",
        values.number(0, 604_800, exclusive=True, unit="seconds"),
    ),
    Variable(
        "ERROR_ALERT_WINDOW_S",
        "60",
        "s",
        "Window of the two thresholds that follow.",
        values.number(0, 86_400, exclusive=True, unit="seconds"),
    ),
    Variable(
        "ERROR_ALERT_HIGH_THRESHOLD",
        "5",
        "errors",
        "HIGH errors within the window that are an alert; `0`: never. One CRITICAL error always is.",
        values.whole(0, 1_000_000),
    ),
    Variable(
        "ERROR_ALERT_MEDIUM_THRESHOLD",
        "50",
        "errors",
        "The same for MEDIUM errors; needs `ERROR_ALERT_MIN_SEVERITY=MEDIUM` or lower.",
        values.whole(0, 1_000_000),
    ),
    Variable(
        "ERROR_ALERT_PARTIAL_THRESHOLD",
        "2",
        "syncs",
        "PARTIAL syncs in a row that are an alert.",
        values.whole(1, 1000),
    ),
    Variable(
        "ERROR_ALERT_ESCALATION",
        "after=3600; returns=3",
        "",
        "When an incident is told again, louder. Steps separated by semicolons: `after=` seconds or `returns=` how"
        " often it came back; then if wished `severity=` (else one step up) and `channels=`, their names joined by `+`"
        " (`pagerduty`, `slack`, `webhook`, `fallback`). `none`: no steps.",
        alert_values.escalation,
    ),
    Variable(
        "ERROR_ALERT_SILENCES",
        "none",
        "",
        "What is not told, separated by semicolons: any of `kind=`, `dependency=`, `error_type=`, `severity=`, and"
        " `until=` a time as in RFC 3339. `none`: nothing is kept quiet.",
        alert_values.silences,
    ),
    Variable(
        "ERROR_ALERT_HEARTBEAT_URL",
        "",
        "",
        "Asked for after each COMPLETE sync, for a dead man's switch.",
        values.secret_url,
        secret=True,
    ),
    Variable(
        "ERROR_ALERT_TRACE_URL",
        "",
        "",
        "Link to a trace, with `{trace_id}`.",
        values.template("trace_id", required=True),
    ),
    Variable("ERROR_ALERT_DASHBOARD_URL", "", "", "Link to a dashboard; may hold `{name}`.", values.template("name")),
    Variable("ERROR_ALERT_RUNBOOK_URL", "", "", "Link to a runbook; may hold `{name}`.", values.template("name")),
    Variable(
        "CATALOG_ATTEMPT_TIMEOUT_MS",
        "10000",
        "ms",
        "One request to the supplier, body included.",
        values.milliseconds(),
    ),
    Variable("CATALOG_SYNC_DEADLINE_MS", "900000", "ms", "A whole sync.", values.milliseconds()),
    Variable("CATALOG_PAGE_SIZE", "50", "bundles", "Bundles asked for per page.", values.whole(1, 10_000)),
    Variable(
        "CATALOG_SUPPLIER_RATE_PER_S",
        "10",
        "requests/s",
        "Most requests in any second; 0: no limit.",
        values.number(0, 100_000),
    ),
    Variable(
        "CATALOG_MAX_BAD_ROW_RATIO",
        "0.05",
        "",
        "Share of unusable rows above which a sync refuses to publish; a single one passes, unless this is 0.",
        values.number(0, 1),
    ),
    Variable(
        "CATALOG_MAX_DROP_RATIO",
        "0.3",
        "",
        "Share of vanished bundles above which a sync refuses to publish.",
        values.number(0, 1),
    ),
    Variable(
        "CATALOG_STALE_AFTER_S",
        "86400",
        "s",
        "Age from which a catalogue is called stale.",
        values.number(0, 1e9, unit="seconds"),
    ),
    Variable(
        "CATALOG_SYNC_EVERY_S",
        "3600",
        "s",
        "Age from which a catalogue is due: what `run --if-due` and the scheduler go by; 0: the scheduler never asks.",
        values.number(0, 1e9, unit="seconds"),
    ),
    Variable(
        "CATALOG_MAX_BODY_BYTES",
        "16777216",
        "bytes",
        "One decompressed answer of the supplier.",
        values.whole(1024, 2**40),
    ),
    Variable("CATALOG_API_HOST", "127.0.0.1", "", "Address that `catalog-api` listens on.", values.listen_host),
    Variable(
        "CATALOG_API_PORT", "8080", "", "Port that `catalog-api` listens on; 0: any free one.", values.whole(0, 65535)
    ),
    Variable(
        "CATALOG_API_TOKEN",
        "",
        "",
        "Bearer token that asks for and cancels syncs. Not set: nobody can.",
        values.secret,
        secret=True,
    ),
    Variable(
        "CATALOG_API_OPEN_READS", "true", "", "Whether reading needs no token; health checks never do.", values.boolean
    ),
    Variable(
        "CATALOG_API_TRACE_FROM",
        "any",
        "",
        "Whose trace `catalog-api` continues: `any` caller's, or only that of a caller with the `token`.",
        values.one_of("any", "token"),
    ),
    Variable(
        "CATALOG_API_MAX_CONCURRENCY",
        "256",
        "requests",
        "Requests that `catalog-api` works on at once; further ones are asked to come again.",
        values.whole(1, 100_000),
    ),
    Variable(
        "CATALOG_API_MAX_STREAMS",
        "64",
        "streams",
        "Open streams of events; further ones are asked to come again.",
        values.whole(1, 100_000),
    ),
    Variable(
        "CATALOG_API_MAX_BODY_BYTES", "16384", "bytes", "Body of a request to `catalog-api`.", values.whole(2, 2**24)
    ),
    Variable(
        "CATALOG_JOB_LEASE_MS",
        "15000",
        "ms",
        "Time without a sign of life after which a step of a sync is given to another worker.",
        values.milliseconds(),
    ),
    Variable(
        "CATALOG_JOBS",
        "process",
        "",
        "Who does the syncs that `catalog-api` is asked for: the `process` itself, or `workers`, which need"
        " `REDIS_URL`.",
        values.one_of("process", "workers"),
    ),
    Variable("CATALOG_WORKERS", "2", "processes", "Workers that `make up` starts.", values.whole(1, 64)),
    Variable(
        "CATALOG_ENVIRONMENT",
        "",
        "",
        "Where this installation runs, as `production`: `deployment.environment.name` of its telemetry, and part of the"
        " identity of every incident.",
        values.name,
    ),
    Variable(
        "CATALOG_TRACE_HEADERS_TO",
        "",
        "",
        "Hosts, separated by commas, that get `traceparent` and `baggage`; `*`: all. Not set: loopback and names"
        " without a dot. No other host gets them.",
        values.hosts,
    ),
)
