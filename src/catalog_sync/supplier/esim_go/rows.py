"""Rows of the eSIM Go catalogue: their validation, and their conversion to bundles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from catalog_sync.domain.models import Bundle
from catalog_sync.domain.text import is_encodable, printable
from catalog_sync.supplier.port import QuarantineReason, Rejected

UNLIMITED: Final = -1
"""``dataAmount`` of an unlimited plan."""

NOT_COUNTRIES: Final = frozenset({"XX", "ZZ"})
"""Codes that ISO 3166 reserves for "unknown"."""

MAX_NAME: Final = 512
"""Maximum characters of the name of a bundle or a group."""

MIN_ROWS_FOR_SCHEMA_MISMATCH: Final = 3
"""Fewer rows that all lack the same field are bad rows, not a changed contract."""

_PLAIN: Final = re.compile(r"\s*[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?\s*", re.ASCII)


def _usable_name(name: str) -> str:
    if not name.strip() or name in {".", ".."}:
        raise ValueError("cannot be a part of an address")
    return name


def _encodable(text: str) -> str:
    if not is_encodable(text):
        raise PydanticCustomError(QuarantineReason.BAD_TEXT.value, "cannot be encoded")
    return text


def _plain_number(value: object) -> object:
    """Rejects what only Python accepts as a number: ``true``, ``"1_000"``, digits of other scripts."""
    if isinstance(value, bool) or (isinstance(value, str) and not _PLAIN.fullmatch(value)):
        raise ValueError("is not a number")
    return value


_CountryCode = Annotated[
    str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,3})?$")
]
_Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f]*$"),
    AfterValidator(_usable_name),
]
_Text = Annotated[str, AfterValidator(_encodable)]
_Number = BeforeValidator(_plain_number)


class CountryRow(BaseModel):
    """A country of a bundle."""

    iso: _CountryCode
    region: _Text | None = None


class BundleRow(BaseModel):
    """A bundle as the supplier sends it. Unknown fields and their names are ignored; unknown values of open sets are
    accepted."""

    name: _Name
    duration: Annotated[int, _Number] = Field(ge=1, le=36_500)
    price: Annotated[Decimal, _Number] = Field(gt=0, lt=10**9, decimal_places=12, allow_inf_nan=False)
    description: _Text | None = None
    groups: list[_Text] | None = None
    countries: list[CountryRow | _CountryCode] | None = None
    dataAmount: Annotated[int, _Number] | None = Field(  # noqa: N815  the supplier's spelling
        default=None, ge=UNLIMITED, lt=10**12
    )
    unlimited: bool | None = None
    speed: list[_Text] | None = None
    currency: _Text | None = None


class ValidatedRows(NamedTuple):
    """The rows of one page, sorted into good and bad."""

    bundles: list[Bundle]
    rejected: list[Rejected]

    def lacking_everywhere(self) -> str | None:
        """The required field that all rows of this page lack because the supplier renamed it. ``None``: none."""
        fields = {row.field for row in self.rejected if row.reason is QuarantineReason.MISSING_FIELD}
        if self.bundles or len(self.rejected) < MIN_ROWS_FOR_SCHEMA_MISMATCH or len(fields) != 1:
            return None
        if any(row.reason is not QuarantineReason.MISSING_FIELD for row in self.rejected):
            return None
        return fields.pop()


_PAGE: Final = TypeAdapter(list[BundleRow])
_FIELDS: Final = frozenset(BundleRow.model_fields)

_REASONS: Final[Mapping[str, QuarantineReason]] = {
    "name": QuarantineReason.BAD_NAME,
    "duration": QuarantineReason.BAD_DURATION,
    "price": QuarantineReason.BAD_PRICE,
    "countries": QuarantineReason.BAD_COUNTRY,
    "dataAmount": QuarantineReason.BAD_DATA_AMOUNT,
}


def validate_rows(rows: Sequence[object]) -> ValidatedRows:
    """Validates the rows of one page separately: a bad row does not affect good ones."""
    result = ValidatedRows([], [])
    rows = [_known_fields(row) for row in rows]
    try:
        valid = _PAGE.validate_python(rows)
    except ValidationError:
        for row in rows:
            try:
                _sort_in(BundleRow.model_validate(row), result)
            except ValidationError as error:
                result.rejected.append(_rejection(row, error))
    else:
        for row in valid:
            _sort_in(row, result)
    return result


def _known_fields(row: object) -> object:
    """The row with only the fields that are read, whatever the others contain."""
    return {name: row[name] for name in _FIELDS if name in row} if isinstance(row, Mapping) else row


def _sort_in(row: BundleRow, result: ValidatedRows) -> None:
    regions: dict[str, int] = {}
    codes: dict[str, None] = {}
    for country in row.countries or ():
        if isinstance(country, str):
            codes[country] = None
        else:
            codes[country.iso] = None
            if country.region:
                regions[country.region] = regions.get(country.region, 0) + 1
    if not NOT_COUNTRIES.isdisjoint(codes):
        result.rejected.append(Rejected(row.name, QuarantineReason.BAD_COUNTRY, "countries"))
        return
    unlimited = row.dataAmount == UNLIMITED or bool(row.unlimited)
    result.bundles.append(
        Bundle(
            name=row.name,
            description=row.description or "",
            groups=tuple(dict.fromkeys(row.groups or ())),
            countries=tuple(codes),
            region=max(regions, key=regions.__getitem__) if regions else None,
            data_mb=None if unlimited else row.dataAmount,
            unlimited=unlimited,
            duration_days=row.duration,
            price=f"{row.price:f}",
            currency=row.currency,
            speeds=tuple(row.speed or ()),
        )
    )


def _rejection(row: object, error: ValidationError) -> Rejected:
    """One reason per row: a missing required field before a bad one, then in the order of the fields."""
    if not isinstance(row, Mapping):
        return Rejected(None, QuarantineReason.BAD_TYPE, None)
    errors: list[Any] = error.errors(include_url=False, include_context=False, include_input=False)
    first = next((entry for entry in errors if entry["type"] == "missing" and len(entry["loc"]) == 1), errors[0])
    field = str(first["loc"][0])
    name = row.get("name")
    if first["type"] == "missing" and len(first["loc"]) == 1:
        reason = QuarantineReason.MISSING_FIELD
    elif first["type"] == QuarantineReason.BAD_TEXT.value:
        reason = QuarantineReason.BAD_TEXT
    else:
        reason = _REASONS.get(field, QuarantineReason.BAD_TYPE)
    return Rejected(printable(name, limit=MAX_NAME) if isinstance(name, str) else None, reason, field)
