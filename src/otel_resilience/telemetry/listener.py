"""Connects the library to OpenTelemetry: the one place that knows whether telemetry goes anywhere.

Nothing here raises into the application. Without an SDK a call reads three module attributes and nothing more; spans
are created only if the trace is sampled.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api

from otel_resilience._internal.foreign import repr_of
from otel_resilience._internal.version import __version__
from otel_resilience.classification.control_flow import pass_interruption_on
from otel_resilience.redaction import redact
from otel_resilience.telemetry import contract, providers
from otel_resilience.telemetry.event_log import Attributes, EventLog, hand_over
from otel_resilience.telemetry.instruments import Instruments, Observe

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span


P = ParamSpec("P")
T = TypeVar("T")

events_logger = logging.getLogger("otel_resilience.events")
"""Takes the events if no logger provider of OpenTelemetry is set; each event goes only one way."""
events_logger.addHandler(logging.NullHandler())
_log = logging.getLogger("otel_resilience")
_log.addHandler(logging.NullHandler())

_SIGNAL_OPT_IN = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"


def never_raise(function: Callable[P, T]) -> Callable[P, T | None]:
    """A failure of telemetry is logged and never reaches the observed call; the result is then ``None``."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return function(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001  # a broken exporter or processor must not break the application
            report_broken(function.__name__, exc)
            return None

    return guarded


def report_broken(what: str, exc: Exception) -> None:
    """Logs a failure of telemetry, in functions that :func:`never_raise` would make unnecessarily slow."""
    pass_interruption_on(exc)
    hand_over(_log.warning, "telemetry failed in %s: %s", what, redact(repr_of(exc)))


class Listener:
    """Tracer, events and instruments of one set of providers (by default the global ones, even if set later)."""

    def __init__(
        self,
        tracer_provider: trace_api.TracerProvider | None = None,
        meter_provider: metrics_api.MeterProvider | None = None,
        logger_provider: logs_api.LoggerProvider | None = None,
    ) -> None:
        self.tracer = trace_api.get_tracer(contract.SCOPE, __version__, tracer_provider, contract.SCHEMA_URL)
        self.events = EventLog(contract.SCOPE, __version__, contract.SCHEMA_URL, events_logger, logger_provider)
        self.metrics = Instruments(
            metrics_api.get_meter(contract.SCOPE, __version__, meter_provider, contract.SCHEMA_URL),
            observed=dict(_observed),
        )
        self.events_on_spans = os.environ.get(_SIGNAL_OPT_IN, "").strip() != "logs"


override: Listener | None = None
"""Set by :func:`use_providers`; takes precedence over the global providers."""
_global: Listener | None = None
_global_events = EventLog(contract.SCOPE, __version__, contract.SCHEMA_URL, events_logger)


def active() -> Listener | None:
    """The listener, or ``None`` if no SDK is set up. Cheap enough for every call."""
    return listening() if providers.any_set() else None


def listening() -> Listener:
    """The listener, if :func:`~otel_resilience.telemetry.providers.any_set` says that an SDK is set up."""
    return override or _global or global_listener()


def global_listener() -> Listener:
    """The listener on the global providers; its instruments take effect when the providers are set."""
    global _global  # one per process, created when first needed
    if _global is None:
        _global = Listener()
    return _global


@contextlib.contextmanager
def use_providers(
    *,
    tracer_provider: trace_api.TracerProvider | None = None,
    meter_provider: metrics_api.MeterProvider | None = None,
    logger_provider: logs_api.LoggerProvider | None = None,
) -> Iterator[None]:
    """Within a block, sends the telemetry of the whole process to these providers instead of the global ones.

    A signal without a provider here still uses the global one.

    Examples:
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from otel_resilience.telemetry import use_providers
        >>> with use_providers(tracer_provider=TracerProvider(shutdown_on_exit=False)):
        ...     Policy("supplier").execute(lambda: "plans")
        'plans'
    """
    global override  # a process-wide switch by design
    previous, override = override, Listener(tracer_provider, meter_provider, logger_provider)
    providers.overridden = True
    try:
        yield
    finally:
        override = previous
        providers.overridden = previous is not None


@never_raise
def emit(
    name: str,
    level: int,
    body: str,
    attributes: Attributes,
    *,
    context: Context | None = None,
    span: Span | None = None,
) -> None:
    """Emits one event as one record, see :class:`EventLog`; optionally also on ``span``."""
    body = redact(body)
    listener = active()
    if listener is not None and listener.events_on_spans and span is not None:
        span.add_event(name, dict(attributes))
    (_global_events if override is None else override.events).emit(name, level, body, attributes, context)


_observed: dict[contract.Metric, Observe] = {}
"""The observable metrics and their callbacks."""


def observe(metric: contract.Metric, callback: Observe) -> None:
    """Adds an observable metric of another package; called when that package is imported."""
    _observed[metric] = callback
    for listener in {override, _global}:
        if listener is not None:
            listener.metrics.observe(metric, callback)
