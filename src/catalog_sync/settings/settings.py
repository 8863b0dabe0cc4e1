"""Settings from environment variables, validated when read. The standard ``OTEL_*`` variables belong to the SDK."""

from __future__ import annotations

import ipaddress
import os
import pwd
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote

from pydantic import InstanceOf

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings import values
from catalog_sync.settings.alerts import AlertSettings
from catalog_sync.settings.folders import make_private
from catalog_sync.settings.otel import check_otel
from catalog_sync.settings.secrets import register_secrets
from catalog_sync.settings.values import Secret
from catalog_sync.settings.variables import Variable, VariableGroup, variable
from otel_resilience import CircuitBreakerConfig, Jitter, RetryConfig

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

THROTTLE_BASE_DELAY: Final = 1.0
"""Minimum base delay in seconds after the supplier asked to slow down without naming a time."""
EVERY_INTERFACE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # what a host may be, not one that is listened on
"""Hosts to listen on that are not an address for clients."""


class RetrySettings(VariableGroup):
    """The ``ERROR_RETRY_*`` variables. Times in seconds."""

    max_attempts: int = variable("ERROR_RETRY_MAX_ATTEMPTS", values.whole(1, 100), "5", "attempts")
    """Attempts of a call, the first included."""
    base_delay: float = variable("ERROR_RETRY_BASE_DELAY", values.milliseconds(zero=True), "1000", "ms")
    """Maximum wait before the first retry."""
    max_delay: float = variable("ERROR_RETRY_MAX_DELAY", values.milliseconds(zero=True), "30000", "ms")
    """Maximum wait before any retry, unless the server's Retry-After asks for longer."""
    exponential_base: float = variable("ERROR_RETRY_EXPONENTIAL_BASE", values.number(1, 100), "2")
    """Factor by which the maximum wait grows from retry to retry."""
    jitter: Jitter = variable("ERROR_RETRY_JITTER", values.jitter, "true")
    """Jitter of the waits: `true` (as `full`), `false` (as `none`), `full`, `equal`, `decorrelated`,
    `none`."""

    def config(self) -> RetryConfig:
        """The library's configuration."""
        return RetryConfig(
            max_attempts=self.max_attempts,
            base_delay=self.base_delay,
            max_delay=self.max_delay,
            exponential_base=self.exponential_base,
            jitter=self.jitter,
            throttle_base_delay=max(self.base_delay, THROTTLE_BASE_DELAY),
        )


class BreakerSettings(VariableGroup):
    """The ``ERROR_CIRCUIT_BREAKER_*`` variables. Times in seconds."""

    threshold: int = variable("ERROR_CIRCUIT_BREAKER_THRESHOLD", values.whole(1, 1_000_000), "10", "failures")
    """Failures within the monitoring period that open the circuit."""
    reset_timeout: float = variable("ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT", values.milliseconds(), "60000", "ms")
    """Time until an open circuit lets a probe pass."""
    monitoring_period: float = variable("ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD", values.milliseconds(), "60000", "ms")
    """Window in which failures are counted; at least twice `CATALOG_ATTEMPT_TIMEOUT_MS`."""

    def config(self) -> CircuitBreakerConfig:
        """The library's configuration."""
        return CircuitBreakerConfig(
            failure_threshold=self.threshold,
            reset_timeout=self.reset_timeout,
            monitoring_period=self.monitoring_period,
        )


