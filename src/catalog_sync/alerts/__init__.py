"""Who is notified of what: the alert service of `otel_resilience`, set up from the settings and fed by syncs."""

from catalog_sync.alerts.service import CatalogAlerts

__all__ = ["CatalogAlerts"]
