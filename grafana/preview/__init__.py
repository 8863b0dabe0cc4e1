"""``make preview``: pictures of the dashboards from their JSON and a real Prometheus. For developers."""