class ApiSettings(VariableGroup):
    """The ``CATALOG_API_*`` variables."""

    host: str = variable("CATALOG_API_HOST", values.listen_host, "127.0.0.1")
    """Address that `catalog-api` listens on."""
    port: int = variable("CATALOG_API_PORT", values.whole(0, 65535), "8080")
    """Port that `catalog-api` listens on; 0: any free one."""
    public_url: str | None = variable("CATALOG_API_PUBLIC_URL", values.public_url)
    """URL at which people reach `catalog-api`; the alerts of all processes link to its pages. If unset, only the alerts
    of `catalog-api` have such links, to the address that it listens on."""
    token: Secret | None = variable("CATALOG_API_TOKEN", values.token)
    """Bearer token required to start and cancel syncs, at least 12 characters; `openssl rand -hex 16` generates one. If
    unset, writes are disabled."""
    open_reads: bool = variable("CATALOG_API_OPEN_READS", values.boolean, "true")
    """Whether reads are allowed without a token; health checks never need one."""
    trace_from: str = variable("CATALOG_API_TRACE_FROM", values.one_of("any", "token"), "any")
    """Whose traces `catalog-api` continues: those of `any` caller, or only those of callers with the `token`."""
    max_concurrency: int = variable("CATALOG_API_MAX_CONCURRENCY", values.whole(1, 100_000), "256", "requests")
    """Maximum number of requests that `catalog-api` processes at once; further ones get 503 with Retry-After."""
    max_streams: int = variable("CATALOG_API_MAX_STREAMS", values.whole(1, 100_000), "64", "streams")
    """Maximum number of open event streams; further ones get 503 with Retry-After."""
    max_requests_per_client: int = variable(
        "CATALOG_API_MAX_REQUESTS_PER_CLIENT", values.whole(1, 100_000), "128", "requests"
    )
    """Maximum number of requests of one client being processed or sent at once; further ones get 429."""
    max_streams_per_client: int = variable(
        "CATALOG_API_MAX_STREAMS_PER_CLIENT", values.whole(1, 100_000), "16", "streams"
    )
    """Maximum number of open event streams of one client; further ones get 429."""
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = variable(
        "CATALOG_API_TRUSTED_PROXIES", values.networks, unset=()
    )
    """Addresses or networks (`10.0.0.0/8`) of reverse proxies, separated by commas. For a request from one of them, the
    client is the last address in `X-Forwarded-For` that is not one of them. If unset, the client is always the address
    that connects."""
    max_body_bytes: int = variable("CATALOG_API_MAX_BODY_BYTES", values.whole(2, 2**24), "16384", "bytes")
    """Maximum size of a request body sent to `catalog-api`."""


