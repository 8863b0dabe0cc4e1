"""The bundles that the simulator sells: a generated catalogue of any size, or the unchanged rows of a file."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import random
import re
from array import array
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, Protocol

from esim_go_simulator.places import countries, regions

DEFAULT_BUNDLES: Final = 5_200
MAX_BUNDLES: Final = 500_000

FIXED: Final = "Standard - Fixed"
LITE: Final = "Standard - Unlimited Lite"
ESSENTIAL: Final = "Standard - Unlimited Essential"
PLUS: Final = "Standard - Unlimited Plus"
LONG: Final = "Standard - Long Duration Bundle"
GROUPS: Final = (FIXED, LITE, ESSENTIAL, PLUS, LONG)

_FIXED_PLANS: Final = ((1, 7), (2, 15), (3, 30), (5, 30), (10, 30), (20, 30), (50, 30), (100, 30))
_LONG_PLANS: Final = ((20, 60), (50, 90), (100, 90), (100, 180))
_LONG_PLACES: Final = ("RGBL", "RGBS", "REUS", "RBK", "RME", "RBH", "RLA")
_UNLIMITED_DAYS: Final = (1, 3, 5, 7, 10, 15, 30)
_UNLIMITED: Final = (("UL", LITE, 1.0), ("ULE", ESSENTIAL, 1.2), ("ULP", PLUS, 2.4))

_PRICED_AS_TEXT: Final = ("KZ", (LITE, ESSENTIAL))
"""The supplier sends some prices as strings; these plans do."""

_KEEP_RENDERED: Final = 20_000
"""Catalogues up to this size cache their rendered rows; larger ones do not, to save memory."""

_NAME: Final = re.compile(r"esim_(\w+?)_(\d+)D_([A-Z-]+)_V([1-9]\d*)", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Facets:
    """The properties by which the API filters and sorts a bundle."""

    name: str
    description: str
    groups: tuple[str, ...]
    countries: tuple[str, ...]
    regions: frozenset[str]
    data_mb: float
    days: float
    price: float
    autostart: bool
    unlimited: bool


class Catalogue(Protocol):
    """Bundles by index, from 0."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the supplier's order."""

    def __len__(self) -> int: ...

    def row(self, index: int) -> bytes:
        """The bundle as JSON text."""

    def facets(self, index: int) -> Facets:
        """The properties that it is filtered by."""

    def find(self, name: str) -> int | None:
        """The index of the bundle with that name; case-sensitive."""

    def matching(self, accept: Callable[[Facets], bool], *, by_text: bool) -> array[int]:
        """Ascending indices of accepted bundles. ``by_text``: the answer depends on name or description."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    code: str
    name: str
    countries: tuple[str, ...]
    regions: frozenset[str]
    json: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """A plan for a place, without its edition."""

    group: str
    place: _Place
    size: str
    label: str
    data_mb: int
    days: int
    price: Decimal
    speed: str

    def name(self, edition: int) -> str:
        return f"esim_{self.size}_{self.days}D_{self.place.code}_V{edition}"

    def description(self, edition: int) -> str:
        return f"eSIM, {self.label}, {self.days} Days, {self.place.name}, V{edition}"


class GeneratedCatalogue:
    """Realistic bundles, identical for the same size and seed on every machine.

    Plans come in editions (``_V2``, ``_V3``, ...): small catalogues are a sample of the first edition, with every group
    in it from five bundles on; larger ones continue with the next edition. ``size`` is from 0 to 500,000.
    """

    def __init__(self, size: int = DEFAULT_BUNDLES, seed: int = 0) -> None:
        if not 0 <= size <= MAX_BUNDLES:
            raise ValueError(f"the size must be from 0 to {MAX_BUNDLES}, not {size}")
        self._size = size
        plans: Sequence[_Plan] = _plans(seed)
        if size < len(plans):
            plans = _sample(plans, size, seed)
        self._plans = plans
        self._by_key = {(plan.size, plan.days, plan.place.code): slot for slot, plan in enumerate(plans)}
        self._rendered: list[bytes | None] | None = [None] * size if size <= _KEEP_RENDERED else None

    @property
    def groups(self) -> tuple[str, ...]:
        """The five groups of the supplier."""
        return GROUPS

    def __len__(self) -> int:
        return self._size

    def row(self, index: int) -> bytes:
        kept = self._rendered
        if kept is None:
            return self._render(index)
        row = kept[index]
        if row is None:
            row = kept[index] = self._render(index)
        return row

    def facets(self, index: int) -> Facets:
        plan, edition = self._plan(index)
        return Facets(
            name=plan.name(edition),
            description=plan.description(edition),
            groups=(plan.group,),
            countries=plan.place.countries,
            regions=plan.place.regions,
            data_mb=plan.data_mb,
            days=plan.days,
            price=float(plan.price),
            autostart=True,
            unlimited=plan.data_mb < 0,
        )

    def find(self, name: str) -> int | None:
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        slot = self._by_key.get((match[1], int(match[2]), match[3]))
        if slot is None:
            return None
        index = (int(match[4]) - 2) * len(self._plans) + slot
        # A leading zero in the days would spell the same plan differently.
        return index if 0 <= index < self._size and self.facets(index).name == name else None

    def matching(self, accept: Callable[[Facets], bool], *, by_text: bool) -> array[int]:
        """See :class:`Catalogue`. Editions differ only in text, so one of them is checked for all."""
        if by_text:
            return array("I", (index for index in range(self._size) if accept(self.facets(index))))
        slots = [slot for slot in range(min(len(self._plans), self._size)) if accept(self.facets(slot))]
        found = array("I")
        for start in range(0, self._size, max(len(self._plans), 1)):
            found.extend(start + slot for slot in slots if start + slot < self._size)
        return found

    def _plan(self, index: int) -> tuple[_Plan, int]:
        edition, slot = divmod(index, len(self._plans))
        return self._plans[slot], edition + 2

    def _render(self, index: int) -> bytes:
        plan, edition = self._plan(index)
        unlimited = plan.data_mb < 0
        price = format(plan.price.normalize(), "f")
        if plan.place.code == _PRICED_AS_TEXT[0] and plan.group in _PRICED_AS_TEXT[1]:
            price = f'"{plan.price}"'
        return (
            f'{{"name":"{plan.name(edition)}","description":"{plan.description(edition)}","groups":["{plan.group}"],'
            f'"countries":{plan.place.json},"dataAmount":{plan.data_mb},"duration":{plan.days},"speed":{plan.speed},'
            f'"autostart":true,"unlimited":{"true" if unlimited else "false"},"price":{price},'
            f'"billingType":"FixedCost"}}'
        ).encode()


def _places() -> dict[str, _Place]:
    known = countries()
    wanted = {code: (name, (code,)) for code, (name, _) in known.items()} | regions()
    return {
        code: _Place(
            code,
            name,
            codes,
            frozenset(known[iso][1] for iso in codes),
            json.dumps(
                [{"name": known[iso][0], "region": known[iso][1], "iso": iso} for iso in codes],
                ensure_ascii=False,
                separators=(",", ":"),
            ),
        )
        for code, (name, codes) in wanted.items()
    }


@functools.lru_cache(maxsize=1)
def _plans(seed: int) -> tuple[_Plan, ...]:
    """All plans of one edition, group by group as the supplier lists them."""
    places = _places()
    found = [_fixed(FIXED, place, size, days, seed) for place in places.values() for size, days in _FIXED_PLANS]
    for size, group, factor in _UNLIMITED:
        for place in places.values():
            for days in _UNLIMITED_DAYS:
                price = _price(place, (0.45 + days) * factor, seed)
                speed = _speed(f"{size}{days}{place.code}", seed)
                found.append(_Plan(group, place, size, "Unlimited", -1, days, price, speed))
    found.extend(_fixed(LONG, places[code], size, days, seed) for code in _LONG_PLACES for size, days in _LONG_PLANS)
    return tuple(found)


def _fixed(group: str, place: _Place, size: int, days: int, seed: int) -> _Plan:
    price = _price(place, (0.8 + 0.45 * size) * (1.8 if group == LONG else 1.0), seed)
    speed = _speed(f"{size}{days}{place.code}", seed)
    return _Plan(group, place, f"{size}GB", f"{size}GB", size * 1000, days, price, speed)


def _price(place: _Place, base: float, seed: int) -> Decimal:
    """In US dollars with cents."""
    level = _level(place.code, len(place.countries), seed)
    return (Decimal(round(base * level * 100)) / 100).quantize(Decimal("0.01"))


@functools.lru_cache(maxsize=1000)
def _level(code: str, countries: int, seed: int) -> float:
    """A factor of the place, from 1 to 1.8; plans for several countries cost more."""
    return 1.0 + _draw(f"price {code}", seed) * 0.8 + min(countries - 1, 20) * 0.05


def _speed(key: str, seed: int) -> str:
    return "null" if _draw(f"speed {key}", seed) < 0.1 else '["2G","3G","4G","5G"]'


def _draw(key: str, seed: int) -> float:
    """A number from 0 to 1 that depends only on its arguments."""
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _sample(plans: Sequence[_Plan], size: int, seed: int) -> list[_Plan]:
    """``size`` of the plans in order, with every group and then every country represented as far as possible."""
    order = list(range(len(plans)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a sample, not a secret
    groups: set[str] = set()
    codes: set[str] = set()
    first: list[int] = []
    second: list[int] = []
    rest: list[int] = []
    for slot in order:
        plan = plans[slot]
        if plan.group not in groups:
            groups.add(plan.group)
            first.append(slot)
        elif plan.place.code not in codes:
            codes.add(plan.place.code)
            second.append(slot)
        else:
            rest.append(slot)
    # The long-duration plans are few; a sample that fits at least two of each country keeps them all.
    if size >= 2 * (len(first) + len(second)):
        rest.sort(key=lambda slot: plans[slot].group != LONG)
    return [plans[slot] for slot in sorted((first + second + rest)[:size])]
