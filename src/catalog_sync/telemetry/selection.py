"""Which signals are exported, and where to, as the standard variables say. Pure; imports nothing of the SDK."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from catalog_sync.errors import ConfigurationError
from otel_resilience.redaction import redact_url

Protocol = Literal["http/protobuf", "grpc"]

_BASE = "OTEL_EXPORTER_OTLP_"
_SCHEMES = {"http/protobuf": ("http", "https"), "grpc": ("http", "https", "unix", "dns", "")}
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where one signal goes."""

    endpoint: str
    protocol: Protocol
    timeout_set: bool
    """The user set a timeout."""
    compression_set: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The signals that are exported."""

    traces: Target | None = None
    metrics: Target | None = None
    logs: Target | None = None
    disabled: bool = False
    """``OTEL_SDK_DISABLED``: nothing is set up at all."""
    metric_interval_set: bool = False
    span_delay_set: bool = False
    log_delay_set: bool = False

    @property
    def any(self) -> bool:
        """Whether anything is exported."""
        return not (self.traces is None and self.metrics is None and self.logs is None)


def choose_signals(environ: Mapping[str, str]) -> Choice:
    """Reads the standard variables. Raises ``ConfigurationError`` naming the one that cannot be used."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Choice(disabled=True)
    return Choice(
        traces=_target(environ, "TRACES"),
        metrics=_target(environ, "METRICS"),
        logs=_target(environ, "LOGS"),
        metric_interval_set=bool(environ.get("OTEL_METRIC_EXPORT_INTERVAL")),
        span_delay_set=bool(environ.get("OTEL_BSP_SCHEDULE_DELAY")),
        log_delay_set=bool(environ.get("OTEL_BLRP_SCHEDULE_DELAY")),
    )


def _target(environ: Mapping[str, str], signal: str) -> Target | None:
    wanted = {word.strip().lower() for word in environ.get(f"OTEL_{signal}_EXPORTER", "").split(",") if word.strip()}
    if wanted and "otlp" not in wanted:
        if wanted != {"none"}:
            _log.warning(
                "OTEL_%s_EXPORTER=%s: only otlp and none are known; nothing is exported", signal, ",".join(wanted)
            )
        return None
    own = environ.get(f"{_BASE}{signal}_ENDPOINT", "").strip()
    base = environ.get(f"{_BASE}ENDPOINT", "").strip()
    if not (own or base):
        return None
    name = f"{_BASE}{signal}_ENDPOINT" if own else f"{_BASE}ENDPOINT"
    protocol = _protocol(environ, signal)
    _check_endpoint(name, own or base, protocol)
    endpoint = own or base
    if protocol == "http/protobuf" and not own:
        endpoint = f"{base.removesuffix('/')}/v1/{signal.lower()}"
    return Target(
        endpoint,
        protocol,
        timeout_set=_is_set(environ, signal, "TIMEOUT"),
        compression_set=_is_set(environ, signal, "COMPRESSION"),
    )


def _protocol(environ: Mapping[str, str], signal: str) -> Protocol:
    for name in (f"{_BASE}{signal}_PROTOCOL", f"{_BASE}PROTOCOL"):
        given = environ.get(name, "").strip().lower()
        if given == "grpc":
            return "grpc"
        if given == "http/protobuf":
            return "http/protobuf"
        if given:
            raise ConfigurationError(f"{name}={given!r} is not allowed: it must be http/protobuf or grpc")
    return "http/protobuf"


def _check_endpoint(name: str, text: str, protocol: Protocol) -> None:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in _SCHEMES[protocol] and bool(parts.netloc or parts.path)
        if protocol == "http/protobuf":
            usable = usable and bool(parts.hostname) and parts.port != 0
        elif ":" in text and "://" not in text:
            usable = True  # host:port
    except ValueError:
        usable = False
    if not usable:
        allowed = "http:// or https:// URL" if protocol == "http/protobuf" else "URL or host:port of a gRPC endpoint"
        raise ConfigurationError(f"{name}={redact_url(text)!r} is not allowed: it must be an {allowed}")


def _is_set(environ: Mapping[str, str], signal: str, what: str) -> bool:
    return bool(environ.get(f"{_BASE}{signal}_{what}") or environ.get(f"{_BASE}{what}"))
