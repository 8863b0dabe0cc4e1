"""What the last ``run`` left for ``status``: its report, and the final state of its breakers and budgets."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from catalog_sync.domain.reports import is_report
from catalog_sync.domain.times import rfc3339, utc_now
from catalog_sync.store.files import write_json_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from catalog_sync.domain.models import SyncReport
    from otel_resilience import Policy

FILE_NAME: Final = "last_run.json"

_log = logging.getLogger(__name__)


def write_last_run(state_dir: Path, report: SyncReport, policies: Sequence[Policy]) -> None:
    """Replaces the file atomically. A disk error is logged; the sync is valid without it."""
    now = rfc3339(utc_now())
    data = {"at": now, "report": report.to_json(), **protection_json(policies, now)}
    try:
        write_json_atomically(state_dir / FILE_NAME, data)
    except OSError as error:
        _log.error("%s was not written: %s", FILE_NAME, error.strerror or type(error).__name__)


def read_last_run(state_dir: Path) -> dict[str, Any] | None:
    """The file's object; ``None`` if there is none, or it cannot be read, which is logged."""
    try:
        data: dict[str, Any] = json.loads((state_dir / FILE_NAME).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be read: %s", FILE_NAME, type(error).__name__)
        return None
    if not _expected(data):
        _log.warning("%s has an unexpected format", FILE_NAME)
        return None
    return data


def _expected(data: Any) -> bool:
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("breakers", "budgets")):
        return False
    return is_report(data.get("report"))


def protection_json(policies: Sequence[Policy], at: str) -> dict[str, list[dict[str, Any]]]:
    """``breakers`` and ``budgets`` of the policies, at the moment ``at``."""
    return {
        "breakers": [breaker_json(policy, at) for policy in policies if policy.breaker is not None],
        "budgets": [budget_json(policy, at) for policy in policies if policy.budget is not None],
    }


def breaker_json(policy: Policy, at: str) -> dict[str, Any]:
    """An entry of ``breakers``: the circuit of a policy that has one, at the moment ``at``."""
    if policy.breaker is None:
        raise ValueError(f"the policy of {policy.dependency} has no breaker")
    metrics = policy.breaker.metrics()
    last = metrics.last_transition
    return {
        "dependency": metrics.dependency,
        "state": metrics.state.name,
        "at": at,
        "time_in_state_s": round(metrics.time_in_state, 3),
        "calls": metrics.calls,
        "failures": metrics.failures,
        "failure_rate": round(metrics.failure_rate, 4),
        "consecutive_failures": metrics.consecutive_failures,
        "rejected": metrics.rejected,
        "opened": metrics.opened,
        "retry_after_s": None if metrics.retry_after is None else round(metrics.retry_after, 3),
        "last_transition": None
        if last is None
        else {
            "from": last.source.name,
            "to": last.target.name,
            "reason": last.reason.value,
            "error_type": last.error_type,
        },
    }


def budget_json(policy: Policy, at: str) -> dict[str, Any]:
    """An entry of ``budgets``: the retry budget of a policy that has one, at the moment ``at``."""
    if policy.budget is None:
        raise ValueError(f"the policy of {policy.dependency} has no retry budget")
    metrics = policy.budget.metrics()
    return {
        "dependency": metrics.dependency,
        "at": at,
        "tokens": round(metrics.tokens, 3),
        "capacity": metrics.capacity,
        "utilization": round(metrics.utilization, 4),
        "granted": metrics.granted,
        "denied": metrics.denied,
    }
