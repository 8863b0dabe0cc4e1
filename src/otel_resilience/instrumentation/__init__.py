"""OpenTelemetry instrumentors for other retry and circuit breaker libraries: code that keeps using them emits the same
spans, events and metrics as this library. Each needs ``otel-resilience[instrumentation]`` and the library it is for."""
