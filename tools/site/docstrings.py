"""Docstrings as Markdown: roles become links to the public names, examples become fences."""

from __future__ import annotations

import re
import textwrap
from typing import Any, Final

import griffe

from tools.site import api_pages

_ROLE: Final = re.compile(r":(?:py:)?(?:attr|class|data|exc|func|meth|mod|obj):`~?\.?([^`]+)`")
_EXAMPLE: Final = re.compile(r"(?<=\n\n)(?: {4}.*\n(?:\n+(?= {4}))?)+")


def as_markdown(text: str, homes: dict[str, str]) -> str:
    """The docstring as the site shows it; ``homes`` has where public names are, whole and by their last part."""

    def link(found: re.Match[str]) -> str:
        name = found[1]
        short = name.removeprefix("otel_resilience.")
        first, _, member = (name, "", "") if name in homes else short.partition(".")
        home = homes.get(first)
        if home is None:
            return f"`{name}`"
        return f"[`{short}`][{home}{f'.{member}' if member else ''}]"

    text = _ROLE.sub(link, text)
    return _EXAMPLE.sub(_fenced, f"{text}\n").rstrip()


def _fenced(found: re.Match[str]) -> str:
    code = textwrap.dedent(found[0]).strip()
    return f"```{'pycon' if code.startswith('>>>') else 'python'}\n{code}\n```\n"


class PublicNames(griffe.Extension):
    """Rewrites every docstring before it is shown, and leaves out members that are not for users."""

    def __init__(self) -> None:
        super().__init__()
        names = api_pages.names()
        self._is_for_rooms = api_pages.public_api().is_for_rooms
        self._homes = {**{public.rpartition(".")[2]: home for public, home in names.items()}, **names}

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for everything that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value, self._homes)

    def on_members(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for every module and class when all that is in it was read."""
        for member in [each for each in obj.members if self._is_for_rooms(obj.name, each)]:
            obj.del_member(member)
