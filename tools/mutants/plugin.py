"""A plugin of pytest that finds mutants sooner: quick tests first, and no failing example is made smaller."""

from __future__ import annotations

import pytest
from hypothesis import Phase, is_hypothesis_test, settings


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Replaces the profile that ``tests/conftest.py`` has loaded by one that stops at the first failing example.

    To look for a smaller one takes up to five minutes, and nobody reads it.
    """
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", settings(), phases=phases, report_multiple_bugs=False)
    settings.load_profile("mutants")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of many examples run last: most mutants are found by one of the others."""
    items.sort(key=lambda item: is_hypothesis_test(getattr(item, "obj", None)))
