"""The keys in Redis, without the installation's prefix (``CATALOG_KEY_PREFIX``). All share one hash tag."""

from __future__ import annotations

import dataclasses
import re

TAG = "{cat}"


class Key(str):
    """A key, or a prefix of keys. Code that sends it to Redis puts the installation's prefix before it."""

    __slots__ = ()

    def under(self, prefix: str) -> str:
        """The key with the installation's prefix, as Redis gets it."""
        return f"{prefix}{self}"


CURRENT = Key(f"{TAG}:current")
"""Pointer to the live version. It never expires: freshness is judged by time, not by disappearance."""
FENCE = Key(f"{TAG}:fence")
"""The highest fencing token that has published."""
FENCE_SEQ = Key(f"{TAG}:fence:seq")
"""Counter of fencing tokens."""
LOCK = Key(f"{TAG}:lock")
VERSION_PREFIX = Key(f"{TAG}:v:")

OWNER = Key(f"{TAG}:owner")
"""The installation that publishes here."""
REPLACED = Key(f"{TAG}:replaced")
"""Sorted set of replaced versions that are kept for a while, by the token that replaced them."""
RECEIPT_PREFIX = Key(f"{TAG}:receipt:")

HASHES = ("bundles", "groups", "countries", "durations", "regions")
"""The data hashes of a version; it also has a ``meta`` hash."""

VERSION_HASHES = (*HASHES, "meta")
"""All hashes of a version."""

META_JSON = "json"
"""Field of the meta hash: the catalogue meta."""
META_MANIFEST = "manifest"
"""Field of the meta hash: how many fields each data hash has, as JSON."""
META_FENCE = "fence"
"""Field of the meta hash: the token that published the version, outside the JSON so that a script can read it."""
META_DIGEST = "digest"
"""Field of the meta hash: the checksum of the previous three."""
META_CHECKSUMS_PREFIX = "sums:"
"""Prefix of fields in the meta hash: checksums of the data hashes, see :mod:`catalog_sync.store.checksums`."""


def receipt_key(name: str) -> Key:
    """Where a commit records which version a sync has published."""
    return Key(f"{RECEIPT_PREFIX}{name}")


_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclasses.dataclass(frozen=True, slots=True)
class VersionKeys:
    """The keys of one version. Raises ``ValueError`` if the version cannot be part of a key."""

    version: str

    def __post_init__(self) -> None:
        """Raises ``ValueError`` if the version cannot be part of a key."""
        if not _VERSION.fullmatch(self.version):
            raise ValueError(f"version must be letters, digits, '_', '.' and '-', at most 100, not {self.version!r}")

    def hash(self, name: str) -> Key:
        """The key of one hash of the version."""
        return Key(f"{VERSION_PREFIX}{self.version}:{name}")

    @property
    def bundles(self) -> Key:
        """Bundle name to bundle, as JSON."""
        return self.hash("bundles")

    @property
    def meta(self) -> Key:
        """The metadata of the version."""
        return self.hash("meta")

    @property
    def data(self) -> list[Key]:
        """The data hashes, in the order of :data:`HASHES`."""
        return [self.hash(name) for name in HASHES]

    @property
    def all(self) -> list[Key]:
        """Every key of the version."""
        return [*self.data, self.meta]
