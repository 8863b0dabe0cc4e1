"""Settings from environment variables, validated when read. The standard ``OTEL_*`` variables belong to the SDK."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings.otel import check_otel
from catalog_sync.settings.secrets import register_secrets
from catalog_sync.settings.values import Secret
from catalog_sync.settings.variables import VARIABLES, Variable
from otel_resilience import CircuitBreakerConfig, RetryConfig, Severity
from otel_resilience.alerting.model.config import EscalationStep, Silence

__all__ = [
    "SECRET_NAMES",
    "VARIABLES",
    "AlertSettings",
    "ApiSettings",
    "Secret",
    "Settings",
    "Variable",
    "default_state_dir",
]

SECRET_NAMES: Final = frozenset(variable.name for variable in VARIABLES if variable.secret)
"""Variables whose whole value is a secret."""
THROTTLE_BASE_DELAY: Final = 1.0
"""Least base delay in seconds after the supplier asked to slow down without naming a time."""


@dataclasses.dataclass(frozen=True, slots=True)
class AlertSettings:
    """The ``ERROR_ALERT_*`` variables."""

    webhook_url: Secret | None
    rate_limit: float
    """Seconds."""
    slack_webhook_url: Secret | None
    pagerduty_routing_key: Secret | None
    pagerduty_url: str
    webhook_secret: Secret | None
    min_severity: Severity
    heartbeat_url: Secret | None
    trace_url: str | None
    """A template with ``{trace_id}``."""
    dashboard_url: str | None
    runbook_url: str | None
    """A template which may hold ``{name}``."""
    webhook_url_low: Secret | None
    webhook_url_medium: Secret | None
    webhook_url_high: Secret | None
    webhook_url_critical: Secret | None
    fallback_webhook_url: Secret | None
    group_wait: float
    """Seconds, like all that follow with a time."""
    keep_firing: float
    repeat: float
    window: float
    high_threshold: int
    """0: never."""
    medium_threshold: int
    """0: never."""
    partial_threshold: int
    escalation: tuple[EscalationStep, ...]
    silences: tuple[Silence, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ApiSettings:
    """The ``CATALOG_API_*`` variables."""

    host: str
    port: int
    """0: any free one."""
    token: Secret | None
    open_reads: bool
    trace_from: str
    """``any`` or ``token``."""
    max_concurrency: int
    max_streams: int
    max_body_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured. Durations in seconds."""

    retry: RetryConfig
    breaker: CircuitBreakerConfig
    api_key: Secret
    """Empty where none is set; see :meth:`require_api_key`."""
    base_url: str
    """Without a slash at its end."""
    redis_url: str | None = dataclasses.field(repr=False)
    """May hold a password."""
    state_dir: Path
    attempt_timeout: float
    sync_deadline: float
    page_size: int
    supplier_rate: float
    """Requests per second; 0: no limit."""
    max_bad_row_ratio: float
    max_drop_ratio: float
    stale_after: float
    sync_every: float
    """Age in seconds from which a catalogue is due; 0: the scheduler asks for nothing."""
    max_body_bytes: int
    job_lease: float
    """Seconds without a sign of life after which a step of a sync is given to another worker."""
    workers: int
    jobs: str
    """Who does the syncs that the API is asked for: ``process`` or ``workers``."""
    trace_headers_to: tuple[str, ...]
    """Hosts that get trace headers; empty: loopback and names without a dot; ``*``: all."""
    alerts: AlertSettings
    api: ApiSettings
    environment: str | None = None
    """``deployment.environment.name``."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Reads and checks every variable, those of OpenTelemetry too, and registers all secrets first.

        Raises ``ConfigurationError`` with one line that names the variable, its value unless it may hold a secret, and
        what is allowed.
        """
        register_secrets(environ, SECRET_NAMES)
        check_otel(environ)
        read = {variable.name: variable.value(environ) for variable in VARIABLES}
        _check_together(read, environ)
        return cls(
            retry=_retry(read),
            breaker=CircuitBreakerConfig(
                failure_threshold=read["ERROR_CIRCUIT_BREAKER_THRESHOLD"],
                reset_timeout=read["ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT"],
                monitoring_period=read["ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD"],
            ),
            api_key=read["ESIM_GO_API_KEY"] or Secret(""),
            base_url=read["ESIM_GO_BASE_URL"],
            redis_url=read["REDIS_URL"],
            state_dir=read["CATALOG_STATE_DIR"] or default_state_dir(environ),
            attempt_timeout=read["CATALOG_ATTEMPT_TIMEOUT_MS"],
            sync_deadline=read["CATALOG_SYNC_DEADLINE_MS"],
            page_size=read["CATALOG_PAGE_SIZE"],
            supplier_rate=read["CATALOG_SUPPLIER_RATE_PER_S"],
            max_bad_row_ratio=read["CATALOG_MAX_BAD_ROW_RATIO"],
            max_drop_ratio=read["CATALOG_MAX_DROP_RATIO"],
            stale_after=read["CATALOG_STALE_AFTER_S"],
            sync_every=read["CATALOG_SYNC_EVERY_S"],
            max_body_bytes=read["CATALOG_MAX_BODY_BYTES"],
            job_lease=read["CATALOG_JOB_LEASE_MS"],
            workers=read["CATALOG_WORKERS"],
            jobs=read["CATALOG_JOBS"],
            trace_headers_to=read["CATALOG_TRACE_HEADERS_TO"] or (),
            alerts=_group(AlertSettings, "ERROR_ALERT_", read),
            api=_group(ApiSettings, "CATALOG_API_", read),
            environment=read["CATALOG_ENVIRONMENT"] or _deployment_environment(environ),
        )

    def require_api_key(self) -> Secret:
        """The API key of the supplier. Raises ``ConfigurationError`` where none is set."""
        if not self.api_key:
            raise ConfigurationError("ESIM_GO_API_KEY is not set: the API key of eSIM Go is needed to ask the supplier")
        return self.api_key

    def require_state_dir(self) -> None:
        """Makes the state folder and writes to it. Raises ``ConfigurationError`` where that cannot be done."""
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=self.state_dir, prefix=".check"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"CATALOG_STATE_DIR={str(self.state_dir)!r} is not usable: it cannot be written:"
                f" {error.strerror or type(error).__name__}"
            ) from error


