"""The rule for exceptions of clients without rules of their own that carry the HTTP status of a response."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

from otel_resilience._internal.foreign import attribute, bases_of, header_of, is_a, name_of
from otel_resilience.classification.by_class import STATUS_ATTRIBUTES, decided_by_class
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import verdicts
from otel_resilience.classification.rules.http_status import CONTROL_NOT_MODIFIED, judge_response


@decided_by_class(lambda kind: True, reads=STATUS_ATTRIBUTES)
def classify_carried_status(exception: BaseException) -> Classification | None:
    """The verdict by the status that ``exception`` carries; ``None`` if it carries none, or a success status.

    The status is an ``int`` from 100 to 599: the ``status_code`` or ``status`` of the attribute ``response``, an
    attribute ``status_code``, ``status`` or ``http_status`` of the exception, or its ``code`` if something else
    shows that this is HTTP (many databases number their errors in the same range). ``Retry-After`` is read from the
    headers of the response or of the exception.
    """
    response = attribute(exception, "response")
    status = None if response is None else http_status(attribute(response, "status_code"))
    if status is None:
        status = next((status for status in map(http_status, _candidates(exception, response)) if status), None)
    if status is None:
        return None
    if status == _NOT_MODIFIED:
        return CONTROL_NOT_MODIFIED
    return judge_response(status, functools.partial(_header, exception, response))


def answered(exception: BaseException) -> Classification:
    """The verdict on an error response reported by a client. One without a conclusive status is retried once."""
    return classify_carried_status(exception) or verdicts.CONFIRM_ONCE


_NOT_MODIFIED: Final = 304


def http_status(value: object) -> int | None:
    """``value`` if it is an HTTP status: an ``int`` (not ``bool``) from 100 to 599."""
    if type(value) is not int:
        if not is_a(value, int) or is_a(value, bool):
            return None
        value = int.__index__(value)
    return value if 100 <= value <= 599 else None


def _candidates(exception: BaseException, response: object) -> Iterator[object]:
    yield attribute(response, "status")
    yield _metadata(response).get("HTTPStatusCode")
    yield attribute(exception, "status_code")
    yield attribute(exception, "status")
    yield attribute(exception, "http_status")
    code = attribute(exception, "code")
    import http  # only if nothing above says more

    if is_a(code, http.HTTPStatus) or response is not None or _is_named_after_http(type(exception)):
        yield code


def _is_named_after_http(kind: type) -> bool:
    return any("http" in name_of(base).rpartition(".")[2].lower() for base in bases_of(kind))


def _metadata(response: object) -> dict[str, Any]:
    """botocore's response metadata: its errors keep a dictionary under ``response``."""
    metadata = response.get("ResponseMetadata") if type(response) is dict else None
    return metadata if type(metadata) is dict else {}


def _header(exception: BaseException, response: object, name: str) -> str | None:
    """From the response, or if it only keeps the headers, from the exception."""
    value = header_of(attribute(response, "headers"), name)
    if value is None and type(response) is dict:
        value = header_of(_metadata(response).get("HTTPHeaders"), name)
    return header_of(attribute(exception, "headers"), name) if value is None else value
