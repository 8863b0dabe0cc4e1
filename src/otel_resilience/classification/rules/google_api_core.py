"""Rules for google-api-core, and so for the clients of Google Cloud, and for google-auth. Nothing here imports them."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a, name_of
from otel_resilience.classification.causes import by_class_name
from otel_resilience.classification.model import Classification
from otel_resilience.classification.retry_after import MAX_RETRY_AFTER
from otel_resilience.classification.rules import clients, os_errors, verdicts
from otel_resilience.classification.rules.carried_status import classify_carried_status
from otel_resilience.classification.rules.grpc import judge_rpc


def _gave_up(exception: BaseException) -> Classification:
    """Its own retries ran out of time: judged by the error that ended the last of them."""
    cause = attribute(exception, "cause")
    is_known = is_a(cause, BaseException) and not name_of(type(cause)).endswith(".RetryError")
    return (clients.classify_client(cause) if is_known else None) or verdicts.READ_TIMEOUT


def _answered(exception: BaseException) -> Classification:
    """By the HTTP status if the response came over HTTP, else by that of gRPC, from which HTTP's is derived."""
    over_http = attribute(attribute(exception, "response"), "status_code") is not None
    status = None if over_http else attribute(attribute(exception, "grpc_status_code"), "name")
    verdict = judge_rpc(status, attribute(exception, "message"), None)
    verdict = verdict or classify_carried_status(exception) or verdicts.SERVER_ERROR
    hint = _hint(exception) if verdict.retryable and verdict.retry_after is None else None
    return verdict if hint is None else verdict.replace(retry_after=hint)


def _hint(exception: BaseException) -> float | None:
    """The delay of a ``google.rpc.RetryInfo`` among the details of the response, in seconds."""
    details = attribute(exception, "details")
    for detail in details if is_a(details, (list, tuple)) else ():
        delay = attribute(detail, "retry_delay")
        seconds, nanos = attribute(delay, "seconds"), attribute(delay, "nanos")
        if is_a(seconds, int) and is_a(nanos, int) and seconds >= 0:
            return min(seconds + nanos / 1e9, MAX_RETRY_AFTER)
    return None


classify_google_api_core: Final = by_class_name(
    {
        "google.api_core.exceptions": {
            "RetryError": _gave_up,
            "GoogleAPICallError": _answered,
            "GoogleAPIError": verdicts.MISUSE,
        },
        "google.auth.exceptions": {
            "TransportError": os_errors.BROKEN,
            "TimeoutError": verdicts.READ_TIMEOUT,
            "RefreshError": verdicts.EXPIRED.replace(unsent=True),
            "GoogleAuthError": verdicts.AUTHENTICATION.replace(unsent=True),
        },
    }
)
"""The verdict on an exception of google-api-core or google-auth; ``None`` on any other."""
