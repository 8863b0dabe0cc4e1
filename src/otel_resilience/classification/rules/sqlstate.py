"""The meaning of an SQLSTATE, or without one, of the exception's PEP 249 class. Pure.

The codes are those of the SQL standard and of PostgreSQL (Appendix A of its manual), which CockroachDB and YugabyteDB
use as well. A server that answers with an error is alive: only errors that say it is unhealthy count as failures.
"""

from __future__ import annotations

import re
from typing import Final

from otel_resilience._internal.foreign import bases_of, is_a
from otel_resilience.classification import error_types
from otel_resilience.classification.model import BreakerEffect, Classification, Severity
from otel_resilience.classification.rules import os_errors, verdicts

CLOSED: Final = os_errors.REFUSED.replace(breaker=BreakerEffect.NEUTRAL)
"""The program's open connection was lost earlier: nothing was sent, and that loss has been counted."""

_SQLSTATE: Final = re.compile(r"[0-9A-Z]{5}", re.ASCII)
_IN_TRANSACTION: Final = verdicts.MISUSE
TOO_MANY_CONNECTIONS: Final = verdicts.OVERLOADED.replace(unsent=True)
NOT_YET: Final = verdicts.UNAVAILABLE.replace(unsent=True)
"""The server is starting, stopping or recovering, and accepts no connections."""
_CORRUPTED: Final = verdicts.BROKEN_SERVER.replace(severity=Severity.CRITICAL)

_BY_STATE: Final = {
    "08001": os_errors.REFUSED,
    "08004": verdicts.NOT_ALLOWED,
    "08P01": verdicts.GARBAGE,
    "0A000": verdicts.BAD_PROGRAM,
    "25006": verdicts.UNAVAILABLE,  # a replica: after a failover the pool still has connections to the old primary
    "25P03": verdicts.ENDED.replace(breaker=BreakerEffect.NEUTRAL),
    "40002": verdicts.CONSTRAINT,
    "40003": os_errors.BROKEN,
    "40P01": verdicts.DEADLOCK,
    "42501": verdicts.NOT_ALLOWED,
    "53100": verdicts.WRITES_PAUSED,
    "53300": TOO_MANY_CONNECTIONS,
    "55006": verdicts.LOCKED,
    "55P03": verdicts.LOCKED,
    "57014": verdicts.READ_TIMEOUT,
    "57P03": NOT_YET,
    "57P04": verdicts.MISUSE,
    "57P05": verdicts.ENDED.replace(breaker=BreakerEffect.NEUTRAL),
    "XX001": _CORRUPTED,
    "XX002": _CORRUPTED,
}
_BY_CLASS: Final = {
    "08": os_errors.BROKEN,
    "23": verdicts.CONSTRAINT,
    "25": _IN_TRANSACTION,
    "26": _IN_TRANSACTION,
    "28": verdicts.AUTHENTICATION.replace(unsent=True),
    "2D": _IN_TRANSACTION,
    "34": _IN_TRANSACTION,
    "3B": _IN_TRANSACTION,
    "3D": verdicts.MISUSE.replace(unsent=True),
    "40": verdicts.SERIALIZATION,
    "42": verdicts.BAD_PROGRAM,
    "53": verdicts.OVERLOADED,
    "54": verdicts.BAD_PROGRAM,
    "55": verdicts.BAD_PROGRAM,
    "57": verdicts.UNAVAILABLE,
    "58": verdicts.slow(error_types.SERVER_ERROR),
    "F0": verdicts.BROKEN_SERVER,
    "XX": verdicts.BROKEN_SERVER,
}

_BY_PEP_249: Final = {
    "IntegrityError": verdicts.CONSTRAINT,
    "DataError": verdicts.BAD_REQUEST,
    "ProgrammingError": verdicts.BAD_PROGRAM,
    "NotSupportedError": verdicts.BAD_PROGRAM,
    "InternalError": verdicts.BROKEN_SERVER,
    "InterfaceError": verdicts.MISUSE,
    "OperationalError": os_errors.BROKEN,
    "DatabaseError": verdicts.SERVER_ERROR,
}


def judge_sqlstate(state: object) -> Classification | None:
    """The verdict on a code of five characters; ``None`` if it is not one, or is ``HY000``, which MySQL uses for
    "other". An unknown class is a bad request: the server answered."""
    if not is_a(state, str) or not _SQLSTATE.fullmatch(state) or state.startswith("HY"):
        return None
    return _BY_STATE.get(state) or _BY_CLASS.get(state[:2], verdicts.BAD_REQUEST)


def judge_pep_249(exception: BaseException) -> Classification | None:
    """The verdict by the PEP 249 class that ``exception`` is or derives from, in whatever module."""
    names = (base.__name__ for base in bases_of(type(exception)))
    return next((_BY_PEP_249[name] for name in names if name in _BY_PEP_249), None)
