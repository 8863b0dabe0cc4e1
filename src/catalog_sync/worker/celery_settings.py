"""Celery's settings, each with its reason, and the names of the tasks. The broker is the same Redis as for all else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.store.client import SOCKET_TIMEOUT
from catalog_sync.store.keys import Key

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings

QUEUE: Final = "catalog"
KEY_PREFIX: Final = "catalog-sync:"
"""Prefix of every key of the broker, after the prefix of the installation."""
QUEUE_KEY: Final = Key(KEY_PREFIX + QUEUE)
"""The list of messages that no worker has taken."""
VISIBILITY_FACTOR: Final = 3
"""A message is redelivered after this many times the longest job. Less would start a long job twice."""
TIME_LIMIT_MARGIN: Final = 60.0
"""Seconds beyond the deadline of a sync after which a hanging step is killed with its process."""

PLAN_TASK: Final = "catalog.plan"
FETCH_TASK: Final = "catalog.fetch"
PUBLISH_TASK: Final = "catalog.publish"
SWEEP_TASK: Final = "catalog.sweep"
DUE_TASK: Final = "catalog.due"


def celery_settings(settings: Settings) -> dict[str, Any]:
    """The configuration of the Celery application. Raises ``ConfigurationError`` if there is no ``REDIS_URL``."""
    longest = settings.sync_deadline + TIME_LIMIT_MARGIN
    return {
        "broker_url": broker_url(settings.redis_url),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": int(VISIBILITY_FACTOR * longest),
            # The defaults look for lost messages every 100 seconds.
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "global_keyprefix": settings.key_prefix + KEY_PREFIX,
            "socket_connect_timeout": SOCKET_TIMEOUT,
            "socket_timeout": SOCKET_TIMEOUT,
            "socket_keepalive": True,
        },
        "task_default_queue": QUEUE,
        "task_create_missing_queues": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "result_expires": None,
        "task_store_errors_even_if_ignored": False,
        # Acknowledged after the work, requeued if the process was killed: every step can be repeated.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_time_limit": longest,
        "task_publish_retry_policy": {
            "max_retries": 2,
            "interval_start": 0.1,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
        "worker_pool": "prefork",
        "worker_consumer": "catalog_sync.worker.consumer:SteadyConsumer",
        "worker_prefetch_multiplier": 1,
        # We send nothing to workers by broadcast: the ledger refuses a cancelled job when it starts.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_proc_alive_timeout": 30.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "timezone": "UTC",
        "enable_utc": True,
    }


def broker_url(redis_url: str | None) -> str:
    """``REDIS_URL`` in Celery's format. Raises ``ConfigurationError`` if there is none."""
    if not redis_url:
        raise ConfigurationError("REDIS_URL is not set: workers and the processes that give them work share one Redis")
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        if parts.scheme == "rediss" and "ssl_cert_reqs" not in parts.query:
            return redis_url + ("&" if parts.query else "?") + "ssl_cert_reqs=required"
        return redis_url
    options = dict(parse_qsl(parts.query))
    query = urlencode({"virtual_host": options.get("db", "0")})
    credentials = ""
    if parts.password is not None:
        credentials = f"{parts.username or ''}:{parts.password}@"
    return f"redis+socket://{credentials}{parts.path}?{query}"
