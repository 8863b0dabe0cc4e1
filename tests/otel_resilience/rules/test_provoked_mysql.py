"""PyMySQL against a real MariaDB. mysqlclient has the same error numbers; it is under the GPL and not installed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from otel_resilience.classification.rules import clients
from support.error_rows import ErrorRow, check_row, closed_port, raised, rows_of
from support.mariadb_server import MariaServer, mariadb_server

STATEMENTS = {
    "unique violation": "INSERT INTO stock VALUES (1, 1)",
    "check violation": "INSERT INTO stock VALUES (3, -1)",
    "not-null violation": "INSERT INTO stock VALUES (3, NULL)",
    "lock wait timeout": "SELECT * FROM locked WHERE id = 1 FOR UPDATE WAIT 0",
    "statement timeout": "SET STATEMENT max_statement_time = 0.01 FOR SELECT SLEEP(60)",
    "read-only, as on a replica": "INSERT INTO stock VALUES (3, 1)",
    "syntax error": "SELEC 1",
    "unknown table": "SELECT * FROM nowhere",
    "wrong type": "INSERT INTO stock VALUES ('many', 1)",
    "connection killed": "KILL CONNECTION_ID()",
}


@pytest.fixture(scope="module")
def server() -> Iterator[MariaServer]:
    with mariadb_server() as started, started.connect(autocommit=True) as holder, holder.cursor() as cursor:
        cursor.execute("CREATE TABLE stock (id int PRIMARY KEY, amount int NOT NULL CHECK (amount > 0)) ENGINE=InnoDB")
        cursor.execute("CREATE TABLE locked (id int PRIMARY KEY) ENGINE=InnoDB")
        cursor.execute("CREATE TABLE changes (id int) ENGINE=InnoDB")
        cursor.execute("INSERT INTO stock VALUES (1, 1), (2, 2)")
        cursor.execute("INSERT INTO locked VALUES (1)")
        cursor.execute("CREATE USER reader IDENTIFIED BY 'reader'")
        cursor.execute("GRANT SELECT, INSERT ON shop.* TO reader")
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM locked FOR UPDATE")
        yield started


def provoke(server: MariaServer, row: ErrorRow) -> Exception:
    if row.error == "connection refused":
        with closed_port() as port:
            return raised(lambda: server.connect(port=port))
    refused: dict[str, dict[str, Any]] = {
        "bad password": {"password": "wrong"},
        "unknown database": {"database": "nowhere"},
        "unknown host": {"host": "no-such-host.invalid"},
        "no right to the database": {"user": "reader", "password": "reader", "database": "mysql"},
    }
    if row.error in refused:
        return raised(lambda: server.connect(**refused[row.error]))
    if row.error == "too many connections":
        with contextlib.ExitStack() as held:
            return raised(lambda: [held.enter_context(server.connect()) for _ in range(12)])
    if row.error == "deadlock":
        return deadlock(server)
    if row.error == "read timeout":
        connection = server.connect(read_timeout=1)
        return raised(lambda: connection.cursor().execute("SELECT SLEEP(60)"))
    account = {"user": "reader", "password": "reader"} if row.error.startswith("read-only") else {}
    connection = server.connect(**account)
    with contextlib.closing(connection.cursor()) as cursor:
        if row.error.startswith("read-only"):
            with read_only(server):
                return raised(lambda: cursor.execute(STATEMENTS[row.error]))
        if row.error == "connection was closed before":
            connection.close()
        if row.error == "connection lost":
            raised(lambda: cursor.execute("KILL CONNECTION_ID()"))
        caught = raised(lambda: cursor.execute(STATEMENTS.get(row.error, "SELECT 1")))
    if connection.open:
        connection.close()
    return caught


@contextlib.contextmanager
def read_only(server: MariaServer) -> Iterator[None]:
    with server.connect() as admin, admin.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = 1")
        yield
        cursor.execute("SET GLOBAL read_only = 0")


def deadlock(server: MariaServer) -> Exception:
    """Two transactions, whichever waits first; InnoDB ends the one that has changed less."""
    with server.connect() as first, server.connect() as second:
        one, two = first.cursor(), second.cursor()
        one.execute("UPDATE stock SET amount = amount + 1 WHERE id = 1")
        one.execute("INSERT INTO changes VALUES (7), (8), (9)")
        two.execute("UPDATE stock SET amount = amount + 1 WHERE id = 2")
        waiting = threading.Thread(target=one.execute, args=("UPDATE stock SET amount = 9 WHERE id = 2",))
        waiting.start()
        caught = raised(lambda: two.execute("UPDATE stock SET amount = 9 WHERE id = 1"))
        waiting.join()
        first.rollback()
        return caught


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("PyMySQL"))
def test_pymysql(row: ErrorRow, server: MariaServer) -> None:
    check_row(row, provoke(server, row))


def test_mysqlclient_is_judged_by_the_same_rules() -> None:
    assert clients.rule_for("MySQLdb") is clients.rule_for("pymysql")
