"""Stores for incidents, the outbox and the dead letters, and how a new process recovers them."""
