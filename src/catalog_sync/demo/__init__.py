"""``catalog-sync demo``: four acts on one machine, shown from the telemetry that both services emit."""
