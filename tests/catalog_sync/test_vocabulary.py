"""The closed vocabulary of error.type."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import catalog_sync
from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.observability import contract
from otel_resilience.classification import error_types


def error_classes() -> Iterator[type[CatalogSyncError]]:
    for module in pkgutil.walk_packages(catalog_sync.__path__, "catalog_sync."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    pending = [CatalogSyncError]
    while pending:
        found = pending.pop()
        yield found
        pending.extend(found.__subclasses__())


def test_every_error_of_the_application_speaks_the_closed_vocabulary() -> None:
    known = error_types.NAMES | set(contract.ERROR_TYPES)
    spoken = {found.default.error_type for found in error_classes()}
    others = {name for name in spoken if name not in known and not name.startswith(error_types.REDIS_PREFIX)}
    assert all(name.isdigit() for name in others), others
    assert set(contract.ERROR_TYPES) <= spoken
