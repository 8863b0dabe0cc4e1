"""Rules for kafka-python, and for the error codes of Kafka's protocol wherever they come from.

Nothing here imports it.
"""

from __future__ import annotations

import re
from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification.causes import by_class_name, message_of
from otel_resilience.classification.model import BreakerEffect, Classification
from otel_resilience.classification.rules import os_errors, verdicts

_FENCED: Final = verdicts.MISUSE
"""Another producer or consumer has taken over: a new one must be created."""

_GROUPS: Final = (
    (verdicts.READ_TIMEOUT, (7,)),
    # no leader, no coordinator, loading, too few replicas in step, network, storage
    (verdicts.UNAVAILABLE, (5, 6, 8, 9, 13, 14, 15, 16, 19, 20, 41, 56, 72, 74, 75, 76, 77, 78, 80, 83)),
    (verdicts.UNAVAILABLE.replace(max_retries=2), (3, 100)),  # an unknown topic, perhaps not known yet
    (verdicts.CONFLICT.replace(breaker=BreakerEffect.NEUTRAL), (22, 25, 27, 51, 60, 70, 71, 79, 88)),
    (verdicts.THROTTLED, (89,)),
    (verdicts.AUTHENTICATION.replace(unsent=True), (31, 33, 34, 54, 58, 61, 62, 66)),
    (verdicts.NOT_ALLOWED, (29, 30, 53, 65)),
    (verdicts.EXISTS, (36,)),
    (verdicts.NOT_FOUND, (69, 91, 105)),
    (_FENCED, (45, 47, 48, 49, 59, 67, 82, 90)),
    (verdicts.TOO_LARGE, (10, 18)),
    (verdicts.BAD_REQUEST, (1, 4, 12, 17, 21, 23, 24, 26, 28, 32, 37, 38, 39, 40, 42, 43, 44, 87)),
    (verdicts.BAD_PROGRAM, (35,)),
    (verdicts.GARBAGE, (2,)),
    (verdicts.SERVER_ERROR, (-1,)),
)
_BY_CODE: Final = {code: verdict for verdict, codes in _GROUPS for code in codes}

_NO_METADATA: Final = re.compile(r"Unable to bootstrap|[Ff]ailed to (update|get) metadata")


def judge_code(code: object) -> Classification | None:
    """The verdict on an error code of Kafka's protocol; ``None`` if the code is not conclusive."""
    return _BY_CODE.get(code) if is_a(code, int) else None


def _answered(exception: BaseException) -> Classification:
    retriable = attribute(exception, "retriable") is True
    return judge_code(attribute(exception, "errno")) or (verdicts.UNAVAILABLE if retriable else verdicts.MISUSE)


def _timed_out(exception: BaseException) -> Classification:
    connecting = _NO_METADATA.search(message_of(exception))
    return verdicts.CONNECT_TIMEOUT if connecting else verdicts.READ_TIMEOUT


classify_kafka: Final = by_class_name(
    {
        "kafka.errors": {
            "KafkaTimeoutError": _timed_out,
            "KafkaConnectionError": os_errors.BROKEN,
            "NoBrokersAvailable": os_errors.REFUSED,
            "NodeNotReadyError": os_errors.REFUSED,
            "MetadataEmptyBrokerList": os_errors.REFUSED,
            "TooManyInFlightRequests": verdicts.POOL,
            "QuotaViolationError": verdicts.THROTTLED,
            "CommitFailedError": _BY_CODE[27],
            "StaleMetadata": verdicts.UNAVAILABLE.replace(breaker=BreakerEffect.NEUTRAL),
            "UnrecognizedBrokerVersion": verdicts.BAD_PROGRAM,
            "UnsupportedCodecError": verdicts.MISUSE,
            "CorrelationIdError": verdicts.GARBAGE,
            "KafkaProtocolError": verdicts.GARBAGE,
            "InvalidReceiveError": verdicts.GARBAGE,
            "Cancelled": verdicts.ENDED.replace(breaker=BreakerEffect.NEUTRAL),
            "KafkaError": _answered,
        }
    }
)
"""The verdict on an exception of kafka-python; ``None`` on any other."""
