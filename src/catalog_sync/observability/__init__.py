"""Logs, instruments, names and traces of the application, and the setup of the OpenTelemetry SDK."""
