"""Rules for psycopg 2 and 3 and the pool of the latter. Nothing here imports them.

If no connection is established there is no SQLSTATE, only libpq's text, which contains the server's message.
"""

from __future__ import annotations

import re
from typing import Final

from otel_resilience._internal.foreign import attribute
from otel_resilience.classification.causes import by_class_name, message_of
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.sqlstate import (
    CLOSED,
    NOT_YET,
    TOO_MANY_CONNECTIONS,
    judge_pep_249,
    judge_sqlstate,
)

_TEXTS: Final = (
    (r"(connection|cursor) (is|already) (closed|lost)|the connection is lost", CLOSED),
    (r"password authentication failed|no password supplied|role \"[^\"]*\" does not exist", verdicts.AUTHENTICATION),
    (r"no pg_hba\.conf entry|permission denied for database", verdicts.NOT_ALLOWED),
    (r"too many (clients|connections)|remaining connection slots", TOO_MANY_CONNECTIONS),
    (r"the database system is |not accepting connections|terminating connection", NOT_YET),
    (r"database \"[^\"]*\" does not exist", verdicts.MISUSE),
    (r"timeout expired", verdicts.CONNECT_TIMEOUT),
    (r"certificate verify failed|server certificate for", os_errors.CERTIFICATE),
    (r"does not support SSL|SSL error: (wrong version|unsupported)", os_errors.TLS_REFUSED),
    (r"Temporary failure in name resolution", os_errors.RESOLVER_BUSY),
    (r"failed to resolve host|could not translate host name", os_errors.NAME_UNKNOWN),
    (r"Too many open files", os_errors.EXHAUSTED),
    (r"server closed the connection|Connection reset|SSL connection has been closed", verdicts.ENDED),
    (r"could not (receive|send) ", os_errors.BROKEN),
    (r"connection to server |could not connect|connection failed", os_errors.REFUSED),
)
_KNOWN: Final = tuple((re.compile(text), verdict) for text, verdict in _TEXTS)
_CONNECTING: Final = re.compile(r"(connection failed: )?connection to server ")


def _pool_2(exception: BaseException) -> Classification:
    return verdicts.POOL if "exhausted" in message_of(exception) else verdicts.MISUSE


_POOL: Final = {
    "PoolTimeout": verdicts.POOL,
    "TooManyRequests": verdicts.POOL,
    "PoolClosed": verdicts.MISUSE,
}
_by_name: Final = by_class_name(
    {
        "psycopg.errors": {
            "ConnectionTimeout": verdicts.CONNECT_TIMEOUT,
            "CancellationTimeout": verdicts.READ_TIMEOUT,
        },
        "psycopg_pool": _POOL,
        "psycopg_pool.errors": _POOL,
        "psycopg2.pool": {"PoolError": _pool_2},
    }
)


def classify_psycopg(exception: BaseException) -> Classification | None:
    """The verdict on an exception of psycopg; ``None`` on any other."""
    state = attribute(exception, "sqlstate") or attribute(exception, "pgcode")
    known = _by_name(exception) or judge_sqlstate(state)
    if known is not None:
        return known
    fallback = judge_pep_249(exception)
    return fallback if fallback is None else _by_text(message_of(exception)) or fallback


def _by_text(text: str) -> Classification | None:
    for known, verdict in _KNOWN:
        if known.search(text):
            # While connecting nothing is sent, whatever goes wrong.
            return verdict.replace(unsent=True) if _CONNECTING.match(text) else verdict
    return None
