"""A catalogue from a JSON file, whose rows are kept as text."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from catalog_sync.domain.errors import ConfigurationError
from esim_go_simulator.catalogue import Facets

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


class RowCatalogue:
    """Bundles given as JSON text. They are served byte by byte as given, whatever they contain."""

    def __init__(self, rows: list[bytes]) -> None:
        self._rows = rows
        self._facets = [row_facets(json.loads(row)) for row in rows]
        self._by_name = {facets.name: index for index, facets in reversed(list(enumerate(self._facets)))}
        self._groups = tuple(dict.fromkeys(group for facets in self._facets for group in facets.groups))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of the rows, in the order of their first row."""
        return self._groups

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> bytes:
        return self._rows[index]

    def facets(self, index: int) -> Facets:
        return self._facets[index]

    def find(self, name: str) -> int | None:
        return self._by_name.get(name)

    def matching(self, accept: Callable[[Facets], bool], *, by_text: bool) -> array[int]:
        del by_text
        return array("I", (index for index, facets in enumerate(self._facets) if accept(facets)))


def read_catalogue(path: Path) -> RowCatalogue:
    """The catalogue in ``path``: an array of bundles, or an object with such an array under ``bundles``.

    Raises ``ConfigurationError`` if the file cannot be read or contains neither.
    """
    try:
        text = path.read_text("utf-8-sig")
        return RowCatalogue([row.encode() for row in array_items(text, "bundles")])
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} is not a catalogue: it needs a JSON array or an object with 'bundles': {error}"
        ) from error


def array_items(text: str, key: str) -> Iterator[str]:
    """The text of each item of the top-level array, or of the array under ``key`` of the top-level object.

    Raises ``ValueError`` if there is no such array or the text is not JSON.
    """
    at = _skip(text, 0)
    if text[at : at + 1] == "{":
        at = _find_key(text, at, key)
    if text[at : at + 1] != "[":
        raise ValueError(f"no array at position {at}")
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return
    while True:
        _, end = _DECODER.raw_decode(text, at)
        yield text[at:end]
        at = _skip(text, end)
        if text[at : at + 1] == "]":
            return
        if text[at : at + 1] != ",":
            raise ValueError(f"no comma at position {at}")
        at = _skip(text, at + 1)


def _find_key(text: str, at: int, key: str) -> int:
    """The position of the value of ``key`` in the object that starts at ``at``."""
    at = _skip(text, at + 1)
    while text[at : at + 1] == '"':
        name, end = _DECODER.raw_decode(text, at)
        at = _skip(text, end)
        if text[at : at + 1] != ":":
            raise ValueError(f"no colon at position {at}")
        at = _skip(text, at + 1)
        if name == key:
            return at
        _, end = _DECODER.raw_decode(text, at)
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
    raise ValueError(f"no {key!r} in the object")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def row_facets(data: Any) -> Facets:
    """The filter properties of a row; whatever is missing or invalid counts as empty."""
    row: dict[str, Any] = data if isinstance(data, dict) else {}
    places = [place for place in _items(row.get("countries")) if isinstance(place, dict)]
    return Facets(
        name=_text(row.get("name")),
        description=_text(row.get("description")),
        groups=tuple(group for group in _items(row.get("groups")) if isinstance(group, str)),
        countries=tuple(_text(place.get("iso")) for place in places),
        regions=frozenset(_text(place.get("region")) for place in places),
        data_mb=_number(row.get("dataAmount")),
        days=_number(row.get("duration")),
        price=_number(row.get("price")),
        autostart=row.get("autostart") is True,
        unlimited=row.get("unlimited") is True,
    )


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
