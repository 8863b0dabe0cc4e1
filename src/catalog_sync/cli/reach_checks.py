"""The checks of ``catalog-sync doctor`` that contact receivers of alerts and workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from catalog_sync import composition as app
from catalog_sync.alerts.routes import routes
from catalog_sync.cli.checks import Check, fail, ok
from catalog_sync.domain.errors import CatalogSyncError, ConfigurationError
from catalog_sync.programs import missing_extra
from catalog_sync.sync.reporting import error_info
from catalog_sync.terminal.output import error_line
from otel_resilience.alerting import Heartbeat
from otel_resilience.alerting.channels import ChannelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog_sync.settings.settings import AlertSettings, Settings

REACHED_WITHIN: Final = 5.0
"""Seconds for connecting to a receiver."""
BROKER_WITHIN: Final = 5.0
"""Seconds for the broker to answer."""


async def receivers(settings: AlertSettings) -> list[Check]:
    """One finding for each channel and the heartbeat: connects to each, and sends no message."""
    try:
        targets = list(_targets(settings))
    except ValueError:  # reported by the check of the alerts
        return []
    return list(await asyncio.gather(*(asyncio.to_thread(_reach, name, target) for name, target in targets)))


def _targets(settings: AlertSettings) -> Iterator[tuple[str, Any]]:
    for route in routes(settings):
        if hasattr(route.channel, "reach"):
            yield f"channel {route.name}", route.channel
    if settings.heartbeat_url is not None:
        yield "heartbeat", Heartbeat(settings.heartbeat_url.reveal(), on_failure=lambda _: None)


def _reach(name: str, target: Any) -> Check:
    try:
        target.reach(timeout=REACHED_WITHIN)
    except ChannelError as error:
        advice = (
            "check its ERROR_ALERT_* variable, name server, proxy (HTTPS_PROXY, NO_PROXY), firewall and certificate"
        )
        return fail(name, f"{error}; nothing can be delivered", advice)
    return ok(name, "reached; no message was sent (catalog-sync alerts test sends one)")


async def workers(settings: Settings) -> Check:
    """Whether the broker accepts messages and a worker is running, if workers do the syncs."""
    if settings.jobs != "workers":
        return ok("workers", "not used; set CATALOG_JOBS=workers to let workers do the syncs of the API")
    try:
        names = await _seen(settings)
        await asyncio.to_thread(_ask_broker, settings)
    except ConfigurationError as error:
        return fail("workers", str(error), "set REDIS_URL to the Redis of the workers")
    except (CatalogSyncError, OSError) as error:
        return fail("workers", f"the broker: {error_line(error_info(error))}", "start Redis, or correct REDIS_URL")
    if not names:
        return fail("workers", "the broker answers, no worker has been seen", "start python -m catalog_sync.worker")
    return ok("workers", f"the broker answers; {len(names)} seen: {', '.join(names)}")


def _ask_broker(settings: Settings) -> None:
    """Raises ``OSError`` if the broker does not answer."""
    try:
        from kombu.exceptions import OperationalError

        from catalog_sync.worker.celery_app import configure
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    try:
        with configure(settings).connection_for_write(connect_timeout=BROKER_WITHIN) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=BROKER_WITHIN)
    except OperationalError as error:
        raise ConnectionError(str(error)) from error


async def _seen(settings: Settings) -> list[str]:
    from catalog_sync.jobs.overview import overview

    async with app.open_redis(settings) as redis:
        return [str(worker["name"]) for worker in (await overview(redis))["workers"]]
