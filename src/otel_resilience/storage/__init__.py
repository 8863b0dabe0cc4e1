"""Shared protection: breaker state and retry budget that outlive a process, and that many processes have in common.

Three storages speak one protocol: in process, on disk, in Redis.
"""

from __future__ import annotations

from otel_resilience.storage.backends.disk import DiskStorage
from otel_resilience.storage.backends.memory import MemoryStorage
from otel_resilience.storage.backends.redis import RedisStorage
from otel_resilience.storage.breaker import SharedCircuitBreaker
from otel_resilience.storage.budget import SharedRetryBudget
from otel_resilience.storage.protocol import (
    Action,
    BreakerStep,
    BreakerView,
    BudgetStep,
    BudgetView,
    Claim,
    Storage,
    StorageError,
)
from otel_resilience.storage.state import SharedState

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
