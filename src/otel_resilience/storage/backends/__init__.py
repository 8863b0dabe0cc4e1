"""Where shared state can be kept: in this process, on disk, in Redis."""
