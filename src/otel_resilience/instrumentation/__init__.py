"""OpenTelemetry instrumentors for other libraries of retries and circuit breakers: code that keeps them emits the same
spans, events and metrics as this library. Each needs ``otel-resilience[instrumentation]`` and the library it is for.
"""
