"""Which rows of the supplier become bundles, and why the others are set aside."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.domain.models import Bundle
from catalog_sync.supplier.esim_go.rows import validate_rows
from catalog_sync.supplier.port import QuarantineReason

ROW: dict[str, Any] = {
    "name": "esim_3GB_30D_PT_V2",
    "description": "eSIM, 3GB, 30 Days, Portugal, V2",
    "groups": ["Standard Fixed"],
    "countries": [{"name": "Portugal", "region": "Europe", "iso": "PT"}],
    "dataAmount": 3000,
    "duration": 30,
    "speed": ["3G", "4G"],
    "autostart": True,
    "unlimited": False,
    "price": Decimal("4.35"),
    "billingType": "FixedCost",
}


def bundle(**changes: Any) -> Bundle:
    result = validate_rows([{**ROW, **changes}])
    assert not result.rejected
    return result.bundles[0]


def test_a_row_becomes_a_normalised_bundle() -> None:
    assert bundle() == Bundle(
        name="esim_3GB_30D_PT_V2",
        description="eSIM, 3GB, 30 Days, Portugal, V2",
        groups=("Standard Fixed",),
        countries=("PT",),
        region="Europe",
        data_mb=3000,
        unlimited=False,
        duration_days=30,
        price="4.35",
        currency=None,
        speeds=("3G", "4G"),
    )


def test_name_duration_and_price_are_enough() -> None:
    result = validate_rows([{"name": "a", "duration": 1, "price": 1}])

    assert result.bundles == [Bundle("a", "", (), (), None, None, False, 1, "1", None, ())]


@pytest.mark.parametrize(
    ("sent", "price"),
    [("6.90", "6.90"), ("6.9", "6.9"), ('"6.90"', "6.90"), ("7", "7"), ('"7"', "7"), ("1e1", "10"), ("0.1", "0.1")],
)
def test_prices_are_kept_exactly_as_sent(sent: str, price: str) -> None:
    assert bundle(price=json.loads(sent, parse_float=Decimal)).price == price


@pytest.mark.parametrize(
    ("countries", "codes"),
    [
        ([{"iso": "CYP"}, {"iso": "US-HI"}], ("CYP", "US-HI")),
        (["pt", "ES"], ("PT", "ES")),
        ([{"iso": "PT"}, "PT", {"iso": "XK"}], ("PT", "XK")),
        ([], ()),
        (None, ()),
    ],
)
def test_country_codes_may_be_non_iso_and_come_as_objects_or_strings(countries: Any, codes: tuple[str, ...]) -> None:
    assert bundle(countries=countries).countries == codes


def test_the_region_is_the_most_frequent_one() -> None:
    countries = [{"iso": "TR", "region": "Asia"}, {"iso": "PT", "region": "Europe"}, {"iso": "ES", "region": "Europe"}]

    assert bundle(countries=countries).region == "Europe"


@pytest.mark.parametrize(
    ("fields", "data_mb", "unlimited"),
    [
        ({"dataAmount": -1}, None, True),
        ({"dataAmount": -1, "unlimited": False}, None, True),
        ({"dataAmount": 1000, "unlimited": True}, None, True),
        ({"dataAmount": 0}, 0, False),
        ({"dataAmount": None}, None, False),
    ],
)
def test_minus_one_and_the_flag_both_mean_unlimited(fields: Any, data_mb: int | None, *, unlimited: bool) -> None:
    result = bundle(**fields)

    assert (result.data_mb, result.unlimited) == (data_mb, unlimited)


@pytest.mark.parametrize(
    "unusual",
    [
        {"speed": None},
        {"billingType": "Something new"},
        {"allowances": "soon"},
        {"roamingEnabled": ["PT"]},
        {"groups": None},
    ],
)
def test_open_sets_and_unknown_fields_are_not_errors(unusual: dict[str, Any]) -> None:
    assert bundle(**unusual).name == ROW["name"]


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"price": "N/A"}, QuarantineReason.BAD_PRICE, "price"),
        ({"price": 0}, QuarantineReason.BAD_PRICE, "price"),
        ({"price": Decimal("-1.5")}, QuarantineReason.BAD_PRICE, "price"),
        ({"price": Decimal("NaN")}, QuarantineReason.BAD_PRICE, "price"),
        ({"price": "Infinity"}, QuarantineReason.BAD_PRICE, "price"),
        ({"price": Decimal("1e-9999999")}, QuarantineReason.BAD_PRICE, "price"),
        ({"price": Decimal("1e400")}, QuarantineReason.BAD_PRICE, "price"),
        ({"price": True}, QuarantineReason.BAD_PRICE, "price"),
        ({"price": None}, QuarantineReason.BAD_PRICE, "price"),
        ({"countries": [{"name": "?", "iso": "XX"}]}, QuarantineReason.BAD_COUNTRY, "countries"),
        ({"countries": ["ZZ"]}, QuarantineReason.BAD_COUNTRY, "countries"),
        ({"countries": [{"iso": "PT"}, {"region": "Europe"}]}, QuarantineReason.BAD_COUNTRY, "countries"),
        ({"countries": ["Portugal"]}, QuarantineReason.BAD_COUNTRY, "countries"),
        ({"duration": 0}, QuarantineReason.BAD_DURATION, "duration"),
        ({"duration": "a week"}, QuarantineReason.BAD_DURATION, "duration"),
        ({"duration": Decimal("1.5")}, QuarantineReason.BAD_DURATION, "duration"),
        ({"name": ""}, QuarantineReason.BAD_NAME, "name"),
        ({"name": 5}, QuarantineReason.BAD_NAME, "name"),
        ({"dataAmount": -2}, QuarantineReason.BAD_DATA_AMOUNT, "dataAmount"),
        ({"speed": 5}, QuarantineReason.BAD_TYPE, "speed"),
    ],
)
@pytest.mark.fault("F16")
def test_a_bad_row_is_set_aside_with_its_reason(changes: dict[str, Any], reason: QuarantineReason, field: str) -> None:
    result = validate_rows([{**ROW, **changes}, ROW])

    assert [(row.reason, row.field) for row in result.rejected] == [(reason, field)]
    assert [row.name for row in result.bundles] == [ROW["name"]]


@pytest.mark.parametrize("field", ["name", "duration", "price"])
def test_a_missing_required_field_is_told_before_a_bad_one(field: str) -> None:
    row = {**ROW, "speed": 5}
    del row[field]

    (rejected,) = validate_rows([row]).rejected

    assert (rejected.reason, rejected.field) == (QuarantineReason.MISSING_FIELD, field)
    assert rejected.name == row.get("name")


@pytest.mark.parametrize("row", [None, 5, "esim", [ROW]])
def test_a_row_that_is_not_an_object_is_set_aside(row: object) -> None:
    assert validate_rows([row]).rejected[0].reason is QuarantineReason.BAD_TYPE


@pytest.mark.fault("F15")
def test_a_field_that_all_rows_lack_was_renamed() -> None:
    renamed = [{("cost" if key == "price" else key): value for key, value in ROW.items()}] * 5

    assert validate_rows(renamed).lacking_everywhere() == "price"
    assert validate_rows([*renamed, ROW]).lacking_everywhere() is None
    assert validate_rows(renamed[:2]).lacking_everywhere() is None
    assert validate_rows([]).lacking_everywhere() is None


HALF = "caf\u00e9 \ud83d"
"""What a JavaScript ``substring`` leaves of an emoji."""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": HALF}, QuarantineReason.BAD_NAME),
        ({"name": "a\x00b"}, QuarantineReason.BAD_NAME),
        ({"name": ".."}, QuarantineReason.BAD_NAME),
        ({"name": " "}, QuarantineReason.BAD_NAME),
        ({"description": HALF}, QuarantineReason.BAD_TEXT),
        ({"currency": HALF}, QuarantineReason.BAD_TEXT),
        ({"groups": ["A", HALF]}, QuarantineReason.BAD_TEXT),
        ({"speed": [HALF]}, QuarantineReason.BAD_TEXT),
        ({"countries": [{"iso": "PT", "region": HALF}]}, QuarantineReason.BAD_TEXT),
        ({"countries": [{"iso": HALF}]}, QuarantineReason.BAD_COUNTRY),
        ({"countries": [HALF]}, QuarantineReason.BAD_COUNTRY),
        ({"price": "1_000"}, QuarantineReason.BAD_PRICE),
        ({"price": "\u0663"}, QuarantineReason.BAD_PRICE),
        ({"price": True}, QuarantineReason.BAD_PRICE),
        ({"duration": True}, QuarantineReason.BAD_DURATION),
        ({"dataAmount": False}, QuarantineReason.BAD_DATA_AMOUNT),
        ({"dataAmount": Decimal("NaN")}, QuarantineReason.BAD_DATA_AMOUNT),
    ],
)
def test_a_row_that_could_not_be_stored_or_shown_is_set_aside_alone(
    changes: dict[str, Any], reason: QuarantineReason
) -> None:
    result = validate_rows([ROW, {**ROW, "name": "bad", **changes}, {**ROW, "name": "c"}])

    assert [bundle.name for bundle in result.bundles] == [ROW["name"], "c"]
    (rejected,) = result.rejected
    assert rejected.reason is reason
    assert rejected.name is None or rejected.name.encode().isascii() or "caf\u00e9" in rejected.name


def test_the_name_of_a_field_that_nobody_reads_spoils_nothing() -> None:
    assert bundle(**{HALF: 1, "": 2, "\x00": {HALF: [HALF]}}).name == ROW["name"]
    assert bundle(countries=[{"iso": "PT", HALF: 1}]).countries == ("PT",)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**500), 10**500)
    | st.decimals(allow_nan=True, allow_infinity=True)
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=()), max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)
fields = st.sampled_from([*ROW, "currency", "iso", "", "\ud83d"])


@given(st.dictionaries(fields, json_values, max_size=6) | json_values)
def test_any_row_is_accepted_or_set_aside_and_its_neighbours_stand(odd: Any) -> None:
    row = {**ROW, "name": "odd", **odd} if isinstance(odd, dict) else odd
    result = validate_rows([ROW, row, {**ROW, "name": "last"}])

    assert [found.name for found in result.bundles][:: len(result.bundles) - 1] == [ROW["name"], "last"]
    assert len(result.bundles) + len(result.rejected) == 3
    for found in result.bundles:
        json.dumps(found.to_json(), ensure_ascii=False).encode()
    for rejected in result.rejected:
        assert (rejected.name or "").encode() is not None  # it can be encoded
