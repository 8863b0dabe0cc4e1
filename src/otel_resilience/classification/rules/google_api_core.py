"""Rules for google-api-core, and so for the clients of Google Cloud, and for google-auth. Nothing here imports them."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a, name_of
from otel_resilience.classification.causes import by_class_name
from otel_resilience.classification.model import Classification, Rule
from otel_resilience.classification.retry_after import MAX_RETRY_AFTER
from otel_resilience.classification.rules import clients, os_errors, verdicts
from otel_resilience.classification.rules.carried_status import classify_carried_status
from otel_resilience.classification.rules.grpc import judge_rpc

_ANSWERED: Final = verdicts.SERVER_ERROR
_GAVE_UP: Final = verdicts.READ_TIMEOUT.replace()

_by_name: Final = by_class_name(
    {
        "google.api_core.exceptions.RetryError": _GAVE_UP,
        "google.api_core.exceptions.GoogleAPICallError": _ANSWERED,
        "google.api_core.exceptions.GoogleAPIError": verdicts.MISUSE,
        "google.auth.exceptions.TransportError": os_errors.BROKEN,
        "google.auth.exceptions.TimeoutError": verdicts.READ_TIMEOUT,
        "google.auth.exceptions.RefreshError": verdicts.EXPIRED.replace(unsent=True),
        "google.auth.exceptions.GoogleAuthError": verdicts.AUTHENTICATION.replace(unsent=True),
    }.items()
)


def classify_google_api_core(exception: BaseException) -> Classification | None:
    """The verdict on an exception of google-api-core or google-auth; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is _GAVE_UP:  # its own retries ran out of time: what ended the last of them
        cause = attribute(exception, "cause")
        is_known = is_a(cause, BaseException) and not name_of(type(cause)).endswith(".RetryError")
        return (clients.classify_client(cause) if is_known else None) or verdict
    if verdict is not _ANSWERED:
        return verdict
    judged = _answered(exception)
    hint = _hint(exception) if judged.retryable and judged.retry_after is None else None
    return judged if hint is None else judged.replace(retry_after=hint)


RULES: Final[tuple[Rule, ...]] = (classify_google_api_core,)
"""Silent on everything that neither raised."""


def _answered(exception: BaseException) -> Classification:
    """By the HTTP status where the answer came over HTTP, else by that of gRPC, of which HTTP's is only an image."""
    over_http = attribute(attribute(exception, "response"), "status_code") is not None
    status = None if over_http else attribute(attribute(exception, "grpc_status_code"), "name")
    return judge_rpc(status, attribute(exception, "message"), None) or classify_carried_status(exception) or _ANSWERED


def _hint(exception: BaseException) -> float | None:
    """The delay of a ``google.rpc.RetryInfo`` among the details of the answer, in seconds."""
    details = attribute(exception, "details")
    for detail in details if is_a(details, (list, tuple)) else ():
        delay = attribute(detail, "retry_delay")
        seconds, nanos = attribute(delay, "seconds"), attribute(delay, "nanos")
        if is_a(seconds, int) and is_a(nanos, int) and seconds >= 0:
            return min(seconds + nanos / 1e9, MAX_RETRY_AFTER)
    return None
