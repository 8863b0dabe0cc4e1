"""psycopg 3 and 2, asyncpg, and SQLAlchemy on top of them: errors provoked with a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import psycopg2
import psycopg2.pool
import psycopg_pool
import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio

from otel_resilience import BreakerState, CircuitBreakerConfig, Policy, RetryConfig, classify, error_context
from support.error_rows import ErrorRow, check_row, closed_port, raised, raised_async, rows_of, silent_port
from support.postgres_server import PASSWORD, PostgresServer, postgres_server

STATEMENTS = {
    "unique violation": "INSERT INTO stock VALUES (1, 1)",
    "check violation": "INSERT INTO stock VALUES (3, -1)",
    "not-null violation": "INSERT INTO stock VALUES (3, NULL)",
    "division by zero": "SELECT 1/0",
    "syntax error": "SELEC 1",
    "unknown table": "SELECT * FROM nowhere",
    "insufficient privilege": "SET ROLE nobody_special; SELECT * FROM stock",
    "statement timeout": "SET statement_timeout = 1; SELECT pg_sleep(60)",
    "lock not available": "SELECT * FROM locked FOR UPDATE NOWAIT",
    "read-only, as on a replica": "SET TRANSACTION READ ONLY; INSERT INTO stock VALUES (3, 1)",
    "server shuts down": "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(1)",
}
TABLES = """
    CREATE TABLE stock (id int PRIMARY KEY, amount int NOT NULL CHECK (amount > 0));
    CREATE TABLE locked (id int PRIMARY KEY);
    CREATE ROLE nobody_special;
    INSERT INTO stock VALUES (1, 1), (2, 2);
    INSERT INTO locked VALUES (1);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as started, psycopg.connect(started.url, autocommit=True) as holder:
        holder.execute(TABLES)
        holder.execute("BEGIN; SELECT * FROM locked FOR UPDATE")
        yield started


@pytest.fixture
def stopping() -> Iterator[PostgresServer]:
    """A server that goes on for those that are connected and lets nobody else in."""
    with postgres_server() as started, psycopg.connect(started.url):
        started.shut_down_when_idle()
        until_it_refuses(started)
        yield started


def until_it_refuses(server: PostgresServer) -> None:
    while True:
        try:
            psycopg.connect(server.url).close()
        except psycopg.OperationalError:
            return


def statement_of(row: ErrorRow) -> str | None:
    return STATEMENTS.get(row.error)


