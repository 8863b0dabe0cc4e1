"""Rules for elasticsearch and its transport. Nothing here imports them."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, header_of
from otel_resilience.classification.causes import by_class_name, judged_behind
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.aiohttp import classify_aiohttp
from otel_resilience.classification.rules.carried_status import http_status
from otel_resilience.classification.rules.http_status import judge_response
from otel_resilience.classification.rules.urllib3 import classify_urllib3


def _transport(exception: BaseException) -> Classification | None:
    return classify_urllib3(exception) or classify_aiohttp(exception)


def _answered(exception: BaseException) -> Classification:
    meta = attribute(exception, "meta")
    status = http_status(attribute(meta, "status"))
    if status is None:
        return verdicts.CONFIRM_ONCE
    headers = attribute(meta, "headers")
    return judge_response(status, lambda name: header_of(headers, name)) or verdicts.CONFIRM_ONCE


classify_elasticsearch: Final = by_class_name(
    {
        "elastic_transport": {
            "ApiError": _answered,
            "ConnectionTimeout": judged_behind(_transport, verdicts.READ_TIMEOUT),
            "TlsError": judged_behind(_transport, os_errors.TLS_REFUSED),
            "ConnectionError": judged_behind(_transport, os_errors.BROKEN),
            "SerializationError": verdicts.CONFIRM_ONCE,
            "SniffingError": verdicts.UNAVAILABLE.replace(unsent=True),
            "TransportError": verdicts.SERVER_ERROR,
        },
        "elasticsearch": {"UnsupportedProductError": verdicts.MISUSE},
        "elasticsearch.exceptions": {"UnsupportedProductError": verdicts.MISUSE},
        "elasticsearch.helpers.errors": {"BulkIndexError": verdicts.BAD_REQUEST, "ScanError": verdicts.SERVER_ERROR},
    }
)
"""The verdict on an exception of either package; ``None`` on any other."""
