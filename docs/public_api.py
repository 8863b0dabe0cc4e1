"""Writes the public names of the library with their signatures to docs/api/otel_resilience.txt.

A change of that file in a diff is a change of the API. Attributes that only ``__init__`` sets are not listed.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, get_origin

TARGET = Path(__file__).parent / "api" / "otel_resilience.txt"
MODULES = (
    "otel_resilience",
    "otel_resilience.alerting",
    "otel_resilience.alerting.channels",
    "otel_resilience.correlation",
    "otel_resilience.instrumentation.backoff",
    "otel_resilience.instrumentation.circuitbreaker",
    "otel_resilience.instrumentation.pybreaker",
    "otel_resilience.instrumentation.stamina",
    "otel_resilience.instrumentation.tenacity",
    "otel_resilience.integrations",
    "otel_resilience.integrations.aiohttp",
    "otel_resilience.integrations.httpx",
    "otel_resilience.integrations.requests",
    "otel_resilience.redaction",
    "otel_resilience.storage",
    "otel_resilience.telemetry",
    "otel_resilience.testing",
    "otel_resilience.testing.faults",
)
"""What a user imports from; every other module may change."""
TELEMETRY_NAMES = ("use_providers",)
"""The public names of ``otel_resilience.telemetry``: the rest is internal to the library."""
FOR_ROOMS = {
    "AlertService": "is_outdated on_receipt woke_up",
    "CircuitBreaker": "fast_permit reject rejects_until renew_after_fork",
    "Incident": "absorb becomes_calm confirm end_with_process fresh may_escalate_from needs_saving next_message"
    " not_after observed_here of reopened_as revision room_for see sender_of started_here take_step threshold_reached"
    " unsaved withdraw",
    "IncidentBook": "adopt awaits_confirmation clock_was_set ended_elsewhere forget is_shared merge restore_lost settle"
    " to_save withdrawn woke_up",
    "MemoryStorage": "documents",
    "Policy": "is_limited warn_once",
    "PolicyRegistry": "renew_after_fork",
    "RateLimiter": "renew_after_fork",
    "RedisStorage": "lost_rounds",
    "RetryBudget": "enlarge enter_starvation",
    "RetryBudgetConfig": "price",
    "error_types": "redis_reply",
}
"""Members without a stability promise, by where they are defined: other packages of the library need them, but no
user."""
INDENT = "    "
WIDTH = 100


def render() -> str:
    """The whole list, sorted."""
    return "\n".join(line for name in MODULES for line in _module(importlib.import_module(name))) + "\n"


def _module(module: ModuleType) -> Iterator[str]:
    yield f"{module.__name__}"
    for name in public_names(module):
        yield from (INDENT + line for line in _entry(name, getattr(module, name)))
    if module.__name__ != MODULES[-1]:
        yield ""


def public_names(module: ModuleType) -> list[str]:
    if module.__name__ == "otel_resilience.telemetry":
        return list(TELEMETRY_NAMES)
    return sorted(module.__all__)


def _entry(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.ismodule(value):
        yield f"module {name}"
        for inner in sorted(each for each in vars(value) if each.isupper() and each != "TYPE_CHECKING"):
            yield f"{INDENT}{inner} = {_text(getattr(value, inner))}"
    elif inspect.isroutine(value):
        yield from _function(name, value)
    elif name == "__version__":
        yield name
    else:
        yield f"{name} = {_text(value)}"


def _class(name: str, kind: type) -> Iterator[str]:
    protocol = getattr(kind, "_is_protocol", False)
    bases = [base.__name__ for base in kind.__bases__ if base not in (object, enum.Enum, Generic, Protocol)]
    shown = [base for base in bases if not base.startswith("_")]
    word = "enum" if issubclass(kind, enum.Enum) else "protocol" if protocol else "class"
    yield f"{word} {name}" + (f"({', '.join(shown)})" if shown else "")
    members = {
        member: value
        for owner in reversed(_ours(kind))
        for member, value in vars(owner).items()
        if not is_for_rooms(owner.__name__, member)
    }
    if issubclass(kind, enum.Enum):
        yield from (f"{INDENT}{member} = {_text(each.value)}" for member, each in kind.__members__.items())
    elif not protocol and "__init__" in members:
        yield from (INDENT + line for line in _function("", kind.__init__, bound=True))
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for member in sorted(members):
        value = members[member]
        if _is_public(member) and member not in fields and not isinstance(value, enum.Enum):
            yield from (INDENT + line for line in _member(member, value))


def is_for_rooms(owner: str, member: str) -> bool:
    """Whether a member of a public class or module is left out here and on the site."""
    return member in FOR_ROOMS.get(owner, "").split()


def _is_public(member: str) -> bool:
    return not member.startswith("_") or member in ("__call__", "__enter__", "__aenter__", "__getitem__", "__iter__")


def _ours(kind: type) -> list[type]:
    return [each for each in kind.__mro__ if each.__module__.startswith("otel_resilience")]


def _member(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, property | functools.cached_property):
        getter = value.fget if isinstance(value, property) else value.func
        yield f"property {name}: {_annotation(inspect.signature(getter).return_annotation) if getter else '?'}"
    elif isinstance(value, classmethod | staticmethod):
        kind = "class" if isinstance(value, classmethod) else "static"
        yield from _function(f"{kind}method {name}", value.__func__, bound=kind == "class")
    elif inspect.isfunction(value):
        yield from _function(name, value, bound=True)
    elif not inspect.ismemberdescriptor(value):
        yield f"{name} = {_text(value)}"


def _function(name: str, function: Any, *, bound: bool = False) -> Iterator[str]:
    """``name(parameters) -> result``, without ``self`` if it is ``bound``; on several lines if it is long."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[int(bound) :]
    shown: list[str] = []
    for position, parameter in enumerate(parameters):
        before = parameters[position - 1].kind if position else None
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            shown.append("*")
        if before is parameter.POSITIONAL_ONLY and parameter.kind is not parameter.POSITIONAL_ONLY:
            shown.append("/")
        shown.append(_parameter(parameter))
    if parameters and parameters[-1].kind is inspect.Parameter.POSITIONAL_ONLY:
        shown.append("/")
    result = "" if not name or signature.return_annotation is signature.empty else signature.return_annotation
    head = f"async {name}(" if inspect.iscoroutinefunction(function) else f"{name}("
    tail = f") -> {_annotation(result)}" if result else ")"
    line = head + ", ".join(shown) + tail
    if len(line) <= WIDTH:
        yield line
    else:
        yield head
        yield from (f"{INDENT}{each}," for each in shown)
        yield tail


def _parameter(parameter: inspect.Parameter) -> str:
    kind = parameter.kind
    text = "*" * (kind is kind.VAR_POSITIONAL) + "**" * (kind is kind.VAR_KEYWORD) + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {_text(parameter.default)}"
    return text


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else str(getattr(annotation, "__name__", annotation))


def _text(value: Any) -> str:
    """How a value is written; the same in every process and on every Python."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if get_origin(value) is None and (inspect.isroutine(value) or inspect.isclass(value)):
        if not value.__name__.isidentifier():
            return "<lambda>"
        owner = getattr(value, "__self__", None)
        home = getattr(value, "__module__", None) or type(owner).__module__
        return f"{home}.{value.__name__}"
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(map(_text, value))) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' * (len(value) == 1)})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = (f"{field.name}={_text(getattr(value, field.name))}" for field in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(given)})"
    if isinstance(value, str | int | float | None):
        return repr(value)
    return repr(value) if repr(value) == "<factory>" or get_origin(value) is not None else f"<{type(value).__name__}>"


def main() -> None:
    """Writes the file."""
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
