"""A value in a table is never cropped, however narrow the terminal."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from catalog_sync.cli import run, status
from catalog_sync.cli.read import _columns, _print_bundle
from catalog_sync.cli.tables import GAP, Column, fit, print_table
from catalog_sync.domain.models import Bundle, ErrorInfo, GroupReport, Outcome
from catalog_sync.store.reader import BundleResult
from catalog_sync.terminal import output
from support.sync_reports import report


def bundle(name: str = "esim_100GB_180D_RGBL_V2", price: str = "223.91", **changes: object) -> Bundle:
    values: dict[str, object] = {
        "description": "eSIM, 100GB, 180 Days, Global - Light, V2",
        "groups": ("Standard - Long Duration Bundle",),
        "countries": ("AL", "AU", "AT", "US-HI", "CYP", "DE", "FR", "PT"),
        "region": "Europe",
        "data_mb": 100_000,
        "unlimited": False,
        "duration_days": 180,
        "currency": None,
        "speeds": ("4G",),
        **changes,
    }
    return Bundle(name=name, price=price, **values)  # type: ignore[arg-type]


ODD = [
    bundle(),
    bundle("esim_UL_30D_RGB_V2", "124.4", currency="USD", unlimited=True, data_mb=None),
    bundle("プラン_" * 9, "1234567.123456789012", groups=("世界 - データ" * 3,), countries=()),
    bundle("e" * 200, "0.1", data_mb=999_999_999_999, duration_days=36_500),
    bundle("👩‍👩‍👧‍👦 family", "6.90", description="", countries=("PT",)),
]


def printed(columns: list[Column], width: int) -> str:
    file = io.StringIO()
    print_table(Console(file=file, width=width, highlight=False, emoji=False), columns)
    return file.getvalue()


@pytest.mark.fault("U1")
@pytest.mark.parametrize("width", [10, 20, 25, 40, 60, 79, 80, 81, 100, 200])
def test_no_value_of_a_search_is_cropped(width: int) -> None:
    text = printed(_columns(ODD), width)

    assert max(map(cell_len, text.splitlines())) <= width
    shown = Counter("".join(text.split()))
    for each in ODD:
        assert Counter(each.name.replace(" ", "")) <= shown
    if width >= 60:  # numbers stand whole, on one line
        for number in ("223.91", "124.4 USD", "1234567.123456789012", "100 GB", "180", "1e+09 GB", "36500"):
            assert any(f"{number}" in line for line in text.splitlines()), number


@pytest.mark.fault("U1")
def test_at_60_columns_name_and_price_stand_on_one_line_and_what_is_left_out_is_named() -> None:
    text = printed(_columns(ODD[:2]), 60)
    assert "esim_100GB_180D_RGBL_V2" in text
    assert "223.91" in text
    assert "not shown for lack of width" in text
    assert "group" in text.splitlines()[-1]


def test_where_there_is_room_nothing_is_left_out() -> None:
    text = printed(_columns(ODD[:2]), 140)
    assert "Standard - Long Duration Bundle" in text
    assert "not shown" not in text


def test_what_a_terminal_must_not_get_is_escaped() -> None:
    text = printed(_columns([bundle("a\u202eb", groups=("\x1b]0;title\x07",))]), 120)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b]0;title\\x07" in text


texts = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=60)
columns = st.lists(
    st.builds(
        lambda title, values, narrowest, optional: Column(title, values, narrowest, optional),
        st.sampled_from(["name", "group", "price"]),
        st.lists(texts, min_size=2, max_size=2),
        st.none() | st.integers(1, 20),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(columns, st.integers(1, 200))
def test_columns_fit_and_each_has_what_it_needs(columns: list[Column], width: int) -> None:
    widths = fit(columns, width)
    if widths:
        assert sum(widths.values()) + GAP * (len(widths) - 1) <= width
        assert all(widths[column] >= column.least() for column in widths)
        assert all(widths[column] == column.width() for column in widths if column.narrowest is None)
        assert [column for column in columns if not column.optional] == [c for c in widths if not c.optional]
    elif not all(column.optional for column in columns):
        assert sum(c.least() for c in columns if not c.optional) > width - GAP * len(columns)


@pytest.mark.fault("U1")
@pytest.mark.parametrize("width", [20, 40, 60])
def test_facts_about_a_bundle_are_not_cropped(width: int, terminal: Terminal) -> None:
    terminal.set_width(width)
    for each in ODD:
        _print_bundle(BundleResult("fresh", "2026-11-24T02:00:00Z", stale=False, version="v" * 80, bundle=each))
        shown = Counter("".join(terminal.text().split()))
        assert Counter("".join(each.name.split())) <= shown
        assert Counter("v" * 80) <= shown


@pytest.mark.fault("U1")
def test_every_table_of_every_command_wraps_what_is_too_wide(terminal: Terminal) -> None:
    """Also one whose columns were told not to wrap, which rich would cut."""
    terminal.set_width(30)
    table = Table()
    table.add_column("error.type", no_wrap=True)
    table.add_column("price", no_wrap=True, justify="right")
    table.add_row("certificate_verify_failed_for_good", "123456789.123456789")
    output.console().print(table)
    text = terminal.text()
    assert Counter("certificate_verify_failed_for_good" + "123456789.123456789") <= Counter("".join(text.split()))
    assert "…" not in text


@pytest.mark.fault("U1")
def test_status_wraps_identifiers(terminal: Terminal) -> None:
    terminal.set_width(40)
    identifier = "0123456789abcdef" * 3
    sync = {"outcome": "COMPLETE", "kind": "full", "started_at": "then", "duration_s": 1.0}
    data: dict[str, Any] = {
        "catalogue": None,
        "store": {"reachable": True, "backend": "redis", "error": None},
        "last_sync": {**sync, "correlation_id": identifier},
        "lock": {"state": "free", "holder": None},
        "jobs": None,
        "breakers": [],
        "budgets": [],
        "alerts": {"incidents": [], "channels": ["log"], "outbox": [], "dead_letters": []},
    }
    status._print(data)
    assert identifier in "".join(terminal.text().split())


class Terminal:
    """Output for people, at a chosen width."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def set_width(self, width: int) -> None:
        self._monkeypatch.setattr(output, "PLAIN_WIDTH", width)

    def text(self) -> str:
        """What was printed since the last call."""
        return self._capsys.readouterr().out


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(capsys, monkeypatch)