class Settings(VariableGroup):
    """Everything that can be configured. Durations in seconds."""

    # Empty if none is set; see :meth:`require_api_key`.
    api_key: Secret = variable("ESIM_GO_API_KEY", values.secret, unset=Secret(""))
    """API key of eSIM Go; needed by every command that calls the supplier."""
    # Without a trailing slash.
    base_url: str = variable("ESIM_GO_BASE_URL", values.base_url, "https://api.esim-go.com/v2.5")
    """Base URL of the eSIM Go API."""
    ca_file: Path | None = variable("ESIM_GO_CA_FILE", values.ca_file)
    """File with CA certificates (PEM) for verifying the supplier's certificate, instead of the usual ones; for a
    private certificate authority."""
    # May contain a password.
    proxy: str | None = variable("ESIM_GO_PROXY", values.proxy_url, in_repr=False)
    """Proxy for requests to the supplier, such as `http://user:password@proxy.example:3128`. Variables such as
    `HTTPS_PROXY` do not apply to these requests."""
    # May contain a password.
    redis_url: str | None = variable("REDIS_URL", values.redis_url, in_repr=False)
    """URL of the store: `redis://`, `rediss://` or `unix://`. The query may only contain parameters that every client
    accepts: `ssl_cert_reqs`, `ssl_check_hostname`, `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` with `rediss://`,
    `db` with `unix://`. If unset, a private `redis-server` is started if one is on the PATH; otherwise the store is in
    memory."""
    key_prefix: str = variable("CATALOG_KEY_PREFIX", values.key_prefix, unset="")
    """Prefix of every key in Redis, such as `shop:`. Several installations may share a Redis if each has its own."""
    state_dir: Path = variable("CATALOG_STATE_DIR", values.folder)
    """Directory for the snapshot, the private Redis, the alert outbox and persisted state. If unset, the user's state
    directory is used (`$XDG_STATE_HOME/catalog-sync` or `~/.local/state/catalog-sync`; on macOS `~/Library/Application
    Support/catalog-sync`)."""
    attempt_timeout: float = variable("CATALOG_ATTEMPT_TIMEOUT_MS", values.milliseconds(), "10000", "ms")
    """Time limit of one request to the supplier, body included."""
    sync_deadline: float = variable("CATALOG_SYNC_DEADLINE_MS", values.milliseconds(), "900000", "ms")
    """Time limit of a whole sync."""
    page_size: int = variable("CATALOG_PAGE_SIZE", values.whole(1, 10_000), "50", "bundles")
    """Bundles to request per page."""
    supplier_rate: float = variable("CATALOG_SUPPLIER_RATE_PER_S", values.number(0, 100_000), "10", "requests/s")
    """Maximum number of requests to the supplier in any second; 0 means no limit."""
    max_bad_row_ratio: float = variable("CATALOG_MAX_BAD_ROW_RATIO", values.number(0, 1), "0.05")
    """Share of unusable rows above which a sync refuses to publish. A single unusable row is always tolerated, unless
    this is 0."""
    max_drop_ratio: float = variable("CATALOG_MAX_DROP_RATIO", values.number(0, 1), "0.3")
    """Share of missing bundles above which a sync refuses to publish."""
    stale_after: float = variable("CATALOG_STALE_AFTER_S", values.number(0, 1e9, unit="seconds"), "86400", "s")
    """Age above which a catalogue is stale."""
    sync_every: float = variable("CATALOG_SYNC_EVERY_S", values.number(0, 1e9, unit="seconds"), "3600", "s")
    """Age at which a sync becomes due, for `run --if-due` and the scheduler; with 0 the scheduler requests none."""
    max_body_bytes: int = variable("CATALOG_MAX_BODY_BYTES", values.whole(1024, 2**40), "16777216", "bytes")
    """Maximum size of a decompressed response from the supplier."""
    job_lease: float = variable("CATALOG_JOB_LEASE_MS", values.milliseconds(), "15000", "ms")
    """Time without a heartbeat after which another worker takes over a step of a sync."""
    jobs: str = variable("CATALOG_JOBS", values.one_of("process", "workers"), "process")
    """What runs the syncs that are requested from `catalog-api`: the `process` itself, or `workers`, which need
    `REDIS_URL`."""
    workers: int = variable("CATALOG_WORKERS", values.whole(1, 64), "2", "processes")
    """Number of workers that `make up` starts."""
    environment: str | None = variable("CATALOG_ENVIRONMENT", values.name)
    """Name of the environment, such as `production`: `deployment.environment.name` of the telemetry, and part of the
    identity of every incident."""
    trace_headers_to: tuple[str, ...] = variable("CATALOG_TRACE_HEADERS_TO", values.hosts, unset=())
    """Hosts to which `traceparent` and `baggage` are sent, separated by commas; `*` means all. If unset, they are sent
    to loopback addresses and names without a dot. No other host receives them."""
    trace_redis_from: float = variable("CATALOG_TRACE_REDIS_FROM_MS", values.milliseconds(zero=True), "1000", "ms")
    """Duration from which a successful Redis call has spans; with 0 every call has them. A call that failed or was
    retried always has spans."""
    env_file: Path | None = variable("CATALOG_ENV_FILE", values.env_file, ".env")
    """File with further variables; `none` means no file. It can only be set in the environment."""
    retry: InstanceOf[RetryConfig]
    breaker: InstanceOf[CircuitBreakerConfig]
    alerts: InstanceOf[AlertSettings]
    api: InstanceOf[ApiSettings]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Reads and checks every variable, including those of OpenTelemetry, and registers all secrets first.

        Raises ``ConfigurationError`` with one line that names the variable, its value unless it may hold a secret, and
        what is allowed.
        """
        register_secrets(environ, SECRET_NAMES)
        check_otel(environ)
        retry, breaker = RetrySettings.read(environ), BreakerSettings.read(environ)
        _at_most(environ, "ERROR_RETRY_BASE_DELAY", retry.base_delay, "ERROR_RETRY_MAX_DELAY", retry.max_delay)
        alerts, api = AlertSettings.read(environ), ApiSettings.read(environ)
        settings = cls.read(environ, retry=retry.config(), breaker=breaker.config(), alerts=alerts, api=api)
        timeout = ("CATALOG_ATTEMPT_TIMEOUT_MS", settings.attempt_timeout)
        _at_most(environ, *timeout, "CATALOG_SYNC_DEADLINE_MS", settings.sync_deadline)
        period = ("ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD", breaker.monitoring_period)
        _at_most(environ, *timeout, *period, factor=2, times="half of ")
        if not api.open_reads and not api.token:
            raise ConfigurationError(
                "CATALOG_API_OPEN_READS=false needs CATALOG_API_TOKEN; without it no client could read"
            )
        derived: dict[str, Any] = {}
        if not environ.get("CATALOG_STATE_DIR", "").strip():
            derived["state_dir"] = default_state_dir(environ)
        if settings.environment is None:
            derived["environment"] = _deployment_environment(environ)
        return settings.changed(**derived)

    def require_api_key(self) -> Secret:
        """The API key of the supplier. Raises ``ConfigurationError`` if none is set."""
        if not self.api_key:
            raise ConfigurationError("ESIM_GO_API_KEY is not set: the API key of eSIM Go is needed to ask the supplier")
        return self.api_key

    def require_state_dir(self) -> None:
        """Creates the state folder and writes to it. Raises ``ConfigurationError`` if that fails."""
        try:
            make_private(self.state_dir)
            with tempfile.NamedTemporaryFile(dir=self.state_dir, prefix=".check"):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"CATALOG_STATE_DIR={str(self.state_dir)!r} is not usable: it cannot be written:"
                f" {error.strerror or type(error).__name__}"
            ) from error


def default_state_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The user's folder for state that outlives a process.

    Raises ``ConfigurationError`` if the user has none, such as a user ID without an account in a container.
    """
    if platform == "darwin":
        return _home(environ) / "Library" / "Application Support" / "catalog-sync"
    state = Path(environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else _home(environ) / ".local" / "state") / "catalog-sync"


