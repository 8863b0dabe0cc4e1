"""Circuit breaker: configuration, the pure machine with its window, the breaker that people use, a registry of them."""
