"""Checks that a document was written by a storage: every field is validated before any is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from otel_resilience.circuitbreaker.states import BreakerState, TransitionReason

Check = Callable[[object], bool]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 200


def _one_of(values: frozenset[str]) -> Check:
    return lambda value: value in values if isinstance(value, str) else False


def _leases(value: object) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _window(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(b, list) and len(b) == 4 and all(map(_count, b)) for b in value)


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(map(_number, value))


_STATES = frozenset(state.value for state in BreakerState if state is not BreakerState.SHADOW)
_REASONS = frozenset(reason.value for reason in TransitionReason)
_NEEDED: Mapping[str, Check] = {"boot": _text, "monotonic": _number, "wall": _number, "at": _number}
_FIELDS: Mapping[str, Mapping[str, Check]] = {
    "breaker": {
        "generation": _count,
        "state": _one_of(_STATES),
        "openings": _count,
        "good": _count,
        "run": _count,
        "run_began": _number,
        "run_last": _number,
        "leases": _leases,
        "width": _number,
        "window": _window,
        "changed_at": _number,
        "open_until": _number,
        "open_for": _number,
        "opened_at": _number,
        "reason": _one_of(_REASONS),
        "error_type": _text,
    },
    "budget": {"tokens": _number, "at": _number},
    "rate": {"given": _numbers, "paused_until": _number},
    "pause": {"until": _number, "seconds": _number},
}


def check_file(content: object, expected: int) -> None:
    """Raises ``ValueError`` for anything that the disk storage did not write itself."""
    if not isinstance(content, dict) or content.get("format") != expected:
        raise ValueError("it has another format")
    for name, check in _NEEDED.items():
        if not check(content.get(name)):
            raise ValueError(f"{name} is not usable")
    state = content.get("state")
    if not isinstance(state, dict) or not state.keys() <= _FIELDS.keys():
        raise ValueError("its parts are not usable")
    for kind, document in state.items():
        check_document(kind, document)


def check_document(kind: str, document: object) -> None:
    """Raises ``ValueError`` for a document that no storage wrote."""
    fields = _FIELDS[kind]
    if not isinstance(document, dict) or not document.keys() <= fields.keys():
        raise ValueError(f"{kind} is not usable")
    for name, value in document.items():
        if not fields[name](value):
            raise ValueError(f"{kind}.{name} is not usable")
    if kind == "budget" and len(document) == 1:
        raise ValueError("budget is not complete")
    if "width" in document and "window" not in document:
        raise ValueError(f"{kind} is not complete")
