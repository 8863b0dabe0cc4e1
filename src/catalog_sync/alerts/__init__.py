"""Notifications: the alert service of `otel_resilience`, configured from the settings and fed by syncs."""

from catalog_sync.alerts.service import CatalogAlerts

__all__ = ["CatalogAlerts"]