def _home(environ: Mapping[str, str]) -> Path:
    given = environ.get("HOME")
    try:
        return Path(given or pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError as error:
        raise ConfigurationError(
            "CATALOG_STATE_DIR is not set, and neither is HOME, nor has this user a home folder: set one of them"
        ) from error


def _deployment_environment(environ: Mapping[str, str]) -> str | None:
    """``deployment.environment.name`` from OpenTelemetry's standard variable."""
    pairs = (part.partition("=") for part in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    given = {name.strip(): unquote(value.strip()) for name, _, value in pairs}
    return given.get("deployment.environment.name") or None


def _at_most(
    environ: Mapping[str, str],
    low: str,
    low_value: float,
    high: str,
    high_value: float,
    *,
    factor: float = 1,
    times: str = "",
) -> None:
    if low_value * factor > high_value:
        raise ConfigurationError(
            f"{low}={_effective(low, environ)} is not allowed: it must be at most"
            f" {times}{high}={_effective(high, environ)}"
        )


def _effective(name: str, environ: Mapping[str, str]) -> str:
    given = environ.get(name, "").strip()
    return given or next(f"{variable.default} (the default)" for variable in VARIABLES if variable.name == name)


_GROUPS: Final = (Settings, RetrySettings, BreakerSettings, AlertSettings, ApiSettings)
VARIABLES: Final = tuple(variable for group in _GROUPS for variable in group.variables())
"""Every variable, in the order in which it is documented."""
TRACE_REDIS_FROM: Final = next(each for each in VARIABLES if each.name == "CATALOG_TRACE_REDIS_FROM_MS")
"""Read separately when telemetry is set up."""
SECRET_NAMES: Final = frozenset(variable.name for variable in VARIABLES if variable.secret)
"""Variables whose whole value is a secret."""
