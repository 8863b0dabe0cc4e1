"""Which requests get a page: those of browsers, at the same addresses that programs use."""

from __future__ import annotations

from typing import Final

from starlette.routing import Match
from starlette.types import Scope

from catalog_sync.api.pages.frame import problem_page
from catalog_sync.api.problems import SHOW_PROBLEM
from catalog_sync.api.routing import StrictRoute

ALWAYS: Final = ("/system", "/find")
"""Addresses that only have a page."""
_BOTH: Final = ("/syncs", "/traces", "/incidents")


def negotiate(scope: Scope) -> None:
    """Marks a request that is answered with a page, errors included."""
    path: str = scope.get("path", "")
    if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"} or path.endswith("/events"):
        return
    if path in ALWAYS or (f"/{path.split('/')[1] if path else ''}" in _BOTH and _prefers_html(scope)):
        scope[SHOW_PROBLEM] = problem_page


class PageRoute(StrictRoute):
    """A route for marked requests only."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the request is for this route, and wants a page."""
        return super().matches(scope) if SHOW_PROBLEM in scope else (Match.NONE, {})


def _prefers_html(scope: Scope) -> bool:
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1").lower()
    weights: dict[str, float] = {}
    for part in accepted.split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        weights[kind] = _weight(parameters)
    anything = weights.get("*/*", 0.0)
    html = weights.get("text/html", weights.get("text/*", anything))
    return html > weights.get("application/json", weights.get("application/*", anything))


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
