"""Names of a package that are loaded when first asked for, so that a program loads only what it uses."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of ``package``; ``names`` has what each module below it defines, separated by spaces.

    Under ``""`` stand modules that are attributes themselves. To be set where ``TYPE_CHECKING`` does not hold: a
    checker of types sees the imports, and reports every other name.
    """
    homes = {name: module for module, defined in names.items() for name in defined.split()}

    def find(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: Any = importlib.import_module(f"{package}.{home or name}")
        if home:
            found = getattr(found, name)
        setattr(sys.modules[package], name, found)  # asked for once
        return found

    return find
