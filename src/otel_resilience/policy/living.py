"""Which policies and registries of this process are in use; the helpers for tests reset them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_resilience.policy.policy import Policy
    from otel_resilience.policy.registry import PolicyRegistry

policies: weakref.WeakValueDictionary[int, Policy] = weakref.WeakValueDictionary()
registries: weakref.WeakValueDictionary[int, PolicyRegistry] = weakref.WeakValueDictionary()
"""By ``id``: once each, for as long as it is in use."""


def living_policies() -> list[Policy]:
    """Every policy that is in use. Safe for threads."""
    return [each for reference in policies.valuerefs() if (each := reference()) is not None]


def living_registries() -> list[PolicyRegistry]:
    """Every registry that is in use. Safe for threads."""
    return [each for reference in registries.valuerefs() if (each := reference()) is not None]
