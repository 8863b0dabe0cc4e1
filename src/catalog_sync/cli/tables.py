"""Tables that fit the terminal: a value is wrapped, or its column is left out and named, but never truncated."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.text import printable
from catalog_sync.terminal.output import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

GAP: Final = 3
"""Terminal columns between two table columns."""

COMFORTABLE: Final = 32
"""Terminal columns that are enough for a required column, however long its values are."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A column of a table and its values."""

    title: str
    values: Sequence[str]
    narrowest: int | None = None
    """Terminal columns below which wrapped values are hard to read; ``None``: values are not wrapped."""
    optional: bool = False
    """Left out if the table is too wide; the last optional column goes first."""

    def width(self) -> int:
        """The width of its longest value; wide characters count twice."""
        from rich.cells import cell_len

        return max(map(cell_len, (self.title, *self.values)))

    def least(self) -> int:
        """Its minimum width."""
        return self.width() if self.narrowest is None else min(self.narrowest, self.width())

    def comfortable(self) -> int:
        """The width that it gets before optional columns get anything."""
        return self.least() if self.narrowest is None or self.optional else min(self.width(), COMFORTABLE)


def fit(columns: Sequence[Column], width: int) -> dict[Column, int]:
    """The columns that fit into ``width`` with their widths; empty if not even the required ones fit."""
    shown = list(columns)
    while any(column.optional for column in shown) and _total(shown, Column.comfortable) > width:
        shown.remove([column for column in shown if column.optional][-1])
    spare = width - _total(shown, Column.least)
    if spare < 0:
        return {}
    widths = {}
    for column in shown:
        more = min(spare, column.width() - column.least())
        widths[column] = column.least() + more
        spare -= more
    return widths


def _total(columns: Sequence[Column], of: Callable[[Column], int]) -> int:
    return sum(map(of, columns)) + GAP * (len(columns) - 1)


def print_table(out: Console, columns: Sequence[Column]) -> None:
    """Prints the rows as a table, or, if that would be too wide, each row as a block of lines."""
    from rich.text import Text

    columns = [dataclasses.replace(column, values=tuple(map(printable, column.values))) for column in columns]
    widths = fit(columns, out.width)
    if not widths:
        for line in _blocks(columns):
            out.print(line)
        return
    out.print(_table(widths))
    missing = [column.title for column in columns if column not in widths]
    if missing:
        out.print(Text(f"not shown for lack of width: {', '.join(missing)}", style="dim"))


def _table(widths: dict[Column, int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column, width in widths.items():
        right = column.narrowest is None
        table.add_column(column.title, width=width, justify="right" if right else "left", overflow="fold")
    for row in zip(*(column.values for column in widths), strict=True):
        table.add_row(*map(folded, row))
    return table


def _blocks(columns: Sequence[Column]) -> Iterator[Text]:
    for row in zip(*(column.values for column in columns), strict=True):
        for column, value in zip(columns, row, strict=True):
            yield folded(f"{column.title}: {value}")
        yield folded("")


def print_sections(sections: Mapping[str, Iterable[str]]) -> None:
    """Prints lines on stdout, with the name of each section next to its first line."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, lines in sections.items():
        for number, line in enumerate(lines):
            table.add_row(Text(name if number == 0 else "", style="bold"), folded(line))
    console(sys.stdout).print(table)


def folded(text: str, style: str = "") -> Text:
    """A value for a person: characters that are unsafe for terminals are escaped, and long text is wrapped."""
    from rich.text import Text

    return Text(printable(text), style=style, overflow="fold")
