from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from otel_resilience.testing import RecordedTelemetry
from support.answering_server import AnsweringServer, answering_server
from support.postgres_server import postgres_server

FLAKY = """
    CREATE SEQUENCE IF NOT EXISTS tries;
    ALTER SEQUENCE tries RESTART;
    CREATE OR REPLACE FUNCTION flaky() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('tries') < 3 THEN RAISE EXCEPTION 'as of two transactions at once' USING ERRCODE = '40001'; END IF;
        RETURN NEW;
    END $$;
    DROP TABLE IF EXISTS stock;
    CREATE TABLE stock (product text PRIMARY KEY, number int);
    INSERT INTO stock VALUES ('tea', 5);
    CREATE TRIGGER flaky BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION flaky();
    DROP TABLE IF EXISTS orders;
    CREATE TABLE orders (id int PRIMARY KEY, product text, day date);
    INSERT INTO orders VALUES (1, 'tea', '2026-11-28'), (2, 'salt', '2026-11-28'), (3, 'rice', '2026-11-27');
"""


@pytest.fixture(autouse=True)
def _quick_clients(quick_clients: None) -> None: ...


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with answering_server() as running:
        yield running


@pytest.fixture
def recorded() -> Iterator[RecordedTelemetry]:
    with RecordedTelemetry().recording() as telemetry:
        yield telemetry


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL."""
    with postgres_server() as running:
        yield running.url


@pytest.fixture
def shop(postgres: str) -> str:
    """The same, with orders, and a stock of which an update meets a serialization failure twice."""
    with psycopg.connect(postgres) as connection:
        connection.execute(FLAKY)
    return postgres
