"""Rules for elasticsearch and its transport. Nothing here imports them."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, header_of
from otel_resilience.classification.causes import by_class_name, nearest_verdict
from otel_resilience.classification.model import Classification, Rule
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.aiohttp import classify_aiohttp
from otel_resilience.classification.rules.carried_status import http_status
from otel_resilience.classification.rules.http_status import judge_response
from otel_resilience.classification.rules.urllib3 import classify_urllib3

_ANSWERED: Final = verdicts.CONFIRM_ONCE

_by_name: Final = by_class_name(
    {
        "elastic_transport.ApiError": _ANSWERED,
        "elastic_transport.ConnectionTimeout": verdicts.READ_TIMEOUT,
        "elastic_transport.TlsError": os_errors.TLS_REFUSED,
        "elastic_transport.ConnectionError": os_errors.BROKEN,
        "elastic_transport.SerializationError": verdicts.CONFIRM_ONCE,
        "elastic_transport.SniffingError": verdicts.UNAVAILABLE.replace(unsent=True),
        "elastic_transport.TransportError": verdicts.SERVER_ERROR,
        "elasticsearch.helpers.errors.BulkIndexError": verdicts.BAD_REQUEST,
        "elasticsearch.helpers.errors.ScanError": verdicts.SERVER_ERROR,
        "elasticsearch.exceptions.UnsupportedProductError": verdicts.MISUSE,
        "elasticsearch.UnsupportedProductError": verdicts.MISUSE,
    }.items()
)


def classify_elasticsearch(exception: BaseException) -> Classification | None:
    """The verdict on an exception of either package; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is _ANSWERED:
        return _answered(exception)
    if verdict is os_errors.BROKEN or verdict is os_errors.TLS_REFUSED or verdict is verdicts.READ_TIMEOUT:
        return nearest_verdict(exception, _transport) or verdict
    return verdict


RULES: Final[tuple[Rule, ...]] = (classify_elasticsearch,)
"""Silent on everything that neither raised."""


def _transport(exception: BaseException) -> Classification | None:
    return classify_urllib3(exception) or classify_aiohttp(exception)


def _answered(exception: BaseException) -> Classification:
    meta = attribute(exception, "meta")
    status = http_status(attribute(meta, "status"))
    if status is None:
        return _ANSWERED
    headers = attribute(meta, "headers")
    return judge_response(status, lambda name: header_of(headers, name)) or _ANSWERED
