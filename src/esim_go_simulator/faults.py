"""Fault scenarios: what goes wrong, for which requests, and when. Pure: the time is passed in."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalog_sync.domain.errors import ConfigurationError
from esim_go_simulator.selection import NO_EDITS, CatalogueEdits, resolve_group

Endpoint = Literal["catalogue", "bundle", "groups", "organisation", "networks"]

FaultKind = Literal[
    "status",
    "html",
    "empty",
    "truncated",
    "null_bundles",
    "contradiction",
    "repeated_page",
    "bad_rows",
    "paging_drift",
    "bare_array",
    "string_prices",
    "latency",
    "drip",
    "hang",
    "reset",
    "close",
    "oversized",
    "gzip_bomb",
    "bad_encoding",
    "redirect",
]

LIST_FAULTS: Final = frozenset({"null_bundles", "contradiction", "repeated_page", "paging_drift"})
"""Kinds that only the catalogue's pages can show."""

ROW_FAULTS: Final = frozenset({"bad_rows", "string_prices"})
"""Kinds that only responses with bundles can show."""

MIB: Final = 1024 * 1024

_REMEMBERED_TARGETS: Final = 100_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class When(_Model):
    """Which requests a rule applies to. All given conditions must hold."""

    endpoint: Endpoint | tuple[Endpoint, ...] | None = None
    group: str | int | tuple[str | int, ...] | None = None
    """The ``group`` parameter: names, or positions in the list of groups (-1: the last)."""
    page: int | tuple[int, ...] | None = None
    from_page: int | None = Field(default=None, ge=1)
    until_page: int | None = Field(default=None, ge=1)
    """The last affected page."""
    method: str | None = None
    after_s: float = Field(default=0.0, ge=0.0)
    """Seconds after the scenario was set."""
    until_s: float | None = Field(default=None, gt=0.0)
    nth: int | tuple[int, ...] | None = None
    """Of the requests that meet all conditions above, counted from 1."""
    skip: int = Field(default=0, ge=0)
    """Skips the first such requests."""
    every: int = Field(default=1, ge=1)
    """Only every n-th such request, counted after ``skip``."""
    attempt: int | tuple[int, ...] | None = None
    """How often this very request (path and query) was made, counted from 1: for faults that a retry fixes."""
    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    """Drawn from the seed, the request and its attempt, independently of the order of arrival."""
    count: int | None = Field(default=None, ge=1)
    """The rule ends after this many faults."""


class Rule(_Model):
    """One fault and its conditions. Each kind ignores parameters that are not its own."""

    fault: FaultKind
    when: When = When()
    status: int = Field(default=503, ge=400, le=599)
    message: str | None = None
    """``status``: replaces the supplier's own message."""
    retry_after: Annotated[float, Field(ge=0.0)] | Literal["none"] | None = None
    """``status``: seconds. The supplier's own values (1 for 429, 5 for 503) if absent; ``none``: no header."""
    retry_after_date: bool = False
    """``status``: as an HTTP-date."""
    delay_s: float = Field(default=0.0, ge=0.0, le=3600.0)
    """Wait before any fault; ``latency``: before the normal response."""
    ratio: float = Field(default=0.2, ge=0.0, le=1.0)
    """``bad_rows``: the affected share of the rows."""
    keep: float = Field(default=0.9, ge=0.0, le=1.0)
    """``paging_drift``: the share of the rows still there."""
    bytes_per_s: float = Field(default=200.0, gt=0.0)
    """``drip``."""
    size_bytes: int = Field(default=64 * MIB, ge=0, le=1024 * MIB)
    """``oversized`` and ``gzip_bomb``: the size of the (decompressed) body."""
    to: Literal["other-host", "same-host", "loop", "plain-http"] = "other-host"
    """``redirect``."""
    location: str | None = None
    """``redirect``: replaces ``to``."""


