"""Common parts of the pages: states, times, durations, links."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

from catalog_sync.api.pages.html import Child, Html, h, join
from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.domain.times import rfc3339
from catalog_sync.jobs import Job
from catalog_sync.sync.reporting import error_info

TIMEOUT: Final = 3.0
"""Timeout in seconds for all queries of one part of a page."""

T = TypeVar("T")

_GOOD, _WARN, _BAD = "good", "warn", "bad"
_TONES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("COMPLETE", "CLOSED", "SHADOW", "ok", "resolved"), _GOOD),
    **dict.fromkeys(("PARTIAL", "SKIPPED_LOCKED", "HALF_OPEN", "MEDIUM", "stale"), _WARN),
    **dict.fromkeys(
        ("FAILED", "LOCK_UNAVAILABLE", "OPEN", "FORCED_OPEN", "CRITICAL", "HIGH", "failed", "firing"), _BAD
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """A value that could be read, or the reason why it could not."""

    value: T | None
    problem: str | None = None


async def known(awaitable: Awaitable[T]) -> Known[T]:
    """The value, or that it is unknown now because its source does not answer within :data:`TIMEOUT`."""
    try:
        async with asyncio.timeout(TIMEOUT):
            return Known(await awaitable)
    except TimeoutError:
        return Known(None, f"no answer within {TIMEOUT:g} s")
    except (CatalogSyncError, OSError) as error:
        return Known(None, error_info(error).message)


def pill(word: str, tone: str | None = None) -> Html:
    """A state, as a coloured word."""
    return h("span", word.lower().replace("_", " "), class_=f"pill {_TONES.get(word, '') if tone is None else tone}")


def moment(at: str | float) -> Html:
    """A point in time: RFC 3339, or seconds since the epoch. The script adds how long ago it was."""
    text = at if isinstance(at, str) else rfc3339(at)
    return h("time", f"{text[:19].replace('T', ' ')} UTC", datetime=text)


def number(value: object) -> str | None:
    """A number from a stored report, in which it may be missing or something else."""
    return f"{value:,}" if isinstance(value, int) else None


def many(count: int, word: str) -> str:
    """A number with its noun, in the plural if needed."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def what(kind: str, scope: str | None) -> str:
    """What a sync was about."""
    return "Everything" if kind == "full" else f"{kind}: {scope}"


def title_of(job: Job) -> str:
    return what(job.kind.value, job.scope)


def path(*parts: str) -> str:
    """The address of something on these pages."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def outside(url: str | None, text: str) -> Html | None:
    """A link to another site."""
    return None if url is None else h("a", text, href=url, rel="noreferrer")


def facts(rows: Sequence[tuple[str, Child]]) -> Html:
    """Names and values; rows without a value are left out."""
    shown = (h("div", h("dt", name), h("dd", value)) for name, value in rows if value)
    return h("dl", shown, class_="facts")


def section_of(identifier: str, title: str, found: Known[T], show: Callable[[T], Child]) -> Html:
    """A part of a page with what was found, if it could be read."""
    if found.value is None:
        return section(identifier, title, unknown=found.problem)
    return section(identifier, title, show(found.value))


def section(identifier: str, title: str, *children: Child, unknown: str | None = None) -> Html:
    """A part of a page; ``unknown``: why its content is unknown now; the script then keeps what it showed last."""
    return h(
        "section",
        h("h2", title, id=f"{identifier}-title"),
        children if unknown is None else h("p", f"Unknown: {unknown}", class_="quiet"),
        id=identifier,
        class_="card wide",
        aria_labelledby=f"{identifier}-title",
        data_unknown=unknown,
    )


def error_text(error: Mapping[str, Any]) -> str:
    """An ``error`` object of the command line, as text."""
    return f"{error['type']} ({error['class']}, {error['severity']}): {error['message']}"


def rows(items: Sequence[Child], empty: str, *, label: str) -> Html:
    """A list, or a text that it is empty."""
    if not items:
        return h("p", empty, class_="quiet")
    return h("ul", (h("li", item) for item in items), class_="rows", aria_label=label)


def dots(*parts: Child) -> Html:
    """Facts in one line."""
    given = [part for part in parts if part]
    return join(join((" · " if at else None, part)) for at, part in enumerate(given))
