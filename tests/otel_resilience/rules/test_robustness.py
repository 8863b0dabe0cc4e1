"""Rules never raise, whatever they are given, and import nothing that they know."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.error
from typing import Any

import httpx
import pytest
import redis.exceptions
from hypothesis import given
from hypothesis import strategies as st

from otel_resilience import Classification, classify
from otel_resilience.classification.rules import default_rules

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


def test_rules_import_neither_httpx_nor_redis_nor_pydantic() -> None:
    script = (
        "import json, sys; from otel_resilience import classify; verdict = classify(ConnectionResetError());"
        "unknown = classify(ValueError()).unclassified;"
        "print(json.dumps([sorted({'httpx', 'redis', 'pydantic', 'http.client'} & set(sys.modules)),"
        " verdict.error_type, unknown]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded, error_type, unknown = json.loads(done.stdout)
    assert (loaded, error_type, unknown) == ([], "connection_error", True)
