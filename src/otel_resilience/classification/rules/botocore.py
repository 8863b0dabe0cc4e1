"""Rules for botocore, and so for boto3 and aiobotocore. Nothing here imports it.

AWS identifies its errors by codes, which say more than the HTTP status: throttling often comes as 400.
"""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification import error_types
from otel_resilience.classification.causes import by_class_name, judged_behind, nearest_verdict
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import classify_carried_status
from otel_resilience.classification.rules.urllib3 import classify_urllib3

_CREDENTIALS: Final = verdicts.AUTHENTICATION.replace(unsent=True)
_CLOCK: Final = verdicts.permanent(error_types.CLOCK_SKEW, max_retries=1)
"""botocore corrects its clock offset from the response, and signs the next request with it."""

_GROUPS: Final = {
    """
    BandwidthLimitExceeded EC2ThrottledException LimitExceededException PriorRequestNotComplete
    ProvisionedThroughputExceededException RequestLimitExceeded RequestThrottled RequestThrottledException SlowDown
    ThrottledException Throttling ThrottlingException TooManyRequestsException
    """: verdicts.THROTTLED,
    "ExpiredToken ExpiredTokenException TokenRefreshRequired": verdicts.EXPIRED,
    "RequestExpired RequestInTheFuture RequestTimeTooSkewed": _CLOCK,
    """
    AuthFailure IncompleteSignature InvalidAccessKeyId InvalidClientTokenId InvalidSignatureException InvalidToken
    MissingAuthenticationToken MissingAuthenticationTokenException SignatureDoesNotMatch UnrecognizedClientException
    """: verdicts.AUTHENTICATION,
    "AccessDenied AccessDeniedException OptInRequired UnauthorizedOperation": verdicts.NOT_ALLOWED,
    "ConditionalCheckFailedException PreconditionFailed": verdicts.CONSTRAINT,
    "TransactionConflictException TransactionInProgressException": verdicts.SERIALIZATION,
    "ConditionalRequestConflict OperationAborted": verdicts.CONFLICT,
    "ResourceNotFoundException": verdicts.NOT_FOUND,
    "RequestTimeout RequestTimeoutException": verdicts.READ_TIMEOUT,
    """
    InternalError InternalFailure InternalServerError InternalServerException ServiceUnavailable
    ServiceUnavailableException
    """: verdicts.UNAVAILABLE,
}
_BY_CODE: Final = {code: verdict for codes, verdict in _GROUPS.items() for code in codes.split()}


def _answered(exception: BaseException) -> Classification:
    """By the code, plus other hints in the response; if the code is unknown, by the status."""
    response = attribute(exception, "response")
    error = response.get("Error") if type(response) is dict else None
    code = error.get("Code") if type(error) is dict else None
    by_code = _BY_CODE.get(code) if is_a(code, str) else None
    by_status = classify_carried_status(exception)
    if by_code is None:
        return by_status or verdicts.SERVER_ERROR
    hint = None if by_status is None else by_status.retry_after
    return by_code if hint is None or not by_code.retryable else by_code.replace(retry_after=hint)


def _connecting(exception: BaseException) -> Classification:
    return (nearest_verdict(exception, classify_urllib3) or os_errors.REFUSED).replace(unsent=True)


_ended: Final = judged_behind(classify_urllib3, verdicts.ENDED)
_broken: Final = judged_behind(classify_urllib3, os_errors.BROKEN)

classify_botocore: Final = by_class_name(
    {
        "botocore.exceptions": {
            "ClientError": _answered,
            "ConnectTimeoutError": verdicts.CONNECT_TIMEOUT,
            "ReadTimeoutError": os_errors.read_timeout,
            "EndpointConnectionError": _connecting,
            "ProxyConnectionError": verdicts.PROXY,
            "SSLError": judged_behind(classify_urllib3, os_errors.TLS_REFUSED),
            "ConnectionClosedError": _ended,
            "ResponseStreamingError": _ended,
            "IncompleteReadError": _ended,
            "HTTPClientError": _broken,
            "ConnectionError": _broken,
            "ChecksumError": verdicts.GARBAGE,
            "FlexibleChecksumError": verdicts.GARBAGE,
            "NoCredentialsError": _CREDENTIALS,
            "PartialCredentialsError": _CREDENTIALS,
            "NoAuthTokenError": _CREDENTIALS,
            "SSOError": _CREDENTIALS,
            "LoginError": _CREDENTIALS,
            "CredentialRetrievalError": verdicts.EXPIRED.replace(unsent=True),
            "TokenRetrievalError": verdicts.EXPIRED.replace(unsent=True),
            "MetadataRetrievalError": verdicts.UNAVAILABLE.replace(unsent=True),
            "CapacityNotAvailableError": verdicts.THROTTLED.replace(unsent=True),
            "BotoCoreError": verdicts.MISUSE,
        },
        "botocore.parsers": {"ResponseParserError": verdicts.GARBAGE},
    }
)
"""The verdict on an exception of botocore; ``None`` on any other."""
