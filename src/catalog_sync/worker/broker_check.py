"""Whether the Redis of ``REDIS_URL`` takes us, asked once at the start of a program that cannot do without it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import redis
from redis.exceptions import AuthenticationError, AuthorizationError

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings.values import shown_address
from catalog_sync.store.client import connect_blocking
from catalog_sync.store.server import check_server
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings

WITHIN: Final = 2.0
"""Seconds that the server gets to answer."""

_log = logging.getLogger(__name__)


def check_broker(settings: Settings) -> None:
    """Raises ``ConfigurationError`` where the server answers that it will not take this URL: its credentials, database;
    and as :func:`~catalog_sync.store.server.check_server`.

    A server that is away, loading or changing its role is waited for later, like one that goes away in the meantime.
    """
    check_server(settings, publishes=True)
    url = settings.redis_url or ""
    try:
        with connect_blocking(url, timeout=WITHIN) as client:
            client.ping()
    except (AuthenticationError, AuthorizationError) as error:
        raise _refused(url, error) from error
    except redis.ResponseError as error:
        _log.warning("Redis does not take commands yet: %s", redact(str(error)))
    except (redis.RedisError, OSError) as error:
        _log.warning("Redis does not answer yet: %s", redact(str(error)))
    except (ValueError, TypeError, LookupError) as error:
        raise _refused(url, error) from error


def _refused(url: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"REDIS_URL={shown_address(url)} is not usable: {redact(str(error))}")
