"""Rules for PyMySQL and mysqlclient (``MySQLdb``), and for what is built on them, by the error numbers of MySQL and
MariaDB. Nothing here imports them."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import args_of, attribute, is_a
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.sqlstate import CLOSED, judge_pep_249, judge_sqlstate

_GROUPS: Final = (
    (verdicts.AUTHENTICATION.replace(unsent=True), (1045, 1698, 1862, 3118, 4151)),
    (verdicts.NOT_ALLOWED, (1044, 1130, 1142, 1143, 1227, 1370)),
    (verdicts.CONSTRAINT, (1022, 1048, 1062, 1169, 1216, 1217, 1364, 1451, 1452, 1557, 1586, 1761, 1762, 3819, 4025)),
    (verdicts.DEADLOCK, (1213, 1614)),
    (verdicts.SERIALIZATION, (1020, 1180, 3101)),
    (verdicts.LOCKED, (1205, 3572)),
    (verdicts.READ_TIMEOUT, (1317, 1969, 3024)),
    (verdicts.OVERLOADED.replace(unsent=True), (1040, 1203, 1226)),
    (verdicts.OVERLOADED, (1037, 1038, 1041, 1135)),
    (verdicts.WRITES_PAUSED, (1021, 1114)),
    # a replica, or a primary that is being replaced
    (verdicts.UNAVAILABLE, (1053, 1077, 1290, 1792, 1836, 1927, 3032, 4031)),
    (verdicts.BAD_REQUEST, (1264, 1265, 1292, 1366, 1406)),
    (verdicts.BAD_PROGRAM, (1054, 1064, 1146, 1149, 1305, 1365)),
    (verdicts.MISUSE, (1046, 1049)),
    (os_errors.REFUSED, (2002, 2003)),
    (os_errors.NAME_UNKNOWN, (2005,)),
    (verdicts.KEEP_ALIVE_RACE, (2006,)),
    (verdicts.ENDED, (2013, 2055)),
    (os_errors.TLS_REFUSED, (2026,)),
)
_BY_NUMBER: Final = {number: verdict for verdict, numbers in _GROUPS for number in numbers}


def classify_mysql(exception: BaseException) -> Classification | None:
    """The verdict on an exception of PyMySQL or mysqlclient; ``None`` on any other."""
    by_class = judge_pep_249(exception)
    if by_class is None:
        return None
    args = args_of(exception)
    number = args[0] if args else None
    if number == 0 and by_class is verdicts.MISUSE:
        return CLOSED  # InterfaceError(0, ""): the connection was closed before
    verdict = _BY_NUMBER.get(number) if is_a(number, int) else None
    if verdict is os_errors.REFUSED or verdict is verdicts.ENDED:
        connecting = verdict is os_errors.REFUSED
        if "timed out" in str(args[1:]):
            return verdicts.CONNECT_TIMEOUT if connecting else verdicts.READ_TIMEOUT
        return os_errors.connecting(exception) if connecting else verdict
    return verdict or judge_sqlstate(attribute(exception, "sqlstate")) or by_class
