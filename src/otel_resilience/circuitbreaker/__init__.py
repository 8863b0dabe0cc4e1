"""Circuit breaker: configuration, the pure state machine with its window, the public breaker, a registry."""
