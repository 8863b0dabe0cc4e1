"""The worker: syncs in steps, on Celery. See ``docs/workers.md``."""
