"""OpenTelemetry instrumentation of tenacity: :class:`TenacityInstrumentor`."""

from __future__ import annotations

from otel_resilience.instrumentation._retrying import RetryingInstrumentor

__all__ = ["TenacityInstrumentor"]


class TenacityInstrumentor(RetryingInstrumentor):
    """Reports what tenacity retries, without changes to the code: each call with its attempts, waits and errors.

    Covers functions with ``@retry``, methods, ``retry_with``, ``Retrying()(function)``, and blocks (``for attempt in
    Retrying(): with attempt: …``, and ``async for``). Tornado's controller is not covered, nor are stamina's uses of
    tenacity, which have their own instrumentor.

    Examples:
        >>> from otel_resilience.instrumentation.tenacity import TenacityInstrumentor
        >>> TenacityInstrumentor().instrument()
        >>> TenacityInstrumentor().uninstrument()
    """

    _library = "tenacity"
    _supported = "tenacity >= 8.3, != 8.4.0, < 10"
