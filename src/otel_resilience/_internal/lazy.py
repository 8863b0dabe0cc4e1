"""Names of a package that are loaded when first asked for, so that a program loads only what it uses."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of ``package``; ``homes`` has the module below it that defines each name.

    A name whose home is of the same name is that module itself. To be set where ``TYPE_CHECKING`` does not hold: a
    checker of types sees the imports, and reports every other name.
    """

    def find(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: Any = importlib.import_module(f"{package}.{home}")
        if home != name:
            found = getattr(found, name)
        setattr(sys.modules[package], name, found)  # asked for once
        return found

    return find
