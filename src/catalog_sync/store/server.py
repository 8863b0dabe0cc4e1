"""Checks that the Redis of ``REDIS_URL`` can be used here: once, when a program starts. Blocks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import redis
from redis.exceptions import AuthenticationError, AuthorizationError

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings.values import shown_address
from catalog_sync.store.client import connect_blocking
from catalog_sync.store.keys import OWNER
from catalog_sync.store.owner import Owner, read_mark
from otel_resilience.redaction import redact
from otel_resilience.telemetry.providers import suppressed_instrumentation

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings

WITHIN: Final = 0.5
"""Timeout in seconds for connecting and for one reply."""
WITHIN_WHERE_NEEDED: Final = 2.0
"""The same for a program that cannot work without it."""
_UNUSABLE: Final = {
    "cluster": "a node of a Redis Cluster, which is not supported: name a server outside of a cluster",
    "sentinel": "a Sentinel, which is not supported: name the server that it watches",
}
"""By ``redis_mode``."""
_REFUSALS: Final = ("db index is out of range", "invalid db index", "select is not allowed")
"""Replies for a database that does not exist, in lower case."""

_log = logging.getLogger(__name__)


def check_server(settings: Settings, *, publishes: bool = False, needed: bool = False) -> bool:
    """Whether it answers.

    Raises ``ConfigurationError``, in one line, if the server is a node of a cluster or a Sentinel, has no such
    database, or belongs to another installation, whether the program ``publishes`` or only reads.

    ``needed``: for a program that cannot work without it; raises if the server rejects the credentials, too. A server
    that does not answer, is loading or changing its role is not an error here: later calls to it raise, or wait.
    """
    url = settings.redis_url
    if url is None:
        return False
    timeout, level = (WITHIN_WHERE_NEEDED, logging.WARNING) if needed else (WITHIN, logging.DEBUG)
    try:
        # Before telemetry is set up: under an agent its spans would not have the name of the program.
        with suppressed_instrumentation(), connect_blocking(url, timeout=timeout) as client:
            mode = client.info("server").get("redis_mode")
            if mode not in _UNUSABLE:
                mark = client.get(OWNER.under(settings.key_prefix))
    except (redis.RedisError, OSError) as error:
        refused = needed and isinstance(error, AuthenticationError | AuthorizationError)
        if refused or any(reason in str(error).lower() for reason in _REFUSALS):
            raise _unusable(url, redact(str(error))) from error
        _log.log(level, "Redis does not answer yet: %s", redact(str(error)))
        return False
    except (ValueError, TypeError, LookupError) as error:
        raise _unusable(url, redact(str(error))) from error
    if mode in _UNUSABLE:
        raise _unusable(url, f"it is {_UNUSABLE[mode]}")
    Owner.of(settings).check(read_mark(mark), publishes=publishes)
    return True


def _unusable(url: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"REDIS_URL={shown_address(url)} is not usable: {reason}")
