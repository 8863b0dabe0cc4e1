"""Policies, which combine all parts into one object that protects the calls to a dependency."""

from otel_resilience.policy.policy import Policy

__all__ = ["Policy"]
