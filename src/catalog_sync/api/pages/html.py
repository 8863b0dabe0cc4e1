"""HTML as values: every text is escaped unless it is markup already."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final

from catalog_sync.domain.text import printable

_VOID: Final = frozenset({"br", "input", "link", "meta", "img"})


class Html(str):
    """Markup."""

    __slots__ = ()


Child = str | Html | None | Iterable["Child"]


def h(tag: str, *children: Child, **attributes: str | float | bool | None) -> Html:
    """An element. Underscores in names become hyphens, a trailing one is dropped; ``None`` and ``False`` omit an
    attribute.

    h("a", "x < y", href="/", class_="id")    # <a href="/" class="id">x &lt; y</a>
    """
    given = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Html:
    """Concatenates markup."""
    return Html("".join(map(_text, children)))


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return html.escape(printable(child)) if isinstance(child, str) else join(child)


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(printable(str(value)))}"'
