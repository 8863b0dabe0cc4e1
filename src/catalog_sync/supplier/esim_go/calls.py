"""GET requests to the supplier through the policy's transport, and the supplier's own meaning of responses."""

from __future__ import annotations

import dataclasses
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx

from catalog_sync.domain.errors import RateLimitError, SupplierUnavailableError
from catalog_sync.domain.pieces import let_others_run
from catalog_sync.domain.times import rfc3339
from catalog_sync.supplier import server_limits
from catalog_sync.supplier.esim_go.responses import is_redirect, parse_json, raise_for_status, redirect_target
from catalog_sync.supplier.failures import translate
from catalog_sync.supplier.port import Deadline, RequestCounts
from otel_resilience import Classification, ErrorClass, Severity, current_attempt
from otel_resilience.classification import error_types
from otel_resilience.integrations.httpx import AsyncResilientTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from catalog_sync.settings.settings import Settings
    from otel_resilience import Policy

T = TypeVar("T")

USER_AGENT: Final = "catalog-sync"
SAID_FROM: Final = 10.0
"""Seconds. A longer pause is logged, since no progress is visible while it lasts."""
_READ: Final = httpx.ByteStream(b"")
_CALL: Final = "catalog_sync.call"
"""The extension of a request with its :class:`_Call`."""
_PAUSED: Final = Classification(ErrorClass.THROTTLED, Severity.MEDIUM, error_types.RATE_LIMITED, unsent=True)
"""Like a rate limit of our own whose next permit comes too late."""
_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class _Call:
    """State shared by the requests of one call: several if it is redirected."""

    operation: str
    parse: Callable[[Any], Any]
    answers: Mapping[int, Any]
    """The error statuses that are valid answers, each with its meaning."""
    deadline: Deadline
    url: httpx.URL | None
    """The next URL to request; ``None`` once there is a result."""
    redirects: int = 0
    result: Any = None


class SupplierCalls:
    """Sends requests under ``policy``. An attempt ends with the body, checked and parsed."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        transport: httpx.AsyncBaseTransport,
        *,
        connect_timeout: float,
        wall_clock: Callable[[], float],
    ) -> None:
        self.counts = RequestCounts()
        """Requests sent so far."""
        self._policy = policy
        self._wall_clock = wall_clock
        self._base_url = settings.base_url.rstrip("/")
        self._costs: dict[str, int] = {}
        """Permits that a request of each operation takes."""
        self._http = httpx.AsyncClient(
            transport=AsyncResilientTransport(
                policy,
                _Wire(transport, self.counts, wall_clock),
                name=lambda request: request.extensions[_CALL].operation,
                permits=lambda request: self._costs.get(request.extensions[_CALL].operation, 1),
                max_body_bytes=settings.max_body_bytes,
                judge=self._judge,
            ),
            headers={
                "X-API-Key": settings.api_key.reveal(),
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": USER_AGENT,
            },
            timeout=httpx.Timeout(None, connect=connect_timeout),
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def get(
        self,
        operation: str,
        path: str,
        params: Mapping[str, str],
        parse: Callable[[Any], T],
        deadline: Deadline,
        *,
        template: str | None = None,
        answers: Mapping[int, T] = MappingProxyType({}),
    ) -> T:
        """GETs ``path`` and parses its JSON; an exception from ``parse`` counts as a failure of the attempt.

        If the open circuit rejects the call, the error says what had opened it. ``template`` is the path on telemetry
        if the path itself identifies a single object. ``answers``: the error statuses that are valid answers, each with
        its meaning. Raises only ``CatalogSyncError``, its cause chained: ``SyncDeadlineError`` after ``deadline``.
        """
        url = httpx.URL(self._base_url + path, params=dict(params) or None)
        call = _Call(operation, parse, answers, deadline, url)
        extensions = {"url_template": template or path, "expected_statuses": frozenset(answers), _CALL: call}
        try:
            while call.url is not None:
                response = await self._http.get(call.url, extensions={**extensions, "deadline": deadline.remaining()})
                # Its stream refers back to it, and would keep the page alive until a late garbage collection.
                response.stream = _READ
        except Exception as error:
            translated = translate(error, operation, self._policy.classifier)
            if isinstance(translated, SupplierUnavailableError):
                self._add_what_opened(translated)
            if translated is error:
                raise
            raise translated from error
        result, call.result = call.result, None
        return result  # type: ignore[no-any-return]  # what ``parse`` returned

    def _add_what_opened(self, error: SupplierUnavailableError) -> None:
        breaker = self._policy.breaker
        opened = None if breaker is None else breaker.metrics().last_transition
        if opened is not None and opened.error_type:
            error.args = (f"{error}; it opened after {opened.error_type}",)
            error.context["opened_by"] = opened.error_type

    async def _judge(self, response: httpx.Response) -> bool:
        """Takes the result, or the URL of a redirect within the host, from a complete response; otherwise raises."""
        call: _Call = response.request.extensions[_CALL]
        self._apply_rate_limit(response, call)
        if response.status_code in call.answers:
            call.result, call.url = call.answers[response.status_code], None
        elif not is_redirect(response):
            raise_for_status(response, call.operation)
            parsed = parse_json(response)
            await let_others_run()
            call.result, call.url = call.parse(parsed), None
        else:
            call.url = redirect_target(response, call.redirects)
            call.redirects += 1
        return True

    def _apply_rate_limit(self, response: httpx.Response, call: _Call) -> None:
        """Lets the supplier's own rate limit slow all callers down.

        A pause that is too long for this sync ends it. It is not passed to the rate limit, which all processes share:
        that would block a sync that someone requests meanwhile, for a day.
        """
        limiter = self._policy.rate_limiter
        now = self._wall_clock()
        pause = server_limits.pause(response.status_code, response.headers, now)
        if pause > min(call.deadline.remaining(), self._policy.retry.max_retry_after):
            call.deadline.paused_until = now + pause
        elif pause > 0 and limiter is not None:
            if pause > SAID_FROM:
                _log.warning("the supplier requested a pause: nothing is sent for %.0f s", pause)
            limiter.pause(pause)
        cost = server_limits.cost(response.headers)
        if cost is not None:
            self._costs[call.operation] = cost


class _Wire(httpx.AsyncBaseTransport):
    """Counts what is sent, each attempt and each redirect; sends nothing if the supplier asked for too long a pause.

    Requests that were waiting for their permit when that response came are stopped here as well.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, counts: RequestCounts, wall_clock: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._counts = counts
        self._wall_clock = wall_clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call: _Call = request.extensions[_CALL]
        until = call.deadline.paused_until
        if until is not None:
            raise RateLimitError(
                f"{call.operation}: not sent, the supplier asked for a pause until {rfc3339(until)}; a new sync tries "
                "again, a scheduled one not before",
                classification=_PAUSED,
                retry_after=max(0.0, until - self._wall_clock()),
                context={"operation": call.operation},
            )
        self._counts.sent += 1
        self._counts.repeated += current_attempt() > 1
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Closes the inner transport."""
        await self._transport.aclose()
