"""``catalog-sync demo``: four acts on one machine, told from the telemetry that both services emit."""