class Scenario(_Model):
    """A script of faults. The first rule that fires decides how a request is answered."""

    name: str = Field(default="unnamed", min_length=1, max_length=64)
    description: str = ""
    seed: int = 0
    rules: tuple[Rule, ...] = Field(default=(), max_length=200)
    catalogue: CatalogueEdits = NO_EDITS
    """Changes to the catalogue while the scenario lasts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for position, rule in enumerate(self.rules, start=1):
            when = rule.when
            if when.until_s is not None and when.until_s <= when.after_s:
                raise ValueError(f"rule {position}: until_s must be greater than after_s")
        return self


def parse_scenario(data: Any) -> Scenario:
    """A scenario from parsed JSON. Raises ``ConfigurationError`` with one line naming the field."""
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "scenario"
        raise ConfigurationError(f"the scenario is not valid: {where}: {first['msg']}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class Incoming:
    """The parts of a request that rules look at."""

    endpoint: Endpoint
    method: str
    target: str
    """Path and query."""
    group: str | None
    page: int | None


class FaultPlan:
    """A running scenario: counts the requests and decides which fault each one gets."""

    def __init__(self, scenario: Scenario, *, started: float) -> None:
        self.scenario = scenario
        self._started = started
        self._matched = [0] * len(scenario.rules)
        self._fired = [0] * len(scenario.rules)
        self._attempts: OrderedDict[str, int] = OrderedDict()

    def decide(self, request: Incoming, now: float, groups: tuple[str, ...]) -> Rule | None:
        """The rule that fires for this request at ``now`` (seconds, the clock of ``started``)."""
        if not self.scenario.rules:
            return None
        attempt = self._count_attempt(f"{request.method} {request.target}")
        for index, rule in enumerate(self.scenario.rules):
            if not _concerns(rule, request, now - self._started, groups):
                continue
            self._matched[index] += 1
            if self._fires(index, rule.when, request, attempt):
                self._fired[index] += 1
                return rule
        return None

    def fired(self) -> list[dict[str, Any]]:
        """Per rule: its fault, how many requests matched and how many got the fault."""
        return [
            {"fault": rule.fault, "matched": self._matched[index], "fired": self._fired[index]}
            for index, rule in enumerate(self.scenario.rules)
        ]

    def _fires(self, index: int, when: When, request: Incoming, attempt: int) -> bool:
        number = self._matched[index]
        if not _among(number, when.nth) or not _among(attempt, when.attempt):
            return False
        if number <= when.skip or (number - when.skip) % when.every:
            return False
        if when.count is not None and self._fired[index] >= when.count:
            return False
        if when.probability >= 1.0:
            return True
        key = f"{self.scenario.seed} {index} {attempt} {request.method} {request.target}"
        return draw(key) < when.probability

    def _count_attempt(self, target: str) -> int:
        attempt = self._attempts.pop(target, 0) + 1
        self._attempts[target] = attempt
        if len(self._attempts) > _REMEMBERED_TARGETS:
            self._attempts.popitem(last=False)
        return attempt


def _concerns(rule: Rule, request: Incoming, elapsed: float, groups: tuple[str, ...]) -> bool:
    when = rule.when
    if rule.fault in LIST_FAULTS and request.endpoint != "catalogue":
        return False
    if rule.fault in ROW_FAULTS and request.endpoint not in {"catalogue", "bundle"}:
        return False
    if elapsed < when.after_s or (when.until_s is not None and elapsed >= when.until_s):
        return False
    if when.method is not None and when.method.upper() != request.method:
        return False
    return (
        _among(request.endpoint, when.endpoint)
        and _group_matches(when, request, groups)
        and _page_matches(when, request)
    )


def _group_matches(when: When, request: Incoming, groups: tuple[str, ...]) -> bool:
    if when.group is None:
        return True
    wanted = when.group if isinstance(when.group, tuple) else (when.group,)
    return request.group is not None and request.group in {resolve_group(groups, entry) for entry in wanted}


def _page_matches(when: When, request: Incoming) -> bool:
    if when.page is None and when.from_page is None and when.until_page is None:
        return True
    page = request.page
    if page is None or not _among(page, when.page):
        return False
    return (when.from_page is None or page >= when.from_page) and (when.until_page is None or page <= when.until_page)


def _among(value: object, wanted: object) -> bool:
    if wanted is None:
        return True
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def draw(key: str) -> float:
    """A number from 0 to 1 that depends only on the key."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def incoming(endpoint: Endpoint, method: str, target: str, query: Mapping[str, str]) -> Incoming:
    """A request as the rules see it. The page of a list request without one is 1."""
    page: int | None = None
    if endpoint == "catalogue":
        text = query.get("page") or "1"
        page = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    return Incoming(endpoint, method, target, query.get("group"), page)
