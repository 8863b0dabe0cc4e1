"""``sqlite3``, alone and under SQLAlchemy."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from support.error_rows import ErrorRow, check_row, raised, rows_of

STATEMENTS = {
    "database is locked": "INSERT INTO stock VALUES (3, 1)",
    "unique violation": "INSERT INTO stock VALUES (1, 1)",
    "check violation": "INSERT INTO stock VALUES (3, -1)",
    "not-null violation": "INSERT INTO stock VALUES (3, NULL)",
    "syntax error": "SELEC 1",
    "unknown table": "SELECT * FROM nowhere",
    "wrong number of parameters": "SELECT ?",
}


def provoke(path: Path, row: ErrorRow) -> Exception:
    if row.error == "cannot be opened":
        return raised(lambda: sqlite3.connect(path / "nowhere" / "file"))
    file = path / "stock.db"
    with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE stock (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL CHECK (amount > 0))")
        connection.execute("INSERT INTO stock VALUES (1, 1)")
        if row.error == "read-only":
            connection.execute("PRAGMA query_only = 1")
            return raised(lambda: connection.execute("INSERT INTO stock VALUES (3, 1)"))
        if row.error == "database is full":
            connection.execute("PRAGMA max_page_count = 2")
            return raised(lambda: connection.execute("CREATE TABLE more (id)"))
        if row.error == "interrupted":
            connection.set_progress_handler(lambda: 1, 1)
            return raised(lambda: connection.execute("SELECT count(*) FROM stock a, stock b"))
        if row.error == "database is locked":
            with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                return raised(lambda: connection.execute(STATEMENTS[row.error]))
        if row.error == "connection was closed before":
            connection.close()
        if row.error == "damaged file":
            connection.close()
            file.write_bytes(b"this is no database" * 1000)
            with contextlib.closing(sqlite3.connect(file)) as damaged:
                return raised(lambda: damaged.execute("SELECT * FROM stock"))
        return raised(lambda: connection.execute(STATEMENTS.get(row.error, "SELECT 1")))


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("sqlite3"))
def test_sqlite(row: ErrorRow, tmp_path: Path) -> None:
    check_row(row, provoke(tmp_path, row))


def test_locked_under_sqlalchemy(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/stock.db", connect_args={"timeout": 0})
    with engine.connect() as connection, contextlib.closing(sqlite3.connect(tmp_path / "stock.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        error = raised(lambda: connection.execute(sqlalchemy.text("CREATE TABLE more (id INTEGER)")))
    engine.dispose()
    (locked,) = (each.values[0] for each in rows_of("sqlite3") if each.values[0].error == "database is locked")
    check_row(locked, error)
