"""The simulated eSIM Go API, v2.5 and v2.4."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web
from opentelemetry import trace

from esim_go_simulator import control, delivery
from esim_go_simulator.catalogue import DEFAULT_BUNDLES, Catalogue, GeneratedCatalogue
from esim_go_simulator.datafile import read_catalogue
from esim_go_simulator.directory import country_networks, described_group
from esim_go_simulator.faults import Endpoint, FaultPlan, Rule, Scenario, incoming, parse_scenario
from esim_go_simulator.ratelimit import FixedWindowLimiter
from esim_go_simulator.request_log import RequestLog, SeenRequest
from esim_go_simulator.scenarios import built_in
from esim_go_simulator.selection import (
    NO_EDITS,
    BadQueryError,
    CatalogueEdits,
    CatalogueView,
    ListQuery,
    envelope,
    page_body,
)
from esim_go_simulator.tracing import known_query, server_span
from otel_resilience.telemetry.contract import SCHEMA_URL

DEFAULT_API_KEY: Final = "simulator-key"

_VERSIONS: Final = ("/v2.5", "/v2.4")
_ROUTES: Final[dict[str, Endpoint]] = {
    "/catalogue": "catalogue",
    "/organisation/groups": "groups",
    "/organisation": "organisation",
    "/networks": "networks",
}
_BUNDLE: Final = "/catalogue/bundle/"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """How the simulator starts."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 picks a free one."""
    data: Path | None = None
    """A file of bundles instead of the generated catalogue."""
    bundles: int = DEFAULT_BUNDLES
    """Size of the generated catalogue, from 0 to 500,000."""
    seed: int = 0
    rate: int = 10
    """Requests per second and client address; 0 for no limit."""
    api_key: str = dataclasses.field(default=DEFAULT_API_KEY, repr=False)
    scenario: str | Scenario = "calm"
    """A built-in one by name, or a scenario."""
    max_per_page: int = 1000
    """Larger values of ``perPage`` are rejected."""
    max_per_page_status: int = 400
    """The status of that rejection: the specification says 400, field reports say 401."""

    def catalogue(self) -> Catalogue:
        """The bundles for sale. Raises ``ConfigurationError`` for a bad file, ``ValueError`` for a bad size."""
        return read_catalogue(self.data) if self.data is not None else GeneratedCatalogue(self.bundles, self.seed)


