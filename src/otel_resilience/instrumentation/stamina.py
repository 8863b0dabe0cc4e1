"""OpenTelemetry instrumentation of stamina: :class:`StaminaInstrumentor`."""

from __future__ import annotations

from otel_resilience.instrumentation._retrying import RetryingInstrumentor

__all__ = ["StaminaInstrumentor"]


class StaminaInstrumentor(RetryingInstrumentor):
    """Reports what stamina retries, without changes to the code: each call with its attempts, waits and errors.

    Covers functions with ``@stamina.retry``, the callers, and blocks with ``stamina.retry_context``. Stamina's own
    hooks are left alone. It is built on tenacity; each call is reported once, whichever instrumentors are in use. The
    attempts of a generator function have spans too, which are not current while it runs.

    Examples:
        >>> from otel_resilience.instrumentation.stamina import StaminaInstrumentor
        >>> StaminaInstrumentor().instrument()
        >>> StaminaInstrumentor().uninstrument()
    """

    _library = "stamina"
    _supported = "stamina >= 23.2, < 27"
