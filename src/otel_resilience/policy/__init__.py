"""Where the parts meet: one object that protects the calls to a dependency."""

from otel_resilience.policy.policy import Policy

__all__ = ["Policy"]
