"""Settings for tests: fast retries, otherwise the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog_sync.settings.settings import Settings
from otel_resilience import RetryConfig

if TYPE_CHECKING:
    from pathlib import Path

API_KEY = "test-key-0123456789"


def make_settings(base_url: str, state_dir: Path, **changes: Any) -> Settings:
    """Settings for a supplier at ``base_url``: no waits between retries, no rate limit; ``changes`` by field name."""
    settings = Settings.from_env(
        {
            "ESIM_GO_API_KEY": API_KEY,
            "ESIM_GO_BASE_URL": base_url,
            "CATALOG_STATE_DIR": str(state_dir),
            "CATALOG_SUPPLIER_RATE_PER_S": "0",
        }
    )
    defaults: dict[str, Any] = {
        "retry": RetryConfig(max_attempts=3, base_delay=0, throttle_base_delay=0, slow_base_delay=0),
        "attempt_timeout": 10.0,
        "sync_deadline": 60.0,
    }
    return settings.changed(**{**defaults, **changes})
