"""The version of this library, read by the build too. In its own file, so that telemetry can import it."""

__version__ = "0.1.0"
