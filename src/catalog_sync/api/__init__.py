"""The HTTP API: request syncs, watch them, read the catalogue, and see why a sync failed."""
