"""Docstrings as Markdown: roles become links to the public names, examples become fences."""

from __future__ import annotations

import importlib
import re
import textwrap
from typing import Any, Final

import griffe

from tools.site import api_pages

_ROLE: Final = re.compile(r":(?:py:)?(?:attr|class|data|exc|func|meth|mod|obj):`~?\.?([^`]+)`")
_CONSTANT: Final = re.compile(r"_?[A-Z][A-Z0-9_]*")
_MARKED: Final = re.compile(r"_[A-Z]\w*\(([\d.]+)\)")
"""A number of a private class, which tells a default from the same value when it is given."""
_EXAMPLE: Final = re.compile(r"(?<=\n\n)(?: {4}.*\n(?:\n+(?= {4}))?)+")


def as_markdown(text: str, homes: dict[str, str]) -> str:
    """The docstring as the site shows it; ``homes`` says where public names are, whole and by their last part."""

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


def as_value(default: str | griffe.Expr | None, module: str) -> str | griffe.Expr | None:
    """A default as a reader needs it: if it is a constant of ``module`` with a number or a text, that."""
    if marked := _MARKED.fullmatch(str(default)):
        return marked[1]
    if default is None or not _CONSTANT.fullmatch(str(default)):
        return default
    value = getattr(importlib.import_module(module), str(default), None)
    return repr(value) if type(value) in (int, float, str) else default


class PublicNames(griffe.Extension):
    """Rewrites docstrings, shows defaults as values, and leaves out members that are not for users."""

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

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called by griffe for every attribute; a dataclass takes the defaults of its parameters from them."""
        if attr.parent is not None and attr.parent.is_class:
            attr.value = as_value(attr.value, attr.module.path)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Called by griffe for every function and method."""
        for parameter in func.parameters:
            parameter.default = as_value(parameter.default, func.module.path)
