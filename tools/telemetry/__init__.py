"""The registry of telemetry names under ``telemetry/``, and what is generated from it."""
