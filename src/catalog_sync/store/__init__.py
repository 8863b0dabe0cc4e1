"""Where the catalogue is kept: Redis, the sync lock, and the last-good snapshot on disk."""
