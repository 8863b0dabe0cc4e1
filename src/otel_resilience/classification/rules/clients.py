"""Which file of rules knows the exceptions of which package.

A module of rules is imported when an exception of its package is first met, so unused clients cost nothing.
"""

from __future__ import annotations

import functools
import importlib
from typing import Final

from otel_resilience._internal.foreign import bases_of, name_of
from otel_resilience.classification.by_class import decided_by_class
from otel_resilience.classification.model import Classification, Rule

_HOMES: Final = {
    "aiohttp": "aiohttp",
    "anthropic": "openai",
    "asyncpg": "asyncpg",
    "botocore": "botocore",
    "bson": "pymongo",
    "cimpl": "confluent_kafka",
    "elastic_transport": "elasticsearch",
    "elasticsearch": "elasticsearch",
    "google": "google_api_core",
    "grpc": "grpc",
    "httpx": "httpx",
    "httpx2": "httpx",
    "kafka": "kafka",
    "MySQLdb": "mysql",
    "openai": "openai",
    "psycopg": "psycopg",
    "psycopg2": "psycopg",
    "psycopg_pool": "psycopg",
    "pymongo": "pymongo",
    "pymysql": "mysql",
    "redis": "redis",
    "requests": "requests",
    "smtplib": "smtplib",
    "sqlalchemy": "sqlalchemy",
    "sqlite3": "sqlite",
    "urllib3": "urllib3",
}
"""Maps the top-level package of an exception's class to the module here with its rule, a function ``classify_…`` of the
same name."""
PACKAGES: Final = frozenset(_HOMES)


@functools.lru_cache(maxsize=512)
def _rules_of(kind: type[BaseException]) -> tuple[Rule, ...]:
    """The rules for the packages of its base classes, the nearest first."""
    packages = dict.fromkeys(name_of(base).partition(".")[0] for base in bases_of(kind))
    return tuple(dict.fromkeys(rule_for(package) for package in packages if package in PACKAGES))


def rule_for(package: str) -> Rule:
    """The rule for the exceptions of ``package``, one of :data:`PACKAGES`."""
    home = _HOMES[package]
    rule: Rule = getattr(importlib.import_module(f"{__package__}.{home}"), f"classify_{home}")
    return rule


def _asked(kind: type[BaseException]) -> tuple[Rule, ...]:
    return _rules_of(kind)  # type: ignore[arg-type]  # mypy does not see that classes are hashable


@decided_by_class(lambda kind: not _asked(kind), parts=_asked)
def classify_client(exception: BaseException) -> Classification | None:
    """The verdict on an exception of a client library, or of a class derived from one; ``None`` on any other."""
    for rule in _asked(type(exception)):
        verdict = rule(exception)
        if verdict is not None:
            return verdict
    return None
