"""The owner of a Redis: a mark of the installation that publishes there, so that two do not overwrite each other."""

from __future__ import annotations

import dataclasses
import logging
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.domain.json_form import JsonForm
from catalog_sync.settings.folders import make_private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog_sync.settings.settings import Settings

FILE_NAME: Final = "installation"
"""File in the state folder with the random ID of this installation, which identifies it if its settings change."""

_ID: Final = re.compile(r"[0-9a-f]{16}")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Owner(JsonForm):
    """An installation. It may run on many machines, each with its own state folder."""

    environment: str | None
    """``CATALOG_ENVIRONMENT``; ``None`` if it is not set."""
    supplier: str
    """Host and port of the supplier."""
    installation: str
    """The ID in the state folder; empty if there is none."""

    @classmethod
    def of(cls, settings: Settings, *, make_id: bool = False) -> Self:
        """The owner for this process. ``make_id``: creates an ID if there is none."""
        return cls(settings.environment, supplier_address(settings.base_url), _id(settings.state_dir, make=make_id))

    def obstacles(self, found: Owner, *, publishes: bool) -> Iterator[str]:
        """Why a Redis with the mark ``found`` belongs to another installation; empty if it does not.

        Another environment is another installation. Only a publishing program is bound to one supplier; the same state
        folder may continue with another supplier.
        """
        if None not in (self.environment, found.environment) and self.environment != found.environment:
            yield f"CATALOG_ENVIRONMENT is {found.environment} there, {self.environment} here"
        same_folder = bool(self.installation) and self.installation == found.installation
        if publishes and self.supplier != found.supplier and not same_folder:
            yield f"the supplier is {found.supplier} there, {self.supplier} here"

    def check(self, found: Owner | None, *, publishes: bool) -> None:
        """Raises :class:`ForeignStoreError` if ``found`` is the mark of another installation."""
        reasons = [] if found is None else list(self.obstacles(found, publishes=publishes))
        if reasons:
            raise ForeignStoreError(
                f"REDIS_URL leads to the Redis of another installation ({'; '.join(reasons)}): set CATALOG_KEY_PREFIX "
                "to share it, or take it over with catalog-sync run --force"
            )


class ForeignStoreError(ConfigurationError):
    """Another installation publishes in this Redis under the same keys."""


def read_mark(text: bytes | None) -> Owner | None:
    """The mark in Redis; ``None`` if there is none, or it cannot be read."""
    try:
        return None if text is None else Owner.from_json_text(text)
    except ValueError as error:
        _log.warning("the owner of this Redis cannot be read: %s", error)
        return None


def supplier_address(base_url: str) -> str:
    """Host and port: data from one environment of the supplier says nothing about another."""
    parts = urlsplit(base_url)
    return f"{parts.hostname}:{parts.port or {'http': 80}.get(parts.scheme, 443)}"


def _id(state_dir: Path, *, make: bool) -> str:
    path = state_dir / FILE_NAME
    try:
        found = path.read_text("ascii").strip()
    except (OSError, ValueError):
        found = ""
    if _ID.fullmatch(found) or not make:
        return found
    fresh = secrets.token_hex(8)
    try:
        make_private(state_dir)
        path.write_text(f"{fresh}\n", "ascii")
    except OSError as error:
        _log.debug("the ID of this installation is not kept: %s", error.strerror)
        return ""
    return fresh
