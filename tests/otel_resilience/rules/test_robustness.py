"""Rules never raise, whatever they are given, and import none of the packages that they know."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.exceptions
from hypothesis import given
from hypothesis import strategies as st

from otel_resilience import Classification, classify
from otel_resilience.classification.rules import clients, default_rules
from support import error_rows

KINDS: list[type[BaseException]] = [
    ValueError, OSError, TimeoutError, ConnectionError, RuntimeError, MemoryError, ssl.SSLError, UnicodeError,
    urllib.error.URLError, httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.ProxyError,
    httpx.InvalidURL, redis.exceptions.ConnectionError, redis.exceptions.ResponseError, redis.exceptions.TimeoutError,
    redis.exceptions.ExecAbortError, redis.exceptions.LockError,
]  # fmt: skip
ARGUMENTS = st.lists(st.none() | st.text() | st.integers() | st.binary(), max_size=3)


@st.composite
def exceptions(draw: st.DrawFn) -> BaseException:
    """A graph of exceptions with arbitrary arguments, causes, contexts (cycles included) and groups."""
    nodes: list[BaseException] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(KINDS))
        node = kind.__new__(kind)
        node.args = tuple(draw(ARGUMENTS))
        nodes.append(node)
        if draw(st.booleans()):
            nodes.append(BaseExceptionGroup("group", draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3))))
    for node in nodes:
        node.__cause__ = draw(st.none() | st.sampled_from(nodes))
        node.__context__ = draw(st.none() | st.sampled_from(nodes))
    return draw(st.sampled_from(nodes))


@given(exceptions())
def test_no_graph_of_exceptions_makes_a_rule_raise(exception: BaseException) -> None:
    for rule in default_rules():
        verdict = rule(exception)
        assert verdict is None or isinstance(verdict, Classification)


@pytest.mark.parametrize("kind", [httpx.ConnectError, redis.exceptions.ConnectionError, urllib.error.URLError])
def test_an_exception_that_is_its_own_cause_ends(kind: type[Exception]) -> None:
    error = kind("round")
    error.__cause__ = error
    error.__context__ = error
    assert not classify(error).unclassified


def test_a_deep_chain_and_deep_groups_end() -> None:
    outer = httpx.ConnectError("outer")
    node: BaseException = outer
    for depth in range(5000):
        node.__cause__ = ValueError(depth)
        node = node.__cause__
    assert classify(outer).error_type == "connection_error"
    nested: Exception = ConnectionRefusedError(111, "refused")
    for _ in range(5000):
        nested = ExceptionGroup("nested", [nested])
    outer.__cause__ = nested
    assert classify(outer).error_type == "connection_error"


@pytest.mark.parametrize("response", [None, object(), "text"])
def test_a_status_error_without_a_proper_response(response: Any) -> None:
    error = httpx.HTTPStatusError("odd", request=None, response=response)  # type: ignore[arg-type]
    assert classify(error).error_type == "invalid_response"


@pytest.mark.parametrize("headers", [None, {}])
def test_a_urllib_answer_without_headers(headers: Any) -> None:
    assert classify(urllib.error.HTTPError("http://supplier.test/", 503, "busy", headers, None)).error_type == "503"


CLIENTS = {
    "aiohttp", "anthropic", "asyncpg", "botocore", "confluent_kafka", "elasticsearch", "google", "grpc", "http.client",
    "httpx", "httpx2", "kafka", "openai", "psycopg", "psycopg2", "pydantic", "pymongo", "pymysql", "redis", "requests",
    "smtplib", "sqlalchemy", "sqlite3", "urllib3",
}  # fmt: skip


def test_rules_import_no_client_and_those_of_clients_not_in_use_are_not_read() -> None:
    script = """if True:
        import json, sys
        from otel_resilience import classify

        verdicts = classify(ConnectionResetError()), classify(ValueError())
        Unique = type("UniqueViolation", (Exception,), {"__module__": "psycopg.errors", "sqlstate": "23505"})
        before = "otel_resilience.classification.rules.psycopg" in sys.modules
        verdicts += (classify(Unique()),)
        after = "otel_resilience.classification.rules.psycopg" in sys.modules
        read = [name for name in sys.modules if name.endswith((".rules.grpc", ".rules.botocore", ".rules.redis"))]
        print(json.dumps([sorted(sys.modules), [each.error_type for each in verdicts], before, after, read]))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded, error_types, before, after, read = json.loads(done.stdout)
    assert not CLIENTS & set(loaded)
    assert (error_types, before, after, read) == (
        ["connection_error", "_OTHER", "constraint_violation"], False, True, [],
    )  # fmt: skip


def test_each_table_of_errors_is_held_by_a_test_and_each_rule_set_by_a_table() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    tested = {name for source in sources for name in re.findall(r'rows_of\("(.+?)"\)', source)}
    assert error_rows.clients() == tested
    for package in clients.PACKAGES:
        assert clients.rule_for(package)(ValueError()) is None, package


ODD_CLASSES = [
    "aiohttp.client_exceptions.ClientConnectorError", "asyncpg.exceptions._base.InterfaceError", "cimpl.KafkaException",
    "botocore.exceptions.ClientError", "elastic_transport.ApiError", "google.api_core.exceptions.RetryError",
    "google.api_core.exceptions.GoogleAPICallError", "grpc.RpcError", "kafka.errors.KafkaError",
    "openai.APIStatusError", "openai.APIConnectionError", "psycopg.OperationalError", "psycopg2.OperationalError",
    "pymongo.errors.OperationFailure", "pymongo.errors.BulkWriteError", "pymongo.errors.ServerSelectionTimeoutError",
    "pymysql.err.OperationalError", "requests.exceptions.ConnectionError", "smtplib.SMTPRecipientsRefused",
    "sqlalchemy.exc.SQLAlchemyError", "sqlite3.OperationalError", "urllib3.exceptions.HTTPError",
    "urllib3.exceptions.ProtocolError",
]  # fmt: skip
ODD_NAMES = (
    "orig", "reason", "response", "code", "details", "trailing_metadata", "sqlstate", "recipients", "smtp_code",
    "cause", "meta", "errno", "has_error_label", "os_error", "sqlite_errorcode",
)  # fmt: skip
ODD_VALUES: list[Any] = [
    None, 0, -1, 10**30, "", "40001", b"\xff", [], {}, {"Error": 1}, object(), lambda: 1, ValueError(),
]  # fmt: skip


@given(st.data())
def test_what_an_exception_of_a_client_carries_may_be_anything(data: st.DataObject) -> None:
    module, _, plain = data.draw(st.sampled_from(ODD_CLASSES)).rpartition(".")
    kind = type(plain, (Exception,), {"__module__": module})
    error = kind(*data.draw(st.lists(st.sampled_from(ODD_VALUES), max_size=2)))
    for attribute in data.draw(st.sets(st.sampled_from(ODD_NAMES), max_size=4)):
        setattr(error, attribute, data.draw(st.sampled_from([*ODD_VALUES, error])))
    for rule in default_rules():
        verdict = rule(error)
        assert verdict is None or isinstance(verdict, Classification)
    assert not classify(error).unclassified
