"""Unknown variables with one of our prefixes, most of them misspelled."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Final

from catalog_sync.domain.text import printable
from catalog_sync.settings.settings import VARIABLES

PREFIXES: Final = ("CATALOG_", "ERROR_", "ESIM_GO_")

_NAMES: Final = frozenset(variable.name for variable in VARIABLES)
_SERVICE_LINK: Final = re.compile(
    r".*_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP)(?:_(?:PROTO|PORT|ADDR))?)"
)
"""Variables that Kubernetes sets for every service of a namespace, such as one called catalog-api."""
_LONGEST: Final = 100


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each, with the nearest known name."""
    for name in sorted(environ):
        if not name.startswith(PREFIXES):
            known = name.upper()
            if known in _NAMES and known.startswith(PREFIXES):  # variable names are case-sensitive
                yield f"{name} is not a known variable; the nearest is {known}"
        elif name not in _NAMES and not _SERVICE_LINK.fullmatch(name):
            near = difflib.get_close_matches(name[:_LONGEST], _NAMES, n=1)
            hint = f"the nearest is {near[0]}" if near else "docs/configuration.md lists all"
            yield f"{printable(name, limit=_LONGEST)} is not a known variable; {hint}"
