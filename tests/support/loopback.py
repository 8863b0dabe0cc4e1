"""HTTP to our own servers on this machine: without a proxy, and without loading certificates for every request."""

from __future__ import annotations

from typing import Any

import httpx


def get(url: str, **options: Any) -> httpx.Response:
    """A GET."""
    return httpx.get(url, trust_env=False, verify=False, **options)


def post(url: str, **options: Any) -> httpx.Response:
    """A POST."""
    return httpx.post(url, trust_env=False, verify=False, **options)
