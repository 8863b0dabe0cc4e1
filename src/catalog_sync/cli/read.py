"""``catalog-sync search`` and ``catalog-sync show``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TypeVar

from catalog_sync import composition as app
from catalog_sync import exit_codes
from catalog_sync.cli.tables import Column, folded, print_table
from catalog_sync.domain.freshness import from_future
from catalog_sync.terminal.output import console

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from catalog_sync.domain.models import Bundle
    from catalog_sync.store.reader import BundleResult, CatalogReader, Query, SearchResult
    from catalog_sync.terminal.output import CommandOutput
    from catalog_sync.terminal.signals import StopSignals

T = TypeVar("T")

_SHOWN_COUNTRIES = 6


def search(query: Query, output: CommandOutput, signals: StopSignals) -> int:
    """List bundles. Raises ``CatalogUnavailableError`` if there is nothing to read."""
    found, doubt = _read(signals, lambda reader: _search(reader, query))
    output.result(found.to_json(), lambda: _print_bundles(found, query.offset))
    if doubt is not None:
        output.complain(doubt)
    return exit_codes.OK


async def _search(reader: CatalogReader, query: Query) -> tuple[SearchResult, str | None]:
    """What was found; if nothing, whether such a group or country can exist at all."""
    found = await reader.search(query)
    if found.total:
        return found, None
    from catalog_sync.sync.scopes import doubtful

    return found, doubtful(query.group, query.country, await reader.groups())


def show(name: str, output: CommandOutput, signals: StopSignals) -> int:
    """Show one bundle. Raises ``BundleNotFoundError`` or ``CatalogUnavailableError``."""
    found = _read(signals, lambda reader: reader.show(name))
    output.result(found.to_json(), lambda: _print_bundle(found))
    return exit_codes.OK


def _read(signals: StopSignals, ask: Callable[[CatalogReader], Awaitable[T]]) -> T:
    settings = app.read_settings()

    async def main() -> T:
        async with app.open_reader(settings) as reader:
            return await ask(reader)

    with app.observed(quiet=True):
        return signals.run(main)


def origin(source: str, as_of: str, version: str) -> str:
    """Where an answer comes from, for a person."""
    words = {
        "fresh": "from the store",
        "stale": "from the store, STALE",
        "snapshot": "from the SNAPSHOT on disk: the store cannot be read",
    }
    future = " IN THE FUTURE (a clock is or was wrong)" if from_future(as_of, time.time()) else ""
    return f"{words.get(source, source)} · as of {as_of}{future} · version {version}"


def data_amount(bundle: Bundle) -> str:
    """How much data, for a person."""
    if bundle.unlimited:
        return "unlimited"
    if bundle.data_mb is None:
        return "?"
    return f"{bundle.data_mb / 1000:g} GB" if bundle.data_mb >= 1000 else f"{bundle.data_mb} MB"


def price(bundle: Bundle) -> str:
    """Price and currency, as far as known."""
    return f"{bundle.price} {bundle.currency}" if bundle.currency else bundle.price


def _print_bundles(found: SearchResult, offset: int) -> None:
    out = console(sys.stdout)
    if found.bundles:
        print_table(out, _columns(found.bundles))
    shown = (
        f"{offset + 1:,} to {offset + len(found.bundles):,} of {found.total:,}"
        if found.bundles
        else f"none of {found.total:,}"
    )
    out.print(folded(f"{shown} bundles · {origin(found.source, found.as_of, found.version)}"))


def _columns(bundles: Sequence[Bundle]) -> list[Column]:
    return [
        Column("name", [bundle.name + (" (stale)" if bundle.stale else "") for bundle in bundles], narrowest=16),
        Column("countries", [_countries(bundle) for bundle in bundles], narrowest=12, optional=True),
        Column("group", [", ".join(bundle.groups) for bundle in bundles], narrowest=12, optional=True),
        Column("data", [data_amount(bundle) for bundle in bundles]),
        Column("days", [str(bundle.duration_days) for bundle in bundles]),
        Column("price", [price(bundle) for bundle in bundles]),
    ]


def _countries(bundle: Bundle) -> str:
    codes = bundle.countries
    if len(codes) <= _SHOWN_COUNTRIES:
        return " ".join(codes)
    return f"{' '.join(codes[:_SHOWN_COUNTRIES])} and {len(codes) - _SHOWN_COUNTRIES} more"


def _print_bundle(found: BundleResult) -> None:
    from rich.table import Table

    bundle = found.bundle
    table = Table.grid(padding=(0, 2))
    rows = {
        "name": bundle.name,
        "description": bundle.description,
        "groups": ", ".join(bundle.groups),
        "countries": " ".join(bundle.countries),
        "region": bundle.region or "?",
        "data": data_amount(bundle),
        "duration": f"{bundle.duration_days} days",
        "price": price(bundle),
        "speeds": ", ".join(bundle.speeds) or "?",
    }
    for name, value in rows.items():
        table.add_row(folded(name, "dim"), folded(value))
    out = console(sys.stdout)
    out.print(table)
    stale = "kept from an earlier version · " if bundle.stale else ""
    out.print(folded(stale + origin(found.source, found.as_of, found.version)))
