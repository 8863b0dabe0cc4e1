"""The HTTP API: ask for syncs, watch them, read the catalogue, and see why a sync failed."""