def default_state_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The user's folder for state that outlives a process."""
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    if platform == "darwin":
        return home / "Library" / "Application Support" / "catalog-sync"
    state = Path(environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else home / ".local" / "state") / "catalog-sync"


def _deployment_environment(environ: Mapping[str, str]) -> str | None:
    """``deployment.environment.name`` as the standard variable of OpenTelemetry gives it."""
    pairs = (part.partition("=") for part in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    given = {name.strip(): unquote(value.strip()) for name, _, value in pairs}
    return given.get("deployment.environment.name") or None


def _check_together(read: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    _at_most(read, environ, "ERROR_RETRY_BASE_DELAY", "ERROR_RETRY_MAX_DELAY")
    _at_most(read, environ, "CATALOG_ATTEMPT_TIMEOUT_MS", "CATALOG_SYNC_DEADLINE_MS")
    _at_most(
        read,
        environ,
        "CATALOG_ATTEMPT_TIMEOUT_MS",
        "ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD",
        factor=2,
        times="half of ",
    )
    if not read["CATALOG_API_OPEN_READS"] and not read["CATALOG_API_TOKEN"]:
        raise ConfigurationError(
            "CATALOG_API_OPEN_READS=false is not allowed without CATALOG_API_TOKEN: nobody could read"
        )


def _at_most(
    read: Mapping[str, Any], environ: Mapping[str, str], low: str, high: str, *, factor: float = 1, times: str = ""
) -> None:
    if read[low] * factor > read[high]:
        raise ConfigurationError(
            f"{low}={_effective(low, environ)} is not allowed: it must be at most"
            f" {times}{high}={_effective(high, environ)}"
        )


def _effective(name: str, environ: Mapping[str, str]) -> str:
    given = environ.get(name, "").strip()
    return given or next(f"{variable.default} (the default)" for variable in VARIABLES if variable.name == name)


def _retry(read: Mapping[str, Any]) -> RetryConfig:
    base = read["ERROR_RETRY_BASE_DELAY"]
    return RetryConfig(
        max_attempts=read["ERROR_RETRY_MAX_ATTEMPTS"],
        base_delay=base,
        max_delay=read["ERROR_RETRY_MAX_DELAY"],
        exponential_base=read["ERROR_RETRY_EXPONENTIAL_BASE"],
        jitter=read["ERROR_RETRY_JITTER"],
        throttle_base_delay=max(base, THROTTLE_BASE_DELAY),
    )


T = TypeVar("T", AlertSettings, ApiSettings)


def _group(kind: type[T], prefix: str, read: Mapping[str, Any]) -> T:
    """A group of variables that are named as the fields are, but for the unit."""
    named = {name.removesuffix("_S").removeprefix(prefix).lower(): value for name, value in read.items()}
    return kind(**{field.name: named[field.name] for field in dataclasses.fields(kind)})
