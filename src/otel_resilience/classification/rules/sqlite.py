"""Rules for ``sqlite3``, by SQLite's own result codes."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification import error_types
from otel_resilience.classification.causes import message_of
from otel_resilience.classification.model import BreakerEffect, Classification, Severity
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.sqlstate import judge_pep_249

_DAMAGED: Final = verdicts.BROKEN_SERVER.replace(severity=Severity.CRITICAL)
_DISK: Final = verdicts.slow(error_types.SERVER_ERROR)

_BY_CODE: Final = {
    1: verdicts.BAD_PROGRAM,  # SQLITE_ERROR: no such table, syntax
    2: verdicts.BROKEN_SERVER,
    3: os_errors.DENIED,
    5: verdicts.LOCKED,  # SQLITE_BUSY: database is locked
    6: verdicts.LOCKED,  # SQLITE_LOCKED: database table is locked
    7: os_errors.EXHAUSTED,
    8: os_errors.DENIED,  # SQLITE_READONLY
    9: verdicts.READ_TIMEOUT.replace(breaker=BreakerEffect.NEUTRAL),  # SQLITE_INTERRUPT
    10: _DISK,  # SQLITE_IOERR
    11: _DAMAGED,  # SQLITE_CORRUPT
    13: os_errors.DISK_FULL,
    14: os_errors.DENIED,  # SQLITE_CANTOPEN
    15: verdicts.LOCKED,  # SQLITE_PROTOCOL: locking protocol
    17: verdicts.CONFLICT,  # SQLITE_SCHEMA
    19: verdicts.CONSTRAINT,
    23: os_errors.DENIED,
    26: _DAMAGED,  # SQLITE_NOTADB
}
"""By the low byte of a result code; the others mean an invalid statement or call."""


def classify_sqlite(exception: BaseException) -> Classification | None:
    """The verdict on an exception of ``sqlite3``; ``None`` on any other."""
    by_class = judge_pep_249(exception)
    code = attribute(exception, "sqlite_errorcode")
    if by_class is None or not is_a(code, int):
        # Without a code the module itself refuses: a closed connection, another thread, a wrong parameter.
        locked = by_class is not None and message_of(exception).endswith("is locked")
        return verdicts.LOCKED if locked else by_class and verdicts.MISUSE
    return _BY_CODE.get(code & 0xFF, verdicts.BAD_PROGRAM)
