"""Shared protection: breaker state and retry budget that outlive a process, and that many processes have in common.

Three storages speak one protocol: in process, on disk, in Redis.
"""

from __future__ import annotations

from otel_resilience.storage.breaker import SharedCircuitBreaker
from otel_resilience.storage.budget import SharedRetryBudget
from otel_resilience.storage.disk import DiskStorage
from otel_resilience.storage.memory import MemoryStorage
from otel_resilience.storage.redis_store import RedisStorage
from otel_resilience.storage.shared import SharedState
from otel_resilience.storage.steps import (
    Action,
    BreakerStep,
    BreakerView,
    BudgetStep,
    BudgetView,
    Claim,
    Storage,
    StorageError,
)

__all__ = [
    "Action",
    "BreakerStep",
    "BreakerView",
    "BudgetStep",
    "BudgetView",
    "Claim",
    "DiskStorage",
    "MemoryStorage",
    "RedisStorage",
    "SharedCircuitBreaker",
    "SharedRetryBudget",
    "SharedState",
    "Storage",
    "StorageError",
]
