"""Breakers and budgets as ``status`` shows them: the last run's counts, and the current shared state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog_sync import composition as app
from catalog_sync.domain.times import rfc3339, utc_now
from catalog_sync.last_run import breaker_json, budget_json
from catalog_sync.supplier.protection import read_pause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalog_sync.domain.schedule import Pause
    from catalog_sync.settings.settings import Settings

_OF_ONE_PROCESS = ("rejected", "opened", "granted", "denied")


def with_shared_state(settings: Settings, last: Mapping[str, Any]) -> tuple[dict[str, Any], Pause]:
    """``breakers`` and ``budgets`` of the last run, the supplier's with their current shared state, and the pause that
    the supplier requested."""
    policies = app.Policies.of(settings)
    try:
        now = rfc3339(utc_now())
        breaker = breaker_json(policies.supplier, now)
        budget = None if policies.supplier.budget is None else budget_json(policies.supplier, now)
        pause = read_pause(policies.shared)
    finally:
        policies.close()
    full = budget is None or budget["tokens"] == budget["capacity"]
    untouched = breaker["last_transition"] is None and not breaker["calls"] and full
    if not last and untouched:
        return {"breakers": [], "budgets": []}, pause
    return {
        "breakers": _merged(last.get("breakers", []), breaker),
        "budgets": last.get("budgets", []) if budget is None else _merged(last.get("budgets", []), budget),
    }, pause


def _merged(entries: list[dict[str, Any]], live: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries, with ``live`` replacing the one of the same dependency, or first if there is none."""
    before = next((entry for entry in entries if entry.get("dependency") == live["dependency"]), None)
    if before is None:
        return [live, *entries]
    merged = {**live, **{name: before[name] for name in _OF_ONE_PROCESS if name in before}}
    transition = before.get("last_transition")
    if "state" in live and transition is not None and transition.get("to") == live["state"]:
        merged["last_transition"] = transition  # it names the cause
    return [merged if entry is before else entry for entry in entries]
