"""Limits on calls: how often, how many at a time, how long an attempt may take."""

from __future__ import annotations

from typing import Final

DEFAULT_MAX_THREADS: Final = 40
"""Maximum threads of one policy for ``def`` attempts with a time limit, as many as anyio uses for synchronous code."""
