"""The version of this library; the build reads it from here. A file of its own, so that telemetry can import it."""

__version__ = "0.1.0"
