"""Rules for the clients of OpenAI and Anthropic, which have the same structure. Nothing here imports them."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification.causes import by_class_name, judged_behind
from otel_resilience.classification.model import Classification, ErrorClass, Rule, Severity
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import answered
from otel_resilience.classification.rules.httpx import classify_httpx

_NO_CREDIT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
"""Codes or types in the body of a 429 that waiting does not help against."""


def _answered(exception: BaseException) -> Classification:
    verdict = answered(exception)
    if verdict.error_class is ErrorClass.THROTTLED:
        said = (attribute(exception, "code"), attribute(exception, "type"))
        if any(is_a(each, str) and each in _NO_CREDIT for each in said):
            return verdicts.permanent(verdict.error_type, Severity.HIGH)
    return verdict


_CLASSES: Final[dict[str, Classification | Rule]] = {
    "APIConnectionError": judged_behind(classify_httpx, os_errors.BROKEN),
    "APIStatusError": _answered,
    "APIResponseValidationError": _answered,
    "LengthFinishReasonError": verdicts.BAD_REQUEST,
    "ContentFilterFinishReasonError": verdicts.BAD_REQUEST,
    "APIError": verdicts.SERVER_ERROR,  # an error event within a stream
    "OpenAIError": verdicts.MISUSE,
    "AnthropicError": verdicts.MISUSE,
}
classify_openai: Final = by_class_name(
    {package + module: _CLASSES for package in ("openai", "anthropic") for module in ("", "._exceptions")}
)
"""The verdict on an exception of either client; ``None`` on any other."""