@pytest.mark.fault("U1")
def test_a_dumb_terminal_has_its_own_width_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "43")
    assert output.console(Terminal()).width == 43
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((61, 24)))
    assert output.console(Terminal()).width == 61


@pytest.mark.fault("U1")
@pytest.mark.parametrize("width", [45, 60, 80, 200])
def test_the_summary_of_a_run_wraps_at_words_and_leaves_its_command_whole(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("shutil.which", lambda name: name)
    error = ErrorInfo("503", "transient", "MEDIUM", "the supplier answered 503: Service unavailable", None, "ab" * 16)
    group = GroupReport("Standard - Unlimited Essential", "failed", 1_255, error)
    found = report(Outcome.FAILED, groups=(group,), version="20261128T200508-1795896308946913-cf3ffb97")
    found = dataclasses.replace(found, error=error)
    shown, plain = Terminal(), "\n".join(run.summary(found))
    run._print_summary(shown, found)
    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    assert f"  look closer     catalog-sync trace {'ab' * 16}" in lines
    assert max(cell_len(line) for line in lines if "look closer" not in line) <= width
    assert "".join(shown.getvalue().split()) == "".join(plain.split())
    if width >= 60:
        words = shown.getvalue().split()
        assert {"Essential:", "(transient,", "unavailable", found.version} <= set(words)
