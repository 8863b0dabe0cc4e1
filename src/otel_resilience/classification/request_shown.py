"""Whether the request behind an exception may be repeated, if the exception shows that request. Pure."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, bases_of, has_none_of, header_of, is_a, name_of

IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110, 9.2.2."""

_UNSAFE_METHODS: Final = frozenset({"POST", "PATCH", "CONNECT"})
_IDEMPOTENCY_KEY: Final = "idempotency-key"
_MOST_REDIRECTS: Final = 50
REQUEST_ATTRIBUTES: Final = frozenset({"request", "response", "request_info", "method"})
"""Attributes in which an exception may show its request."""
shows_no_request: Final = has_none_of(REQUEST_ATTRIBUTES)
_was_not_answered: Final = has_none_of(("response", "history"))


def is_idempotent(method: str) -> bool:
    """Whether HTTP lets a request with this method be repeated."""
    return method.upper() in IDEMPOTENT_METHODS


def shows_idempotent(exception: BaseException) -> bool | None:
    """Whether the request may be repeated, by its method or an idempotency key; ``None`` if no request is shown.

    Clients keep it in ``request`` (httpx, requests), ``response.request``, ``request_info`` (aiohttp), or on the
    exception itself. Redirected requests count as well: a POST that was answered with 303 was sent.
    """
    return None if shows_no_request(exception) else shown_idempotent(exception)


def shown_idempotent(exception: BaseException) -> bool | None:
    """Like :func:`shows_idempotent`, for an exception that is known to have one of the attributes."""
    shown = _is_repeatable(attribute(exception, "request"))
    if shown is None:
        response = attribute(exception, "response")
        if response is not None:
            shown = _is_repeatable(attribute(response, "request"))
        if shown is None:
            shown = _is_repeatable(attribute(exception, "request_info"))
    if shown is not None:
        return shown and (_was_not_answered(exception) or not _redirected_unsafely(exception))
    method = attribute(exception, "method")
    if is_a(method, str) and method.upper() in IDEMPOTENT_METHODS | _UNSAFE_METHODS:
        return is_idempotent(method)
    return None


def method_of(request: object) -> str | None:
    """The method of a request object of any HTTP client; ``None`` if it is not a request."""
    if request is None:
        return None
    method = attribute(request, "method")
    if type(method) is str:
        return method or None
    if method is None and any(name_of(kind) == "urllib.request.Request" for kind in bases_of(type(request))):
        method = request.get_method()  # type: ignore[attr-defined]  # not imported: that takes 50 ms
    if is_a(method, bytes):
        method = method.decode("latin-1")
    return method if is_a(method, str) and method else None


def has_key(headers: object) -> bool:
    """Whether there is an idempotency key among the headers of a request."""
    return header_of(headers, _IDEMPOTENCY_KEY) is not None


def _is_repeatable(request: object) -> bool | None:
    if request is None:
        return None
    method = attribute(request, "method")
    if type(method) is not str:
        method = method_of(request)
    if method in IDEMPOTENT_METHODS:
        return True
    if method == "POST" and name_of(type(request)).startswith("botocore."):
        return None  # most AWS protocols use POST for reads as well
    return None if not method else is_idempotent(method) or has_key(attribute(request, "headers"))


def _redirected_unsafely(exception: BaseException) -> bool:
    """Whether one of the earlier requests in a chain of redirects, as shown by the responses in ``history``, must not
    be repeated."""
    response = attribute(exception, "response")
    for history in (attribute(response, "history"), attribute(exception, "history")):
        if history is None or not is_a(history, (list, tuple)):
            continue
        for earlier in history[:_MOST_REDIRECTS]:
            request = attribute(earlier, "request")
            shown = attribute(earlier, "request_info") if request is None else request
            if _is_repeatable(shown) is False:
                return True
    return False
