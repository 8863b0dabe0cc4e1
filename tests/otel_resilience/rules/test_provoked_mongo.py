"""PyMongo against a socket that speaks MongoDB's protocol: Debian has no package of the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from support.error_rows import ErrorRow, check_row, closed_port, raised, rows_of, silent_port
from support.mongo_answers import MongoAnswers, mongo_answers

CODES = {
    "bad password": (18, "AuthenticationFailed"),
    "not authorized": (13, "Unauthorized"),
    "document fails validation": (121, "DocumentValidationFailure"),
    "write conflict": (112, "WriteConflict"),
    "lock timeout": (24, "LockTimeout"),
    "operation exceeded its time limit": (50, "MaxTimeMSExpired"),
    "server shuts down": (91, "ShutdownInProgress"),
    "not primary": (10107, "NotWritablePrimary"),
    "primary stepped down": (189, "PrimarySteppedDown"),
    "cursor not found": (43, "CursorNotFound"),
    "unknown operator": (2, "BadValue"),
    "unknown code": (424242, "Somewhat"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[MongoAnswers]:
    with mongo_answers() as started:
        yield started


def client(port: int, host: str = "127.0.0.1", **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
    fixed: dict[str, Any] = {
        "serverSelectionTimeoutMS": 300, "connectTimeoutMS": 200, "socketTimeoutMS": 200, "retryWrites": False,
        "retryReads": False, "directConnection": True, "heartbeatFrequencyMS": 60_000, "serverMonitoringMode": "poll",
    }  # fmt: skip
    return pymongo.MongoClient(host, port, **{**fixed, **options})


def insert(made: pymongo.MongoClient[dict[str, Any]]) -> Exception:
    with made:
        return raised(lambda: made.shop.stock.insert_one({"_id": 1}))


def provoke(row: ErrorRow, server: MongoAnswers) -> Exception:
    if row.error == "connection refused":
        with closed_port() as port:
            return insert(client(port))
    if row.error == "unknown host":
        return insert(client(1, "no-such-host.invalid"))
    if row.error == "server says nothing":
        with silent_port() as port:
            return insert(client(port))
    if row.error == "document that cannot be sent":
        with client(server.port) as made:
            return raised(lambda: made.shop.stock.insert_one({"_id": object()}))
    if row.error == "pool timeout":
        return pool(server)
    server.answer = {
        "no answer in time": "silence",
        "connection closed": None,
        "duplicate key": {"ok": 1.0, "n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000"}]},
        "write concern not met in time": {
            "ok": 1.0, "n": 1, "writeConcernError": {"code": 64, "errmsg": "late", "errInfo": {"wtimeout": True}},
        },
        "duplicate key in a bulk write": {
            "ok": 1.0, "n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000"}],
        },
        "transient transaction error": {
            "ok": 0.0, "errmsg": "no", "code": 424242, "errorLabels": ["TransientTransactionError"],
        },
    }.get(row.error, failure(row))  # fmt: skip
    if "bulk" in row.error:
        with client(server.port) as made:
            return raised(lambda: made.shop.stock.insert_many([{"_id": 1}]))
    return insert(client(server.port))


def failure(row: ErrorRow) -> dict[str, Any]:
    code, name = CODES.get(row.error, (0, ""))
    return {"ok": 0.0, "errmsg": "said the server", "code": code, "codeName": name}


def pool(server: MongoAnswers) -> Exception:
    """One connection, which another thread uses."""
    server.answer = "silence"
    server.kept_waiting.clear()
    with client(server.port, maxPoolSize=1, waitQueueTimeoutMS=50, socketTimeoutMS=1_000) as made:
        busy = threading.Thread(target=lambda: raised(lambda: made.shop.stock.insert_one({})))
        busy.start()
        server.kept_waiting.wait()
        caught = raised(lambda: made.shop.stock.insert_one({}))
        busy.join()
        return caught


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("PyMongo"))
def test_pymongo(row: ErrorRow, server: MongoAnswers) -> None:
    check_row(row, provoke(row, server))


async def test_the_asynchronous_client_raises_the_same(server: MongoAnswers) -> None:
    server.answer = failure(ErrorRow("", "not primary", "", ()))
    url = f"mongodb://127.0.0.1:{server.port}/?directConnection=true"
    made: pymongo.AsyncMongoClient[dict[str, Any]] = pymongo.AsyncMongoClient(url, retryWrites=False)
    async with made:
        with pytest.raises(pymongo.errors.NotPrimaryError) as caught:
            await made.shop.stock.insert_one({"_id": 1})
    (row,) = (each.values[0] for each in rows_of("PyMongo") if each.values[0].error == "not primary")
    check_row(row, caught.value)
