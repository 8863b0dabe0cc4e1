"""The client of the eSIM Go API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
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
from catalog_sync.supplier.esim_go import envelope, page_size
from catalog_sync.supplier.esim_go.calls import SupplierCalls
from catalog_sync.supplier.esim_go.paging import follow_pages
from catalog_sync.supplier.esim_go.policy import MAX_IN_FLIGHT, supplier_policy
from catalog_sync.supplier.port import Deadline, Page, RequestCounts, Scope
from otel_resilience import BreakerEffect, Policy
from otel_resilience.classification import error_types

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from catalog_sync.domain.models import Bundle
    from catalog_sync.settings.settings import Settings

T = TypeVar("T")

_log = logging.getLogger(__name__)

PAGES_AHEAD: Final = 8
"""Pages of one scope that are requested before the first of them was passed on."""

MAX_PAGES: Final = 20_000

MISMATCHES_TOLERATED: Final = 3
"""From this many invalid pages in a row on, each counts as a failure of the supplier."""

CONNECT_TIMEOUT: Final = 5.0
PROBE_VALID_FOR: Final = 30.0
"""Seconds for which one probe of the key is valid for all groups that were denied."""


@contextlib.asynccontextmanager
async def open_supplier(
    settings: Settings,
    *,
    policy: Policy | None = None,
    wrap: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = lambda transport: transport,
) -> AsyncIterator[EsimGoClient]:
    """A client with its connections, closed at the end. ``wrap`` may add telemetry to the transport of each attempt.

    Only the proxy from the settings is used: others would send the key through a host that no setting names.
    """
    # A plain-http base (the simulator) needs no trust store, and loading one takes longer than the first page. An empty
    # one trusts no certificate.
    verify: ssl.SSLContext | bool = True
    if settings.base_url.startswith("http://"):
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    elif settings.ca_file is not None:
        verify = ssl.create_default_context(cafile=settings.ca_file)
    limits = httpx.Limits(max_connections=MAX_IN_FLIGHT, max_keepalive_connections=MAX_IN_FLIGHT, keepalive_expiry=15.0)
    transport = httpx.AsyncHTTPTransport(verify=verify, limits=limits, proxy=settings.proxy, trust_env=False)
    client = EsimGoClient(settings, policy or supplier_policy(settings), wrap(transport))
    async with contextlib.aclosing(client):
        yield client


class EsimGoClient:
    """eSIM Go as a :class:`~catalog_sync.supplier.port.Supplier`. Every call goes through the policy."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        transport: httpx.AsyncBaseTransport,
        *,
        max_pages: int = MAX_PAGES,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._calls = SupplierCalls(
            settings,
            policy,
            transport,
            connect_timeout=min(CONNECT_TIMEOUT, settings.attempt_timeout),
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

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._calls.aclose()

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
        """``GET /catalogue/bundle/{name}``. Raises ``NotFoundError``, also for an impossible name."""
        if name in {"", ".", ".."} or not is_encodable(name):
            # As part of a path it would address something else, with the key.
            raise NotFoundError(f"no bundle has the name {name!r}")
        path = f"/catalogue/bundle/{quote(name, safe='')}"

        def parse(data: object) -> Bundle | None:
            return envelope.parse_bundle(data, name)

        found = await self._allowed(
            self._calls.get(
                "get bundle", path, {}, parse, deadline, template="/catalogue/bundle/{name}", answers=_GONE
            ),
            deadline,
        )
        if found is None:
            raise NotFoundError(f"get bundle: the supplier has no bundle {name!r}", context={"operation": "get bundle"})
        return found

    async def health_probe(self, *, deadline: Deadline) -> None:
        """``GET /organisation``: cheap, and rejected only for a bad key."""
        await self._calls.get("probe organisation", "/organisation", {}, lambda data: data, deadline)

    async def iter_pages(self, scope: Scope, *, deadline: Deadline) -> AsyncGenerator[Page, None]:
        """``GET /catalogue``, up to the last page. Close the iterator when leaving it early."""
        first, size = await self._first_page(scope, deadline)

        def fetch(number: int) -> Awaitable[Page]:
            return self._allowed(self._list(scope, number, size, deadline), deadline)

        pages = follow_pages(first, fetch, page_size=size, window=PAGES_AHEAD, max_pages=self._max_pages)
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page

    async def _first_page(self, scope: Scope, deadline: Deadline) -> tuple[Page, int]:
        """The first page and the size that the supplier accepted for it; smaller ones are tried if it refuses."""
        size = self._page_size
        while True:
            try:
                first = await self._list(scope, 1, size, deadline)
            except CatalogSyncError as error:
                smaller = page_size.smaller_than(size)
                if isinstance(error, AccessDeniedError) and (smaller is None or not page_size.is_refused(error, size)):
                    await self._check_key(deadline, error)
                if smaller is None or not page_size.may_be_refused(error):
                    raise
                size = smaller
                continue
            cut = page_size.cut_to(first, size)
            if cut is None:
                # Remembered once it worked: the response for a denied group says nothing about the others.
                self._page_size = min(self._page_size, size)
                return first, size
            _log.info("%s: requesting pages of %d bundles from now on: of %d only %d came", scope, cut, size, cut)
            size = cut

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
        """Distinguishes a group that the account may not see from a rejected key: then ``AuthenticationError``."""
        async with self._probing:
            if self._clock() - self._probed_at >= PROBE_VALID_FOR:
                self._refused = None
                try:
                    await self.health_probe(deadline=deadline)
                except AccessDeniedError as refused:
                    self._refused = refused
                except CatalogSyncError:
                    return  # inconclusive, and recorded by the policy; the denial applies to its group alone
                self._probed_at = self._clock()
            if self._refused is not None:
                raise AuthenticationError(
                    f"the supplier refuses the API key ({self._refused})",
                    classification=AuthenticationError.default.replace(error_type=self._refused.error_type),
                    context=self._refused.context,
                ) from denied


_GONE: Final[dict[int, None]] = {404: None, 410: None}
