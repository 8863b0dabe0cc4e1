"""The JSON form of plain records: their fields by name, written and read by pydantic."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

_adapters: dict[type[object], TypeAdapter[Any]] = {}


class JsonForm:
    """Base of dataclasses that are stored, sent or printed as a JSON object."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """The object, made only of JSON's own types."""
        form: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json", by_alias=True)
        return form

    def to_json_text(self) -> bytes:
        """The text of the object, in UTF-8 and without spaces."""
        return _adapter(type(self)).dump_json(self, by_alias=True)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """The inverse of :meth:`to_json`. Raises ``ValueError`` on anything else, without showing it."""
        try:
            text = json.dumps(data).encode()
        except (TypeError, RecursionError) as error:
            raise ValueError(f"no {cls.__name__}: it is not JSON") from error
        return cls.from_json_text(text)

    @classmethod
    def from_json_text(cls, text: bytes) -> Self:
        """Like :meth:`from_json`, from JSON text. Strict: a string is not a number, nor a number a boolean."""
        try:
            record: Self = _adapter(cls).validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "it"
            raise ValueError(f"no {cls.__name__}: {place}: {first['msg']}") from None  # the cause quotes what was read
        return record


def _adapter(kind: type[object]) -> TypeAdapter[Any]:
    """Created when first needed, since that takes milliseconds."""
    found = _adapters.get(kind)
    if found is None:
        found = _adapters[kind] = TypeAdapter(kind)
    return found
