"""Which bundles belong to which group, country, region and duration, for all groups of a version.

The index is built from the merged catalogue, never from one group at a time, so that no group's entries overwrite
another's. It can hold 500,000 bundles: a bundle costs its name and one dictionary entry, because bundles with the same
indexed properties share one profile.
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Literal, NamedTuple

from catalog_sync.domain.countries import country_code
from catalog_sync.domain.groups import same_spelling
from catalog_sync.domain.models import Bundle

Dimension = Literal["groups", "countries", "regions", "durations"]
DIMENSIONS: tuple[Dimension, ...] = ("groups", "countries", "regions", "durations")
"""The indexed properties; also the names of the index hashes of a version."""


class Profile(NamedTuple):
    """The indexed properties of a bundle: by dimension, its values in the index hash."""

    groups: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    durations: frozenset[str] = frozenset()

    def values(self, dimension: Dimension) -> frozenset[str]:
        """The values of one dimension."""
        values: frozenset[str] = getattr(self, dimension)
        return values


_HASHED = 1000
"""Names that are hashed in one step."""


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which bundles are wanted; all given conditions must hold.

    ``group`` ignores case, hyphens and spaces. ``country`` is a code, case-insensitive. ``min_days`` and ``max_days``
    are inclusive. Raises ``ValueError`` if they contradict each other.
    """

    group: str | None = None
    country: str | None = None
    region: str | None = None
    min_days: int | None = None
    max_days: int | None = None

    def __post_init__(self) -> None:
        """Raises ``ValueError`` if no duration can satisfy both limits."""
        if self.min_days is not None and self.max_days is not None and self.min_days > self.max_days:
            raise ValueError(f"min_days ({self.min_days}) must be at most max_days ({self.max_days})")

    def asks_for(self, dimension: Dimension) -> bool:
        """Whether there is a condition on ``dimension``."""
        if dimension == "groups":
            return self.group is not None
        if dimension == "countries":
            return self.country is not None
        if dimension == "regions":
            return self.region is not None
        return self.min_days is not None or self.max_days is not None

    def accepts(self, dimension: Dimension, value: str) -> bool:
        """Whether a bundle with ``value`` in ``dimension`` meets the condition on it."""
        if dimension == "groups":
            return self.group is None or same_spelling(value) == same_spelling(self.group)
        if dimension == "countries":
            return self.country is None or country_code(value) == country_code(self.country)
        if dimension == "regions":
            return self.region is None or same_spelling(value) == same_spelling(self.region)
        days = int(value)
        return (self.min_days is None or days >= self.min_days) and (self.max_days is None or days <= self.max_days)

    def matches(self, profile: Profile) -> bool:
        """Whether a bundle with this profile is wanted."""
        return all(
            any(self.accepts(dimension, value) for value in profile.values(dimension))
            for dimension in DIMENSIONS
            if self.asks_for(dimension)
        )


def profile_of(bundle: Bundle) -> Profile:
    """The indexed properties of one bundle."""
    regions = () if bundle.region is None else (bundle.region,)
    durations = (str(bundle.duration_days),)
    return Profile(*map(frozenset, (bundle.groups, bundle.countries, regions, durations)))


class CatalogueIndex:
    """Names by group, country, region and duration. Not thread-safe."""

    __slots__ = ("_profile_ids", "_profile_of", "_profiles", "_shapes")

    def __init__(self) -> None:
        self._profile_of: dict[str, int] = {}
        """By name, in insertion order; the few different profiles are referenced by number."""
        self._profiles: list[Profile] = []
        self._profile_ids: dict[Profile, int] = {}
        self._shapes: dict[tuple[object, ...], int] = {}

    def __len__(self) -> int:
        return len(self._profile_of)

    def __contains__(self, name: object) -> bool:
        return name in self._profile_of

    def __iter__(self) -> Iterator[str]:
        """The names in insertion order."""
        return iter(self._profile_of)

    def add(self, bundle: Bundle) -> Bundle:
        """Adds ``bundle`` and returns it as it must be stored.

        If another group already added it, it keeps those groups; everything else is replaced.
        """
        shape = (bundle.groups, bundle.countries, bundle.region, bundle.duration_days)
        profile_id = self._shapes.get(shape)
        if profile_id is None:
            profile_id = self._shapes[shape] = self._profile_id(profile_of(bundle))
        known = self._profile_of.get(bundle.name)
        if known is not None:
            missing = self._profiles[known].groups.difference(bundle.groups)
            if missing:
                bundle = dataclasses.replace(bundle, groups=(*bundle.groups, *sorted(missing)))
                profile_id = self._profile_id(profile_of(bundle))
        self._profile_of[bundle.name] = profile_id
        return bundle

    def tag(self, dimension: Dimension, value: str, names: Iterable[str]) -> None:
        """Adds one value of one dimension to ``names``, new or known: used to restore an index hash."""
        steps: dict[int | None, int] = {}
        for name in names:
            before = self._profile_of.get(name)
            after = steps.get(before)
            if after is None:
                known = Profile() if before is None else self._profiles[before]
                more = known._replace(**{dimension: known.values(dimension) | {value}})
                after = steps[before] = self._profile_id(more)
            self._profile_of[name] = after

    def discard(self, name: str) -> None:
        """Removes ``name``; does nothing if it is unknown."""
        self._profile_of.pop(name, None)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._profile_of)

    def match(self, wanted: Filter) -> list[str]:
        """The names of the bundles that match ``wanted``, sorted."""
        accepted = {profile_id for profile_id, profile in enumerate(self._profiles) if wanted.matches(profile)}
        return sorted(name for name, profile_id in self._profile_of.items() if profile_id in accepted)

    def group_counts(self) -> Mapping[str, int]:
        """How many bundles each group has."""
        counts: dict[str, int] = {}
        for profile_id, count in Counter(self._profile_of.values()).items():
            for group in self._profiles[profile_id].groups:
                counts[group] = counts.get(group, 0) + count
        return counts

    def entries(self, dimension: Dimension) -> Iterator[tuple[str, list[str]]]:
        """The fields of the index hash of ``dimension``: each value with its names, in insertion order."""
        names = list(self._profile_of)
        for value, places in sorted(self._postings(dimension).items()):
            yield value, [names[place] for place in places]

    def names_sha256(self) -> str:
        """SHA-256 over the sorted names, each followed by a newline, in hexadecimal."""
        return names_sha256(self.names())

    def _postings(self, dimension: Dimension) -> dict[str, array[int]]:
        """For each value the places of its names, at four bytes each."""
        postings: dict[str, array[int]] = {}
        values_of = [profile.values(dimension) for profile in self._profiles]
        for place, profile_id in enumerate(self._profile_of.values()):
            for value in values_of[profile_id]:
                places = postings.get(value)
                if places is None:
                    places = postings[value] = array("I")
                places.append(place)
        return postings

    def _profile_id(self, profile: Profile) -> int:
        known = self._profile_ids.get(profile)
        if known is None:
            known = self._profile_ids[profile] = len(self._profiles)
            self._profiles.append(profile)
        return known


def names_sha256(names: Iterable[str]) -> str:
    """SHA-256 over ``names`` in the given order (sort them first), each followed by a newline, in hexadecimal."""
    digest, iterator = hashlib.sha256(), iter(names)
    while some := list(islice(iterator, _HASHED)):
        digest.update("\n".join((*some, "")).encode())
    return digest.hexdigest()
