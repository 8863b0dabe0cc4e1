"""OpenTelemetry instrumentation of tenacity: :class:`TenacityInstrumentor`."""

from __future__ import annotations

from otel_resilience.instrumentation._retrying import RetryingInstrumentor

__all__ = ["TenacityInstrumentor"]


class TenacityInstrumentor(RetryingInstrumentor):
    """Reports what tenacity retries, in code that stays as it is: each call with its attempts, waits and errors.

    Functions with ``@retry``, methods, ``retry_with``, ``Retrying()(function)``, and blocks (``for attempt in
    Retrying(): with attempt: …``, ``async for`` alike). Tornado's controller is left alone, and so is what stamina
    makes of tenacity, which has an instrumentor of its own.

    Examples:
        >>> from otel_resilience.instrumentation.tenacity import TenacityInstrumentor
        >>> TenacityInstrumentor().instrument()
        >>> TenacityInstrumentor().uninstrument()
    """

    _library = "tenacity"
    _supported = "tenacity >= 8.3, != 8.4.0, < 10"