class Simulator:
    """The API's state and its responses.

    ``clock`` is monotonic, ``wall_clock`` gives epoch seconds; without a tracer provider the global one is used.
    """

    def __init__(
        self,
        config: SimulatorConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        tracer_provider: trace.TracerProvider | None = None,
    ) -> None:
        self.config = config
        self._tracer = trace.get_tracer("esim_go_simulator", None, tracer_provider, SCHEMA_URL)
        self.requests = RequestLog()
        self.stopping = asyncio.Event()
        self._clock = clock
        self._wall_clock = wall_clock
        self._catalogue = config.catalogue()
        self._limiter = FixedWindowLimiter(config.rate)
        self._edits = NO_EDITS
        self._view = CatalogueView(self._catalogue)
        self.set_scenario(config.scenario)

    @property
    def scenario(self) -> Scenario:
        """The scenario in force."""
        return self._plan.scenario

    @property
    def bundles(self) -> int:
        """The current number of bundles for sale."""
        return len(self._view)

    def set_scenario(self, scenario: str | Scenario | dict[str, Any]) -> None:
        """Starts a scenario: a built-in one by name, or one in JSON form. Raises ``ConfigurationError``."""
        if isinstance(scenario, str):
            scenario = built_in(scenario)
        elif isinstance(scenario, dict):
            scenario = parse_scenario(scenario)
        self._plan = FaultPlan(scenario, started=self._clock())
        self._apply_edits()

    def set_rate(self, rate: int) -> None:
        """Changes the limit, in requests per second; 0 for none."""
        self._limiter = FixedWindowLimiter(rate)

    def change_catalogue(self, edits: CatalogueEdits) -> None:
        """Changes the bundles for sale; earlier edits stay."""
        self._edits = self._edits.merged(edits)
        self._apply_edits()

    def restore_catalogue(self) -> None:
        """Undoes all edits; those of the scenario stay."""
        self._edits = NO_EDITS
        self._apply_edits()

    def reset(self) -> None:
        """Resets everything: no scenario, counters at zero."""
        self.requests.clear()
        self._edits = NO_EDITS
        self.set_rate(self.config.rate)
        self.set_scenario("calm")

    def stats(self) -> dict[str, Any]:
        """The object of ``GET /__sim/stats``."""
        return {
            "bundles": self.bundles,
            "groups": list(self._view.groups),
            "rate": self._limiter.rate,
            "scenario": self.scenario.name,
            "rules": self._plan.fired(),
            "requests": self.requests.totals(),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(control.PREFIX):
            return await control.handle(self, request)
        path = request.rel_url.raw_path
        endpoint, route, argument = _match(path)
        seen = SeenRequest(
            time=self._clock(),
            method=request.method,
            path=path,
            query=known_query(request),
            endpoint=endpoint or "unknown",
            group=request.query.get("group"),
            page=_page(request) if endpoint == "catalogue" else None,
            host=request.host,
            has_key="X-API-Key" in request.headers,
        )
        self.requests.arrived(seen)
        try:
            with server_span(self._tracer, request, seen, route):
                return await self._answer(request, seen, endpoint, argument)
        finally:
            self.requests.answered(seen)

    async def _answer(
        self, request: web.BaseRequest, seen: SeenRequest, endpoint: Endpoint | None, argument: str
    ) -> web.StreamResponse:
        decision = self._limiter.take(request.remote or "", seen.time)
        limits = decision.headers(datetime.fromtimestamp(self._wall_clock(), UTC))
        rule: Rule | None = None
        if not decision.allowed:
            response: web.StreamResponse = delivery.message(429, headers={"Retry-After": "1"})
        elif endpoint is None:
            response = delivery.message(404)
        elif request.method != "GET":
            response = delivery.message(405, headers={"Allow": "GET"})
        elif not hmac.compare_digest(_bytes(request.headers.get("X-API-Key", "")), _bytes(self.config.api_key)):
            response = delivery.message(403)
        else:
            target = f"{seen.path}?{seen.query}"
            rule = self._plan.decide(
                incoming(endpoint, request.method, target, request.query), seen.time, self._view.groups
            )
            if rule is None:
                response = self._regular(request, endpoint, argument, None)
            else:
                seen.fault = rule.fault
                return await self._faulty(request, seen, endpoint, argument, rule, limits)
        response.headers.update(limits)
        seen.status = response.status
        return response

    async def _faulty(
        self,
        request: web.BaseRequest,
        seen: SeenRequest,
        endpoint: Endpoint,
        argument: str,
        rule: Rule,
        limits: dict[str, str],
    ) -> web.StreamResponse:
        """Answers with the rule's fault. A request that never gets a status keeps 0."""
        if rule.delay_s:
            await asyncio.sleep(rule.delay_s)
        if rule.fault in {"reset", "close", "hang"}:
            if rule.fault == "hang":
                await self.stopping.wait()
            if rule.fault == "reset":
                delivery.reset(request)
            else:
                delivery.close(request)
            return web.Response()
        response = self._altered(request, endpoint, argument, rule)
        if rule.fault in {"truncated", "drip", "oversized", "gzip_bomb"}:
            seen.status = 200
            body = response.body if isinstance(response.body, bytes) else b""
            if rule.fault == "truncated":
                return await delivery.truncated(request, body, limits)
            if rule.fault == "drip":
                return await delivery.drip(request, body, limits, rule.bytes_per_s)
            return await delivery.oversized(request, limits, rule.size_bytes, gzip=rule.fault == "gzip_bomb")
        response.headers.update(limits)
        seen.status = response.status
        return response

    def _altered(self, request: web.BaseRequest, endpoint: Endpoint, argument: str, rule: Rule) -> web.Response:
        """A complete response, changed according to the rule."""
        if rule.fault == "status":
            return delivery.status_fault(rule, self._wall_clock())
        if rule.fault == "redirect":
            found = delivery.redirect(rule, request)
            if found is not None:
                return found
        regular = self._regular(request, endpoint, argument, rule)
        body = regular.body if isinstance(regular.body, bytes) else b""
        return delivery.content_fault(rule, body) or regular

    def _regular(self, request: web.BaseRequest, endpoint: Endpoint, argument: str, rule: Rule | None) -> web.Response:
        if endpoint == "catalogue":
            return self._page(request, rule)
        if endpoint == "bundle":
            row = self._view.find(argument)
            if row is None:
                return delivery.message(404)
            return _json_bytes(self._rows([row], rule)[0])
        if endpoint == "groups":
            listing = [described_group(name) for name in self._view.groups]
            return _json(listing if rule is not None and rule.fault == "bare_array" else {"groups": listing})
        if endpoint == "organisation":
            return _json({"organisations": [{"name": "Simulated Reseller", "balance": 1000.0, "currency": "USD"}]})
        networks = country_networks(request.query)
        if networks is None:
            return delivery.message(400, "Invalid countries value")
        return _json({"countryNetworks": networks})

    def _page(self, request: web.BaseRequest, rule: Rule | None) -> web.Response:
        try:
            query = ListQuery.parse(request.query, max_per_page=self.config.max_per_page)
        except BadQueryError as error:
            status = self.config.max_per_page_status if "perPage" in str(error) else 400
            return delivery.message(status, str(error) if status == 400 else None)
        keep = rule.keep if rule is not None and rule.fault == "paging_drift" else 1.0
        if rule is not None and rule.fault == "repeated_page":
            query = dataclasses.replace(query, page=1)
        rows, pages, count = page_body(self._view, query, keep=keep)
        rows = self._rows(rows, rule)
        if rule is not None and rule.fault == "bare_array":
            return _json_bytes(b"[" + b",".join(rows) + b"]")
        return _json_bytes(envelope(rows, pages, count, query.per_page))

    def _rows(self, rows: list[bytes], rule: Rule | None) -> list[bytes]:
        if rule is None:
            return rows
        if rule.fault == "bad_rows":
            return delivery.spoil_rows(rows, rule.ratio, self.scenario.seed)
        if rule.fault == "string_prices":
            return [delivery.price_as_string(row) for row in rows]
        return rows

    def _apply_edits(self) -> None:
        edits = self._edits.merged(self.scenario.catalogue)
        if edits != self._view.edits:
            self._view = CatalogueView(self._catalogue, edits)


def _match(path: str) -> tuple[Endpoint | None, str | None, str]:
    """Endpoint, route and the bundle's name for a path."""
    version = path[:5]
    if version not in _VERSIONS:
        return None, None, ""
    rest = path[5:]
    known = _ROUTES.get(rest)
    if known is not None:
        return known, rest, ""
    if rest.startswith(_BUNDLE) and len(rest) > len(_BUNDLE) and "/" not in rest[len(_BUNDLE) :]:
        return "bundle", "/catalogue/bundle/{name}", unquote(rest[len(_BUNDLE) :])
    return None, None, ""


def _bytes(text: str) -> bytes:
    """The bytes as sent: header or argument bytes that are not UTF-8 are unpaired surrogates here."""
    return text.encode("utf-8", "surrogateescape")


def _page(request: web.BaseRequest) -> int | None:
    text = request.query.get("page") or "1"
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _json(data: Any) -> web.Response:
    return _json_bytes(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())


def _json_bytes(body: bytes) -> web.Response:
    return web.Response(body=body, content_type=delivery.JSON)
