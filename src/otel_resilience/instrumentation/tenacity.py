"""OpenTelemetry instrumentation of tenacity: :class:`TenacityInstrumentor`."""

from __future__ import annotations

from typing import Any

from otel_resilience.instrumentation import _retrying
from otel_resilience.instrumentation._base import LibraryInstrumentor, Settings

__all__ = ["TenacityInstrumentor"]


class TenacityInstrumentor(LibraryInstrumentor):
    """Reports what tenacity retries, in code that stays as it is: each call with its attempts, waits and errors.

    Functions with ``@retry``, methods, ``retry_with``, ``Retrying()(function)``, and blocks (``for attempt in
    Retrying(): with attempt: …``, ``async for`` alike). Tornado's controller is left alone, and so is what stamina
    makes of tenacity, which has an instrumentor of its own.

    Examples:
        >>> from otel_resilience.instrumentation.tenacity import TenacityInstrumentor
        >>> TenacityInstrumentor().instrument()
        >>> TenacityInstrumentor().uninstrument()
    """

    _supported = "tenacity >= 8.3, != 8.4.0, < 10"

    def _enable(self, settings: Settings) -> None:
        _retrying.enable("tenacity", settings)

    def _uninstrument(self, **kwargs: Any) -> None:
        _retrying.disable("tenacity")
