"""Which signals are exported, and where to, according to the standard variables. Pure; imports nothing of the SDK."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

from catalog_sync.settings.otel import (
    SIGNALS,
    Protocol,
    exporter_names,
    otlp_endpoint,
    otlp_protocol,
    otlp_variable,
    sdk_disabled,
)

Compression = Literal["gzip", "deflate", "none"]


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The destination of one signal."""

    endpoint: str | None
    """The OTLP endpoint; ``None`` if it only goes to the console."""
    protocol: Protocol
    timeout_set: bool
    """Whether the user set a timeout."""
    compression: Compression
    console: bool
    """Whether it is written to stderr."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The signals that are exported."""

    traces: Target | None = None
    metrics: Target | None = None
    logs: Target | None = None
    disabled: bool = False
    """``OTEL_SDK_DISABLED``: nothing is set up at all."""

    @property
    def any(self) -> bool:
        """Whether anything is exported."""
        return not (self.traces is None and self.metrics is None and self.logs is None)


def choose_signals(environ: Mapping[str, str]) -> Choice:
    """Reads the standard variables. Raises ``ConfigurationError`` naming the one that is not usable."""
    if sdk_disabled(environ):
        return Choice(disabled=True)
    traces, metrics, logs = (_target(environ, signal) for signal in SIGNALS)
    return Choice(traces, metrics, logs)


def _target(environ: Mapping[str, str], signal: str) -> Target | None:
    wanted = exporter_names(environ, signal)
    endpoint = otlp_endpoint(environ, signal) if "otlp" in wanted else None
    console = "console" in wanted
    if endpoint is None and not console:
        return None
    return Target(
        endpoint,
        otlp_protocol(environ, signal),
        timeout_set=otlp_variable(environ, signal, "TIMEOUT") is not None,
        compression=_compression(environ, signal),
        console=console,
    )


def _compression(environ: Mapping[str, str], signal: str) -> Compression:
    """Gzip by default."""
    _, text = otlp_variable(environ, signal, "COMPRESSION") or ("", "")
    return next((known for known in get_args(Compression) if known == text.lower()), "gzip")
