"""Protected calls: the policy, then the exchange, for every request to a supplier."""

from __future__ import annotations

import asyncio
import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx

from catalog_sync.domain.errors import ApiTimeoutError
from catalog_sync.supplier import server_limits
from catalog_sync.supplier.esim_go.responses import (
    REDIRECTS,
    Answer,
    exchange,
    parse_json,
    raise_for_status,
    redirect_target,
    too_many_redirects,
)
from catalog_sync.supplier.failures import translate
from catalog_sync.supplier.port import Deadline, RequestCounts
from otel_resilience import BreakerEffect, CircuitOpenError, Classification, ErrorClass, Severity
from otel_resilience.classification import error_types

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from catalog_sync.settings.settings import Secret
    from otel_resilience import Classifier, Policy

T = TypeVar("T")

MAX_REDIRECTS: Final = 5
USER_AGENT: Final = "catalog-sync"

_CUT_OFF: Final = Classification(
    ErrorClass.TRANSIENT, Severity.MEDIUM, error_types.ATTEMPT_TIMEOUT, BreakerEffect.FAILURE
)


@dataclasses.dataclass(slots=True)
class _Call:
    """What the attempts of one call share."""

    operation: str
    template: str
    """The path without what varies, for the name of the client's span."""
    deadline: Deadline
    expected: frozenset[int]
    """The statuses of errors that are good answers."""
    attempts: int = 0


class ProtectedCalls:
    """GET requests under one policy, which gives each call its slot and each attempt a permit of the rate limit.

    The attempt timeout spans one exchange, body included, and no wait for a permit.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        policy: Policy,
        *,
        base_url: str,
        api_key: Secret,
        attempt_timeout: float,
        max_body_bytes: int,
        classifier: Classifier,
        wall_clock: Callable[[], float],
    ) -> None:
        self.counts = RequestCounts()
        """Requests sent so far."""
        self._http = http
        self._policy = policy
        self._limiter = policy.rate_limiter
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._attempt_timeout = attempt_timeout
        self._max_body_bytes = max_body_bytes
        self._classifier = classifier
        self._wall_clock = wall_clock
        self._costs: dict[str, int] = {}

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
        """GET ``path`` and parse its JSON; what ``parse`` raises counts as a failure of the attempt.

        ``template`` is the path on telemetry where the path itself names a single thing. ``answers``: the statuses of
        errors that are good answers, each with what it means.
        Raises only ``CatalogSyncError``, its cause chained: ``SyncDeadlineError`` where ``deadline`` has passed.
        """
        call = _Call(operation, template or path, deadline, frozenset(answers))

        async def attempt() -> T:
            call.attempts += 1
            answer = await self._follow(call, path, params)
            return answers[answer.status] if answer.status in answers else parse(parse_json(answer))

        try:
            return await self._policy.execute(attempt, name=operation, idempotent=True, deadline=deadline.remaining())
        except Exception as error:
            translated = translate(error, operation, self._classifier)
            if translated is error:
                raise
            raise translated from error

    async def _permit(self, call: _Call, cost: int) -> None:
        """What the request takes beyond the permit of its attempt. The circuit may open during the wait."""
        if self._limiter is None or not cost:
            return
        await self._limiter.acquire_async(cost, within=call.deadline.remaining())
        breaker = self._policy.breaker
        if breaker is not None and breaker.state.name in {"OPEN", "FORCED_OPEN"}:
            raise CircuitOpenError(breaker.dependency, breaker.metrics().retry_after)

    async def _follow(self, call: _Call, path: str, params: Mapping[str, str]) -> Answer:
        """One attempt: send, follow redirects within the host, return the answer that was asked for."""
        url = httpx.URL(self._base_url + path, params=dict(params) or None)
        for redirects in range(MAX_REDIRECTS + 1):
            await self._permit(call, self._costs.get(call.operation, 1) - (not redirects))
            answer = await self._send(call, url)
            self._heed(answer, call.operation)
            if answer.status not in REDIRECTS or "location" not in answer.headers:
                if answer.status not in call.expected:
                    raise_for_status(answer, call.operation)
                return answer
            url = redirect_target(answer)
        raise too_many_redirects(MAX_REDIRECTS)

    async def _send(self, call: _Call, url: httpx.URL) -> Answer:
        request = self._http.build_request(
            "GET",
            url,
            headers={
                "X-API-Key": self._api_key.reveal(),
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": USER_AGENT,
            },
            extensions={"url_template": call.template, "expected_statuses": call.expected},
        )
        self.counts.sent += 1
        if call.attempts > 1:
            self.counts.repeated += 1
        answered = asyncio.Event()
        timeout = asyncio.timeout(self._attempt_timeout)
        try:
            async with timeout:
                return await exchange(self._http, request, max_body_bytes=self._max_body_bytes, on_headers=answered.set)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            cut_off = answered.is_set()
            raise ApiTimeoutError(
                f"{call.operation}: {'the answer was not complete' if cut_off else 'no answer'} within "
                f"{self._attempt_timeout:g} s",
                classification=_CUT_OFF if cut_off else None,
            ) from error

    def _heed(self, answer: Answer, operation: str) -> None:
        """Let the supplier's own rate limit slow all callers down."""
        pause = server_limits.pause(answer.status, answer.headers, self._wall_clock())
        if pause > 0 and self._limiter is not None:
            self._limiter.pause(pause)
        cost = server_limits.cost(answer.headers)
        if cost is not None:
            self._costs[operation] = cost
