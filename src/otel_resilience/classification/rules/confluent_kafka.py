"""Rules for confluent-kafka. Nothing here imports it.

Its exceptions carry a ``KafkaError`` with a code: of Kafka's protocol, or, below -1, of librdkafka itself.
"""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import answer_of, args_of
from otel_resilience.classification.causes import by_class_name
from otel_resilience.classification.model import BreakerEffect, Classification
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.kafka import judge_code

_BY_LOCAL_CODE: Final = {
    -199: verdicts.GARBAGE,  # _BAD_MSG
    -195: os_errors.BROKEN,  # _TRANSPORT
    -193: os_errors.NAME_UNKNOWN,  # _RESOLVE
    -192: verdicts.READ_TIMEOUT,  # _MSG_TIMED_OUT
    -190: verdicts.NOT_FOUND,  # _UNKNOWN_PARTITION
    -188: verdicts.NOT_FOUND,  # _UNKNOWN_TOPIC
    -187: os_errors.REFUSED,  # _ALL_BROKERS_DOWN
    -185: verdicts.READ_TIMEOUT,  # _TIMED_OUT
    -184: verdicts.POOL,  # _QUEUE_FULL
    -181: os_errors.TLS_REFUSED,  # _SSL
    -180: verdicts.UNAVAILABLE,  # _WAIT_COORD
    -169: verdicts.AUTHENTICATION.replace(unsent=True),  # _AUTHENTICATION
    -168: verdicts.NOT_FOUND.replace(breaker=BreakerEffect.NEUTRAL),  # _NO_OFFSET
}


def _by_code(exception: BaseException) -> Classification:
    args = args_of(exception)
    error = args[0] if args else None
    code = answer_of(error, "code")
    verdict = _BY_LOCAL_CODE.get(code) if type(code) is int else None
    verdict = verdict or judge_code(code)
    if verdict is not None:
        return verdict
    return verdicts.UNAVAILABLE if answer_of(error, "retriable") is True else verdicts.MISUSE


classify_confluent_kafka: Final = by_class_name({"cimpl": {"KafkaException": _by_code}})
"""The verdict on an exception of confluent-kafka; ``None`` on any other."""
