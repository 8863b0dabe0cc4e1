"""OpenTelemetry instrumentation of stamina: :class:`StaminaInstrumentor`."""

from __future__ import annotations

from typing import Any

from otel_resilience.instrumentation import _retrying
from otel_resilience.instrumentation._base import LibraryInstrumentor, Settings

__all__ = ["StaminaInstrumentor"]


class StaminaInstrumentor(LibraryInstrumentor):
    """Reports what stamina retries, in code that stays as it is: each call with its attempts, waits and errors.

    Functions with ``@stamina.retry``, the callers, and blocks with ``stamina.retry_context``. Stamina's own hooks stay
    as they are. It is built on tenacity; each call is reported once, whichever instrumentors are in use. The attempts
    of a generator function have spans too, which are not current while it runs.

    Examples:
        >>> from otel_resilience.instrumentation.stamina import StaminaInstrumentor
        >>> StaminaInstrumentor().instrument()
        >>> StaminaInstrumentor().uninstrument()
    """

    _supported = "stamina >= 23.2, < 27"

    def _enable(self, settings: Settings) -> None:
        _retrying.enable("stamina", settings)

    def _uninstrument(self, **kwargs: Any) -> None:
        _retrying.disable("stamina")
