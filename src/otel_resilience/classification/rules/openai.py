"""Rules for the clients of OpenAI and Anthropic, which are built alike. Nothing here imports them."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification.causes import by_class_name, nearest_verdict
from otel_resilience.classification.model import Classification, ErrorClass, Rule, Severity
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import classify_carried_status
from otel_resilience.classification.rules.httpx import classify_httpx

_CONNECT: Final = os_errors.BROKEN
_ANSWERED: Final = verdicts.CONFIRM_ONCE
_NO_CREDIT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
"""Codes or types in the body of a 429 that no waiting helps against."""

_CLASSES: Final = {
    "APIConnectionError": _CONNECT,
    "APIStatusError": _ANSWERED,
    "APIResponseValidationError": verdicts.CONFIRM_ONCE,
    "LengthFinishReasonError": verdicts.BAD_REQUEST,
    "ContentFilterFinishReasonError": verdicts.BAD_REQUEST,
    "APIError": verdicts.SERVER_ERROR,  # an error event amid a stream
    "OpenAIError": verdicts.MISUSE,
    "AnthropicError": verdicts.MISUSE,
}
_by_name: Final = by_class_name(
    (f"{package}{module}.{name}", verdict)
    for package in ("openai", "anthropic")
    for module in ("", "._exceptions")
    for name, verdict in _CLASSES.items()
)


def classify_openai(exception: BaseException) -> Classification | None:
    """The verdict on an exception of either client; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is _CONNECT:
        return nearest_verdict(exception, classify_httpx) or verdict
    return _answered(exception) if verdict is _ANSWERED else verdict


RULES: Final[tuple[Rule, ...]] = (classify_openai,)
"""Silent on everything that neither raised."""


def _answered(exception: BaseException) -> Classification:
    verdict = classify_carried_status(exception) or _ANSWERED
    if verdict.error_class is ErrorClass.THROTTLED:
        said = (attribute(exception, "code"), attribute(exception, "type"))
        if any(is_a(each, str) and each in _NO_CREDIT for each in said):
            return verdicts.permanent(verdict.error_type, Severity.HIGH)
    return verdict
