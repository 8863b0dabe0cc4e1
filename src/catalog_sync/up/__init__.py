"""Everything on one machine, without containers: simulator, Redis, workers, scheduler and API under one supervisor."""
