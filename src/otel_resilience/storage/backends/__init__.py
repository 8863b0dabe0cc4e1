"""Storages for shared state: in this process, on disk, in Redis."""
