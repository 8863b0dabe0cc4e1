"""Logs, instruments, names and traces of the application, and the set-up of the OpenTelemetry SDK."""
