"""The client of the eSIM Go API."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

import httpx

from catalog_sync.domain.errors import (
    AccessDeniedError,
    AuthenticationError,
    CatalogSyncError,
    InvalidDataError,
    NotFoundError,
)
from catalog_sync.domain.text import is_encodable
from catalog_sync.supplier.esim_go import envelope
from catalog_sync.supplier.esim_go.calls import ProtectedCalls
from catalog_sync.supplier.esim_go.paging import follow_pages
from catalog_sync.supplier.esim_go.policy import MAX_IN_FLIGHT, supplier_classifier, supplier_policy
from catalog_sync.supplier.port import Deadline, Page, RequestCounts, Scope
from otel_resilience import BreakerEffect, Policy
from otel_resilience.classification import error_types

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from catalog_sync.domain.models import Bundle
    from catalog_sync.settings.settings import Settings

T = TypeVar("T")

PAGES_AHEAD: Final = 8
"""Pages of one scope requested before the first of them was handed on."""

MAX_PAGES: Final = 20_000

PAGE_SIZES: Final = (50, 25, 10)
"""Tried in turn where the supplier refuses a page size."""

MISMATCHES_TOLERATED: Final = 3
"""From so many pages of a wrong format in a row, each counts as a failure of the supplier."""

CONNECT_TIMEOUT: Final = 5.0
PROBE_VALID_FOR: Final = 30.0
"""Seconds for which one probe of the key answers for all groups that were denied."""


@contextlib.asynccontextmanager
async def open_supplier(
    settings: Settings,
    *,
    policy: Policy | None = None,
    instrument: Callable[[httpx.AsyncClient], object] | None = None,
) -> AsyncIterator[EsimGoClient]:
    """A client with its connections, closed at the end. ``instrument`` may add telemetry to the HTTP client.

    Proxy settings of the environment are not read: they would carry the key through a host that no setting names.
    """
    timeout = httpx.Timeout(None, connect=min(CONNECT_TIMEOUT, settings.attempt_timeout))
    # A plain-http base (the simulator) needs no trust store, and loading one takes longer than the first page. The
    # empty one trusts no certificate.
    verify: ssl.SSLContext | bool = True
    if settings.base_url.startswith("http://"):
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limits = httpx.Limits(max_connections=MAX_IN_FLIGHT, max_keepalive_connections=MAX_IN_FLIGHT, keepalive_expiry=15.0)
    async with httpx.AsyncClient(trust_env=False, timeout=timeout, limits=limits, verify=verify) as http:
        if instrument is not None:
            instrument(http)
        yield EsimGoClient(settings, policy or supplier_policy(settings), http)


class EsimGoClient:
    """eSIM Go behind the supplier port. Every call goes through the policy."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        http: httpx.AsyncClient,
        *,
        max_pages: int = MAX_PAGES,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._calls = ProtectedCalls(
            http,
            policy,
            base_url=settings.base_url,
            api_key=settings.api_key,
            attempt_timeout=settings.attempt_timeout,
            max_body_bytes=settings.max_body_bytes,
            classifier=supplier_classifier(),
            wall_clock=wall_clock,
        )
        self._policy = policy
        self._max_pages = max_pages
        self._clock = clock
        self._page_size = settings.page_size
        self._mismatches = 0
        self._probing = asyncio.Lock()
        self._probed_at = float("-inf")
        self._refused: AccessDeniedError | None = None

    @property
    def counts(self) -> RequestCounts:
        """Requests sent so far."""
        return self._calls.counts

    @property
    def policy(self) -> Policy:
        """The policy that protects every call."""
        return self._policy

    async def list_groups(self, *, deadline: Deadline) -> list[str]:
        """``GET /organisation/groups``."""
        return await self._allowed(
            self._calls.get("list groups", "/organisation/groups", {}, envelope.parse_groups, deadline), deadline
        )

    async def get_bundle(self, name: str, *, deadline: Deadline) -> Bundle:
        """``GET /catalogue/bundle/{name}``. Raises ``NotFoundError`` where it is gone, or cannot be a bundle's name."""
        if name in {"", ".", ".."} or not is_encodable(name):
            # As a part of a path it would ask another address, with the key.
            raise NotFoundError(f"no bundle has the name {name!r}")
        path = f"/catalogue/bundle/{quote(name, safe='')}"
        return await self._allowed(
            self._calls.get(
                "get bundle",
                path,
                {},
                lambda data: envelope.parse_bundle(data, name),
                deadline,
                template="/catalogue/bundle/{name}",
            ),
            deadline,
        )

    async def health_probe(self, *, deadline: Deadline) -> None:
        """``GET /organisation``: cheap, and refused only with a bad key."""
        await self._calls.get("probe organisation", "/organisation", {}, lambda data: data, deadline)

    async def iter_pages(self, scope: Scope, *, deadline: Deadline) -> AsyncGenerator[Page, None]:
        """``GET /catalogue``, to the last page. Close the iterator when leaving it early."""
        first, size = await self._first_page(scope, deadline)

        def fetch(number: int) -> Awaitable[Page]:
            return self._allowed(self._list(scope, number, size, deadline), deadline)

        pages = follow_pages(first, fetch, page_size=size, window=PAGES_AHEAD, max_pages=self._max_pages)
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page

    async def _first_page(self, scope: Scope, deadline: Deadline) -> tuple[Page, int]:
        """The first page and the size that the supplier accepted for it; smaller ones are tried where it refuses."""
        while True:
            size = self._page_size
            try:
                return await self._list(scope, 1, size, deadline), size
            except CatalogSyncError as error:
                smaller = next((step for step in PAGE_SIZES if step < size), None)
                if smaller is None or not _concerns_page_size(error, size):
                    if isinstance(error, AccessDeniedError):
                        await self._check_key(deadline, error)
                    raise
                self._page_size = min(self._page_size, smaller)

    async def _list(self, scope: Scope, number: int, size: int, deadline: Deadline) -> Page:
        params = {"page": str(number), "perPage": str(size)}
        if scope.group is not None:
            params["group"] = scope.group
        if scope.country is not None:
            params["countries"] = scope.country
        return await self._calls.get(
            "list bundles", "/catalogue", params, lambda data: self._parse_page(data, number), deadline
        )

    def _parse_page(self, data: object, number: int) -> Page:
        try:
            page = envelope.parse_page(data, number)
        except InvalidDataError as error:
            if error.error_type == error_types.SCHEMA_MISMATCH:
                self._mismatches += 1
                if self._mismatches < MISMATCHES_TOLERATED:
                    error.classification = error.classification.replace(breaker=BreakerEffect.NEUTRAL)
            raise
        self._mismatches = 0
        return page

    async def _allowed(self, call: Awaitable[T], deadline: Deadline) -> T:
        try:
            return await call
        except AccessDeniedError as error:
            await self._check_key(deadline, error)
            raise

    async def _check_key(self, deadline: Deadline, denied: AccessDeniedError) -> None:
        """Tell a group that the account may not see from a refused key: then ``AuthenticationError``."""
        async with self._probing:
            if self._clock() - self._probed_at >= PROBE_VALID_FOR:
                self._refused = None
                try:
                    await self.health_probe(deadline=deadline)
                except AccessDeniedError as refused:
                    self._refused = refused
                except CatalogSyncError:
                    return  # inconclusive, and recorded by the policy; the denial stands for its group alone
                self._probed_at = self._clock()
            if self._refused is not None:
                raise AuthenticationError(
                    f"the supplier refuses the API key: {self._refused}",
                    classification=AuthenticationError.default.replace(error_type=self._refused.error_type),
                    context=self._refused.context,
                ) from denied


def _concerns_page_size(error: CatalogSyncError, size: int) -> bool:
    """Whether the supplier refused the page size: it says so, or it answers 401 to a page above its documented 50."""
    response = getattr(error.__cause__, "response", None)
    if not isinstance(response, httpx.Response) or response.status_code not in {400, 401, 422}:
        return False
    if b"perpage" in response.content.lower():
        return True
    return response.status_code == 401 and size > PAGE_SIZES[0]
