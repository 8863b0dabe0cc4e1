"""Pages of the library's public names, a page for each room, which mkdocstrings fills from their docstrings."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = "reference/api"
ROOMS: Final = {
    "policy": "Policies: all parts in one, and retries alone",
    "retries": "Retries and their budget",
    "circuitbreaker": "Circuit breaker",
    "limits": "Rate, concurrency, remaining time",
    "classification": "What an error means",
    "errors": "Errors that the library raises",
    "telemetry": "Hooks, correlation, redaction",
    "alerting": "Alerting",
    "channels": "Channels of alerts",
    "storage": "State that several processes share",
    "integrations": "HTTP clients",
    "instrumentation": "Other libraries",
    "testing": "Tests",
}
"""In the order of the navigation, with the titles of the pages."""
_BEHIND_GUIDES: Final = "---\nsearch:\n  boost: 0.2\n---\n"
"""Who searches for a word, as "timeout", wants the guide first; who searches for a name finds it here."""
_OTHER_ROOM: Final = {"correlation": "telemetry", "redaction": "telemetry", "_internal": "limits"}


def public_api() -> ModuleType:
    """What lists the public names; docs/ is not a package."""
    spec = importlib.util.spec_from_file_location("public_api", ROOT / "docs/public_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names() -> dict[str, str]:
    """Every public name as it is imported, and where it is defined."""
    listed = public_api()
    return {
        f"{module}.{name}": _home(module, name, getattr(importlib.import_module(module), name))
        for module in listed.MODULES
        for name in listed.public_names(importlib.import_module(module))
        if name != "__version__"
    }


def _home(module: str, name: str, value: Any) -> str:
    if inspect.ismodule(value):
        return value.__name__
    home = str(getattr(value, "__module__", ""))
    return f"{home if home.startswith('otel_resilience') else module}.{name}"


def _room(public: str, home: str) -> str:
    parts = public.split(".")
    if len(parts) > 3 and parts[2] == "channels":
        return "channels"
    if len(parts) > 2 and parts[1] in ROOMS:
        return parts[1]
    room = home.split(".")[1]
    room = _OTHER_ROOM.get(room, room)
    return room if room in ROOMS else "classification"


def pages() -> dict[str, str]:
    """The Markdown of each page by its path below docs."""
    rooms: defaultdict[str, dict[str, str]] = defaultdict(dict)
    seen: set[str] = set()
    for public, home in names().items():
        if home not in seen:
            seen.add(home)
            rooms[_room(public, home)][public] = home
    return {f"{FOLDER}/{room}.md": _page(title, rooms[room]) for room, title in ROOMS.items()}


def _page(title: str, shown: dict[str, str]) -> str:
    imports: defaultdict[str, list[str]] = defaultdict(list)
    for public in shown:
        module, _, name = public.rpartition(".")
        imports[module].append(name)
    lines = [f"from {module} import {', '.join(found)}" for module, found in imports.items()]
    wrapped = [line if len(line) <= 100 else _wrapped(line) for line in lines]
    entries = [_entry(public, home) for public, home in sorted(shown.items(), key=lambda each: each[0].lower())]
    return _BEHIND_GUIDES + "\n\n".join([f"# {title}", "\n".join(["```python", *wrapped, "```"]), *entries]) + "\n"


def _wrapped(line: str) -> str:
    head, _, tail = line.partition(" import ")
    return "\n".join([f"{head} import (", *(f"    {name}," for name in tail.split(", ")), ")"])


def _entry(public: str, home: str) -> str:
    name = public.rpartition(".")[2]
    anchor = "" if public == home else f"[](){{#{public}}}\n\n"
    return f"{anchor}::: {home}\n    options:\n      heading: {name}\n      toc_label: {name}"
