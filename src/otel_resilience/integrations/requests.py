"""Protection for a session of requests: an adapter.

session.mount("https://", ResilientAdapter(policy))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.util import Timeout, parse_url

from otel_resilience.integrations._http import (
    PolicyByHost,
    Protection,
    SyncExchange,
    declared,
    time_left,
    timed_by_client,
    worth_reading,
)
from otel_resilience.policy.policy import Policy

__all__ = ["ResilientAdapter"]


class ResilientAdapter(HTTPAdapter):
    """Sends the requests of a session under a policy.

    ``policy`` is one for all requests, or policies by host: a dictionary, or a
    :class:`~otel_resilience.PolicyRegistry`; a host that a dictionary lacks is a ``KeyError``. ``name`` makes the
    operation's name on telemetry of a ``PreparedRequest``, from a small set; by default it is the method. The other
    parameters are those of ``HTTPAdapter``; leave ``max_retries`` at 0, else each attempt is several.

    The body of an answer is read within the attempt, unless the request says ``stream=True``. ``attempt_timeout`` and
    what is left of the deadline bound the timeouts of the request; no thread is needed. Raises ``TypeError`` naming the
    parameter.

    Examples:
        >>> import requests
        >>> from otel_resilience.integrations.requests import ResilientAdapter
        >>> policies = PolicyRegistry(lambda host: Policy(host, retry=RetryConfig(), deadline=30))
        >>> with requests.Session() as session:
        ...     session.mount("https://", ResilientAdapter(policies, pool_maxsize=50))
    """

    def __init__(
        self,
        policy: Policy | PolicyByHost,
        *,
        name: Callable[[PreparedRequest], str] | None = None,
        **options: Any,
    ) -> None:
        self._protection = Protection(policy, name)
        super().__init__(**options)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """The last answer. Raises what requests raised last, or an error of the policy."""
        method = (request.method or "").upper()
        given = self._protection.policy(parse_url(request.url or "").host)
        policy = timed_by_client(given)
        exchange = SyncExchange(request.headers, Response.close)
        send = super().send

        def attempt() -> Response:
            exchange.begin_attempt()
            limited = _limited(timeout, time_left(given.attempt_timeout))
            response = send(request, stream=stream, timeout=limited, verify=verify, cert=cert, proxies=proxies)
            error = exchange.judge(response, response.status_code, response.headers)
            if not stream or (error is not None and worth_reading(error, response.headers)):
                response.content  # noqa: B018  # read, and kept
            if error is not None:
                raise error
            return response

        one_shot = not isinstance(request.body, (str, bytes, type(None)))
        return exchange.run(
            lambda: policy.execute(
                attempt,
                name=self._protection.name(request, method),
                idempotent=declared(policy, method, request.headers, one_shot=one_shot),
            )
        )


def _limited(timeout: Any, limit: float | None) -> Any:
    """``timeout`` of a request, cut to ``limit`` seconds for connecting and the wait for an answer together."""
    if limit is None:
        return timeout
    if not isinstance(timeout, Timeout):
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        timeout = Timeout(connect=connect, read=read)
    limited = timeout.clone()
    limited.total = limit if timeout.total is None else min(timeout.total, limit)
    return limited
