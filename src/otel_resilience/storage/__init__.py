"""Shared protection: breaker state, retry budget and rate limit that processes share, concurrently and over time.

Three storages implement one protocol: in process, on disk, in Redis.
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
    RateStep,
    RateView,
    Storage,
    StorageError,
)
from otel_resilience.storage.rate import SharedRateLimiter
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
    "RateStep",
    "RateView",
    "RedisStorage",
    "SharedCircuitBreaker",
    "SharedRateLimiter",
    "SharedRetryBudget",
    "SharedState",
    "Storage",
    "StorageError",
]
