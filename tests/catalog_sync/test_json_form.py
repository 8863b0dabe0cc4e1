"""The text of a record is the compact JSON of its object, whatever it contains."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.domain.models import Bundle
from support.published import make_bundle

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, st.lists(TEXTS), st.lists(TEXTS), st.none() | TEXTS, st.booleans())
def test_a_bundle_has_one_text(
    description: str, groups: list[str], countries: list[str], region: str | None, stale: bool
) -> None:
    bundle = make_bundle(
        "esim_1GB_7D_PT_V2",
        description=description,
        groups=tuple(groups),
        countries=tuple(countries),
        region=region,
        stale=stale,
    )
    text = bundle.to_json_text()
    assert text == json.dumps(bundle.to_json(), ensure_ascii=False, separators=(",", ":")).encode()
    assert Bundle.from_json_text(text) == bundle
