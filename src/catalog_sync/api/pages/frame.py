"""The frame of every page: head, navigation, the search box for IDs; and error pages."""

from __future__ import annotations

import time
from typing import Final

from starlette.responses import Response

from catalog_sync.api.pages.html import Child, Html, h, join
from catalog_sync.api.pages.parts import moment
from catalog_sync.api.problems import TITLES, ProblemError
from catalog_sync.domain.times import rfc3339
from otel_resilience import correlation_id

PLACES: Final = {"/": "Now", "/syncs": "Syncs", "/traces": "Failures", "/incidents": "Incidents", "/system": "System"}

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of pages: nothing from elsewhere, nothing inline."""

_HEAD: Final = Html(
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
    '<link rel="icon" href="/static/icon.svg" type="image/svg+xml"><link rel="stylesheet" href="/static/page.css">'
    '<script type="module" src="/static/pages.js"></script>'
)
_TOKEN: Final = Html(
    '<details id="token" class="menu script"><summary>Token</summary><form>'
    '<label for="token-value">Bearer token, <code>CATALOG_API_TOKEN</code></label>'
    '<input id="token-value" type="password" autocomplete="off" spellcheck="false">'
    '<button type="submit">Use it</button>'
    '<p class="hint">Kept in this tab only. Syncs and decisions need it.</p></form></details>'
)
_FIND: Final = Html(
    '<form action="/find" role="search" class="find"><label for="find" class="hidden">Correlation ID</label>'
    '<input id="find" name="id" type="search" placeholder="correlation ID" required maxlength="200">'
    "<button>Find</button></form>"
)


def page(title: str, *main: Child, place: str | None = None, status: int = 200) -> Response:
    """A whole page; ``place`` is its entry in the navigation."""
    now = moment(rfc3339(time.time()))
    seen = h("p", h("span", id="line", role="status"), " as of ", now, id="seen", class_="line")
    body = h(
        "body",
        h("a", "Skip to the content", class_="skip", href="#main"),
        h("header", h("a", "catalog-api", class_="brand", href="/"), controls(place), seen),
        h("main", h("h1", title), main, id="main", tabindex="-1"),
    )
    text = join((_HEAD, h("title", f"{title} · catalog-api"), Html("</head>"), body, Html("</html>")))
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": POLICY, "Vary": "Accept"}
    return Response(text.encode(), status, headers, "text/html")


def controls(place: str | None) -> Html:
    """The top of every page: the navigation with the current entry, the search box for IDs, the token."""
    links = (
        h("li", h("a", name, href=address, aria_current="page" if address == place else None))
        for address, name in PLACES.items()
    )
    return join((h("nav", h("ul", links), aria_label="Pages"), _FIND, _TOKEN))


def problem_page(problem: ProblemError) -> Response:
    """An error page, with the status and headers of the problem document."""
    found = page(
        TITLES[problem.kind],
        h("p", problem.detail, class_="notice"),
        h("p", "Enter the token above.", class_="script") if problem.status_code == 401 else None,
        h("p", "Correlation ID of this request: ", h("span", correlation_id(), class_="id"), class_="hint"),
        status=problem.status_code,
    )
    found.headers.update(problem.headers or {})
    return found
