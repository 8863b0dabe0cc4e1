"""What a PromQL expression names: its selectors, its labels. Not a full parser: enough for our own expressions."""

from __future__ import annotations

import re

Selector = tuple[str, dict[str, str]]

_WORDS = {"by", "on", "or", "and", "offset", "bool", "group_left", "without", "unless", "ignoring"}
_STRING = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^{}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
_BARE = re.compile(r"(?<![\w:$.])([a-zA-Z_:][\w:]*)(?![\w:(]|\s*\()")

VARIABLES = {
    "$__interval": "1m",
    "$__range": "6h",
    "$environment": ".*",
    "$job": ".+",
    "$instance": ".*",
    "$dependency": ".+",
}


def filled(query: str) -> str:
    """A query of a dashboard with values for its variables."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def selectors(expression: str) -> list[Selector]:
    """Every series that the expression asks for: its name and its matchers, each as operator and value."""
    found = [
        (name, {label: operator + value for label, operator, value in _MATCHER.findall(inside)})
        for name, inside in _SELECTOR.findall(expression)
    ]
    rest = _STRING.sub("", _SELECTOR.sub(" ", expression))
    rest = re.sub(r"\[[^\]]*\]|offset \S+", " ", _GROUPING.sub(" ", rest))
    return found + [(name, {}) for name in _BARE.findall(rest) if name not in _WORDS]


def grouping(expression: str) -> set[str]:
    """Labels that the expression groups by or joins on."""
    return {label.strip() for inside in _GROUPING.findall(expression) for label in inside.split(",") if label.strip()}