def blocking(connect: Callable[[str], Any], server: PostgresServer, row: ErrorRow) -> Exception:
    """A fault of the table, to a driver of PEP 249."""
    port_of = {"connection refused": closed_port, "connect timeout": silent_port}.get(row.error)
    if port_of is not None:
        with port_of() as port:
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres?connect_timeout=2"
            return raised(lambda: connect(url))
    if row.error == "bad password":
        return raised(lambda: connect(server.url_with("wrong")))
    if row.error == "unknown database":
        return raised(lambda: connect(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{server.port}/nowhere"))
    if row.error == "too many connections":
        return too_many(connect, server)
    if row.error == "pool timeout":
        return pool_timeout(server) if connect is psycopg.connect else pool_exhausted(server)
    if row.error in ("serialization failure", "deadlock"):
        return concurrent(connect, server, row.error)
    with contextlib.closing(connect(server.url)) as connection:
        if row.error == "connection was closed before":
            connection.close()
            return raised(connection.cursor)
        cursor = connection.cursor()
        return raised(lambda: cursor.execute(statement_of(row)))


def too_many(connect: Callable[[str], Any], server: PostgresServer) -> Exception:
    with contextlib.ExitStack() as held:
        return raised(
            lambda: [held.enter_context(contextlib.closing(connect(server.url))) for _ in range(30)],
        )


def pool_timeout(server: PostgresServer) -> Exception:
    with psycopg_pool.ConnectionPool(server.url, min_size=1, max_size=1, open=True) as pool, pool.connection():
        return raised(lambda: pool.getconn(timeout=0.05))


def pool_exhausted(server: PostgresServer) -> Exception:
    pool = psycopg2.pool.ThreadedConnectionPool(1, 1, server.url)
    held = pool.getconn()
    caught = raised(pool.getconn)
    pool.putconn(held)
    pool.closeall()
    return caught


def concurrent(connect: Callable[[str], Any], server: PostgresServer, error: str) -> Exception:
    """Two transactions of which PostgreSQL ends one."""
    with contextlib.closing(connect(server.url)) as first, contextlib.closing(connect(server.url)) as second:
        one, two = first.cursor(), second.cursor()
        if error == "serialization failure":
            one.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT * FROM stock")
            two.execute("UPDATE stock SET amount = amount + 1 WHERE id = 1")
            second.commit()
            return raised(lambda: one.execute("UPDATE stock SET amount = amount + 1 WHERE id = 1"))
        one.execute("SET deadlock_timeout = '10s'; UPDATE stock SET amount = 5 WHERE id = 1")
        two.execute("SET deadlock_timeout = '10ms'; UPDATE stock SET amount = 5 WHERE id = 2")
        waiting = threading.Thread(target=one.execute, args=("UPDATE stock SET amount = 5 WHERE id = 2",))
        waiting.start()
        until_waiting(server)
        caught = raised(lambda: two.execute("UPDATE stock SET amount = 5 WHERE id = 1"))
        second.rollback()
        waiting.join()
        return caught


def until_waiting(server: PostgresServer) -> None:
    with psycopg.connect(server.url, autocommit=True) as watcher:
        while not watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            time.sleep(0.01)


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", [each for each in rows_of("psycopg") if "SIGTERM" not in each.id])
def test_psycopg(row: ErrorRow, server: PostgresServer) -> None:
    check_row(row, blocking(psycopg.connect, server, row))


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", [each for each in rows_of("psycopg2") if "SIGTERM" not in each.id])
def test_psycopg2(row: ErrorRow, server: PostgresServer) -> None:
    check_row(row, blocking(psycopg2.connect, server, row))


@contextlib.asynccontextmanager
async def asyncpg_connection(server: PostgresServer) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(server.url)
    try:
        yield connection
    finally:
        connection.terminate()
        await asyncio.sleep(0)  # lets the transport close


async def by_asyncpg(server: PostgresServer, row: ErrorRow) -> Exception:
    if row.error in ("connection refused", "connect timeout"):
        port_of, timeout = (closed_port, 30) if row.error == "connection refused" else (silent_port, 0.2)
        with port_of() as port:
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            return await raised_async(lambda: asyncpg.connect(url, timeout=timeout))
    if row.error == "bad password":
        return await raised_async(lambda: asyncpg.connect(server.url_with("wrong")))
    if row.error == "unknown database":
        return await raised_async(lambda: asyncpg.connect(server.url, database="nowhere"))
    async with asyncpg_connection(server) as connection:
        if row.error == "connection was closed before":
            await connection.close()
        if row.error == "another operation in progress":
            asleep = asyncio.ensure_future(connection.execute("SELECT pg_sleep(60)"))
            await asyncio.sleep(0)
            caught = await raised_async(lambda: connection.execute("SELECT 1"))
            asleep.cancel()
            await asyncio.gather(asleep, return_exceptions=True)
            return caught
        if row.error == "serialization failure":
            async with asyncpg_connection(server) as other:
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM stock")
                await other.execute("UPDATE stock SET amount = amount + 1 WHERE id = 1")
                return await raised_async(lambda: connection.execute("UPDATE stock SET amount = 1 WHERE id = 1"))
        return await raised_async(lambda: connection.execute(statement_of(row) or "SELECT 1"))


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", [each for each in rows_of("asyncpg") if "SIGTERM" not in each.id])
async def test_asyncpg(row: ErrorRow, server: PostgresServer) -> None:
    check_row(row, await by_asyncpg(server, row))


async def test_a_server_that_was_sent_sigterm(stopping: PostgresServer) -> None:
    errors = {
        "psycopg": raised(lambda: psycopg.connect(stopping.url)),
        "psycopg2": raised(lambda: psycopg2.connect(stopping.url)),
        "asyncpg": await raised_async(lambda: asyncpg.connect(stopping.url)),
    }
    for client, error in errors.items():
        (row,) = (each.values[0] for each in rows_of(client) if "SIGTERM" in each.id)
        check_row(row, error)


def alchemy(driver: str, server: PostgresServer, row: ErrorRow) -> Exception:
    def connect(url: str) -> Any:
        engine = sqlalchemy.create_engine(
            url.replace("postgresql:", f"postgresql+{driver}:"), pool_size=1, max_overflow=0, pool_timeout=0.05
        )
        engines.callback(engine.dispose)
        return engine.connect()

    with contextlib.ExitStack() as engines:
        if row.error == "pool timeout":
            with connect(server.url) as held:
                return raised(held.engine.connect)
        port_of = {"connection refused": closed_port}.get(row.error)
        if port_of is not None:
            with port_of() as port:
                return raised(lambda: connect(f"postgresql://postgres@127.0.0.1:{port}/postgres"))
        if row.error == "bad password":
            return raised(lambda: connect(server.url_with("wrong")))
        with connect(server.url) as connection:
            return raised(lambda: connection.execute(sqlalchemy.text(statement_of(row) or "SELECT 1")))


@pytest.mark.fault("L6")
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("row", rows_of("SQLAlchemy"))
def test_sqlalchemy(row: ErrorRow, driver: str, server: PostgresServer) -> None:
    if row.error == "no row":
        engine = sqlalchemy.create_engine(server.url.replace("postgresql:", f"postgresql+{driver}:"))
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.text("SELECT 1 WHERE false"))
            check_row(row, raised(found.one))
        engine.dispose()
        return
    check_row(row, alchemy(driver, server, row))


@pytest.mark.parametrize("row", [each for each in rows_of("SQLAlchemy") if "violation" in each.id])
async def test_sqlalchemy_unwraps_both_shells_of_an_asynchronous_driver(row: ErrorRow, server: PostgresServer) -> None:
    engine = sqlalchemy.ext.asyncio.create_async_engine(server.url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as connection:
        statement = sqlalchemy.text(STATEMENTS[row.error])
        check_row(row, await raised_async(lambda: connection.execute(statement)))
    await engine.dispose()


def test_a_parameter_that_cannot_be_bound_is_an_error_of_the_program(server: PostgresServer) -> None:
    engine = sqlalchemy.create_engine(server.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        error = raised(lambda: connection.execute(sqlalchemy.text("SELECT :one"), {}))
    engine.dispose()
    verdict = classify(error)
    assert (verdict.retryable, verdict.counts, verdict.unclassified) == (False, False, False)


def test_constraint_violations_open_no_circuit_and_are_not_repeated(server: PostgresServer) -> None:
    policy = Policy("database", retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig(failure_threshold=2))
    with psycopg.connect(server.url, autocommit=True) as connection:
        for _ in range(5):
            with pytest.raises(psycopg.errors.UniqueViolation) as caught:
                policy.execute(lambda: connection.execute(STATEMENTS["unique violation"]))
            context = error_context(caught.value)
            assert context is not None
            assert context.attempts == 1
    assert policy.breaker is not None
    assert policy.breaker.state is BreakerState.CLOSED


def test_a_serialization_failure_is_repeated_and_not_counted(server: PostgresServer) -> None:
    breaker = CircuitBreakerConfig(failure_threshold=1)
    policy = Policy("database", retry=RetryConfig(base_delay=0), breaker=breaker)
    attempts = []

    def transaction() -> None:
        with psycopg.connect(server.url) as one, psycopg.connect(server.url) as other:
            one.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT * FROM stock")
            attempts.append(1)
            if len(attempts) == 1:
                other.execute("UPDATE stock SET amount = amount + 1 WHERE id = 1")
                other.commit()
            one.execute("UPDATE stock SET amount = amount + 1 WHERE id = 1")

    policy.execute(transaction)
    assert len(attempts) == 2
    assert policy.breaker is not None
    assert policy.breaker.state is BreakerState.CLOSED


def test_a_refused_connection_is_repeated_whatever_the_operation_does() -> None:
    policy = Policy("database", retry=RetryConfig(max_attempts=2, base_delay=0), idempotent=False)
    with closed_port() as port:
        error = raised(lambda: policy.execute(lambda: psycopg.connect(f"postgresql://127.0.0.1:{port}/", user="shop")))
    context = error_context(error)
    assert context is not None
    assert (context.attempts, context.unsent) == (2, True)
