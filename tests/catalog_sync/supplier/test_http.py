"""Requests to a supplier: limited bodies, no unexpected redirects, errors that keep their status."""

from __future__ import annotations

import gc
import gzip
import json
import zlib
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from catalog_sync.domain.errors import (
    CatalogSyncError,
    InvalidDataError,
    PayloadTooLargeError,
    RedirectRefusedError,
    SupplierError,
)
from catalog_sync.domain.models import Bundle
from catalog_sync.supplier.esim_go.client import open_supplier
from catalog_sync.supplier.esim_go.envelope import parse_page
from catalog_sync.supplier.esim_go.responses import parse_json, raise_for_status, redirect_target
from catalog_sync.supplier.port import Deadline, Scope
from otel_resilience import classify
from otel_resilience.redaction import register_secret
from support.scripted_http import answer, scripted_server
from support.settings import make_settings

LIMIT = 100_000
GROUPS = json.dumps({"groups": [{"name": "A"}]}).encode()


async def groups(reply: bytes, state_dir: Path) -> list[str]:
    async with (
        scripted_server(reply) as server,
        open_supplier(make_settings(server.url, state_dir, max_body_bytes=LIMIT)) as client,
    ):
        return await client.list_groups(deadline=Deadline(60))


async def refused(reply: bytes, state_dir: Path) -> CatalogSyncError:
    with pytest.raises(CatalogSyncError) as caught:
        await groups(reply, state_dir)
    return caught.value


def received(body: bytes, status: int = 200, content_type: str = "application/json", **headers: str) -> httpx.Response:
    request = httpx.Request("GET", "https://api.example.test/v2.5/catalogue")
    return httpx.Response(status, headers={"content-type": content_type, **headers}, content=body, request=request)


@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_compressed_bodies_are_decompressed(tmp_path: Path, encoding: str, encode: object) -> None:
    reply = answer(encode(GROUPS + b" " * 50_000), Content_Encoding=encoding)  # type: ignore[operator]
    assert await groups(reply, tmp_path) == ["A"]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(answer(b"x" * (LIMIT + 1)), id="announced"),
        pytest.param(b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n" + b"x" * (LIMIT + 1), id="not announced"),
        pytest.param(answer(gzip.compress(b"\0" * 50_000_000), Content_Encoding="gzip"), id="gzip bomb"),
        pytest.param(b"HTTP/1.1 200 X\r\nContent-Length: " + b"9" * 18 + b"\r\n\r\n", id="absurd"),
    ],
)
@pytest.mark.fault("F29", "F30")
async def test_a_body_beyond_the_limit_is_refused(tmp_path: Path, reply: bytes) -> None:
    error = await refused(reply, tmp_path)
    assert type(error) is PayloadTooLargeError
    assert error.error_type == "payload_too_large"
    assert str(error) == f"list groups: the answer is larger than {LIMIT} bytes"
    assert error.context["limit_bytes"] == LIMIT
    assert not error.classification.retryable
    assert error.classification.counts


async def test_a_body_at_the_limit_passes(tmp_path: Path) -> None:
    assert await groups(answer(GROUPS.ljust(LIMIT)), tmp_path) == ["A"]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(answer(b"plain text", Content_Encoding="gzip"), id="not gzip"),
        pytest.param(answer(gzip.compress(b"[1]" * 100)[:-10], Content_Encoding="gzip"), id="cut off"),
        pytest.param(answer(b"[1]", Content_Encoding="br"), id="not asked for"),
    ],
)
@pytest.mark.fault("F30")
async def test_a_broken_encoding_is_confirmed_by_one_retry(tmp_path: Path, reply: bytes) -> None:
    error = await refused(reply, tmp_path)
    assert type(error) is InvalidDataError
    assert error.error_type == "invalid_response"
    assert error.classification.max_retries == 1


async def test_a_large_error_body_is_cut_short_and_keeps_its_status(tmp_path: Path) -> None:
    error = await refused(answer(b"x" * 5_000_000, status=500), tmp_path)
    assert type(error) is SupplierError
    assert error.context["status"] == 500
    assert isinstance(error.__cause__, httpx.HTTPStatusError)
    assert len(error.__cause__.response.content) == LIMIT


@pytest.mark.fault("S1")
async def test_headers_that_are_not_ascii_leave_the_status_to_be_judged(tmp_path: Path) -> None:
    """A gateway's own words; a caller that cannot write them down must still see the 503."""
    headers = b"HTTP/1.1 503 Gew\xf6lbe\r\nserver: Pr\xfcfer\r\nretry-after: \xff\x01\r\nx-message: \xe2\x82\xac\r\n"
    error = await refused(headers + b"content-length: 2\r\n\r\n{}", tmp_path)
    assert error.error_type == "503"
    assert isinstance(error.__cause__, httpx.HTTPStatusError)
    assert classify(error.__cause__).error_type == "503"
    assert error.__cause__.response.headers["server"] == "Pr\xfcfer"


@pytest.mark.parametrize("status", [301, 304, 400, 401, 404, 429, 500, 503])
def test_a_status_that_is_not_a_success_is_an_http_error_with_its_headers(status: int) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        raise_for_status(received(b'{"message":"no"}', status, **{"retry-after": "7"}), "list bundles")

    assert caught.value.response.status_code == status
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.json() == {"message": "no"}
    assert str(caught.value) == f'list bundles: the supplier answered {status}: {{"message":"no"}}'


def test_messages_show_a_short_and_redacted_sample() -> None:
    register_secret("the-secret-value")

    with pytest.raises(httpx.HTTPStatusError) as caught:
        raise_for_status(received(b"key the-secret-value refused " + b"x" * 5000, 403), "list groups")

    assert "the-secret-value" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("body", "content_type", "what"),
    [
        (b"", "application/json", "empty"),
        (b"  \n", "application/json", "empty"),
        (b"<html><body>Sign in</body></html>", "text/html; charset=utf-8", "web page"),
        (b"<!doctype html>", "application/json", "web page"),
        (b'{"bundles":[{"name":"esim_1GB', "application/json", "cut off"),
        (b"\xff\xfe\x00", "application/json", "not JSON"),
        (b"[" * 100_000, "application/json", "not JSON"),
    ],
)
@pytest.mark.fault("F13", "F14")
def test_wrong_content_with_status_200_is_confirmed_by_one_retry(body: bytes, content_type: str, what: str) -> None:
    with pytest.raises(InvalidDataError, match=what) as caught:
        parse_json(received(body, content_type=content_type))

    assert caught.value.classification.max_retries == 1
    assert caught.value.classification.counts
    assert caught.value.context["content_type"] == content_type.partition(";")[0]
    assert len(str(caught.value.context["body_sha256"])) == 64


def test_numbers_with_a_fraction_keep_every_digit() -> None:
    data = parse_json(received(b'{"price": 6.90, "other": 1e999999999999999999999, "nan": NaN}'))

    assert str(data["price"]) == "6.90"
    assert data["other"].is_nan()
    assert data["nan"].is_nan()
    assert isinstance(data["nan"], Decimal)


@pytest.mark.parametrize(
    "location", ["/v2.5/other", "other?x=1", "https://api.example.test/elsewhere", "https://API.example.test:443/x"]
)
def test_a_redirect_within_the_host_is_followed(location: str) -> None:
    assert redirect_target(received(b"", 302, location=location), 0).host == "api.example.test"


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example.test/",
        "//evil.example.test/",
        "http://api.example.test/v2.5/catalogue",
        "https://api.example.test:8443/",
        "https://api.example.test@evil.example.test/",
        "file:///etc/passwd",
        "https://[broken",
    ],
)
@pytest.mark.fault("F28")
def test_a_redirect_to_another_host_or_to_plain_http_is_refused(location: str) -> None:
    with pytest.raises(RedirectRefusedError) as caught:
        redirect_target(received(b"", 302, location=location), 0)

    assert caught.value.error_type == "redirect_refused"
    assert not caught.value.classification.counts


GOOD = b'{"name":"good","duration":1,"price":1.5}'


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b'{"name":"bad","duration":1,"price":1,"description":"caf\xe9"}', id="Latin-1"),
        pytest.param(b'{"name":"bad","duration":1,"price":1,"description":"\xf0\x9f\x98"}', id="half of a character"),
        pytest.param(b'{"name":"bad","duration":1,"price":1,"description":"\\ud83d"}', id="half of a pair"),
        pytest.param(b'{"name":"bad","duration":' + b"9" * 5000 + b',"price":1}', id="5,000 digits"),
        pytest.param(b'{"name":"bad","duration":1,"price":' + b"9" * 5000 + b"}", id="5,000 digits of a price"),
        pytest.param(b'{"name":"bad","duration":1,"price":1,"dataAmount":1e999999999}', id="exponent"),
        pytest.param(b'{"name":"bad","duration":1,"price":1e-999999999999999999999}', id="no decimal"),
        pytest.param(b'{"name":"bad","duration":1,"price":NaN}', id="NaN"),
        pytest.param(b'{"name":"bad","duration":1,"price":-Infinity}', id="Infinity"),
        pytest.param(b'{"name":"bad","duration":1,"price":1,"groups":' + b"[" * 9000 + b"]" * 9000 + b"}", id="deep"),
        pytest.param(b'{"name":"bad","name":5,"duration":1,"price":1}', id="a key twice"),
        pytest.param(b"[" * 9000 + b"]" * 9000, id="no object"),
    ],
)
def test_one_bad_value_costs_its_row_and_no_other(bad: bytes) -> None:
    page = parse_page(parse_json(received(b'{"rows":3,"bundles":[' + GOOD + b"," + bad + b"," + GOOD + b"]}")), 1)

    assert [bundle.name for bundle in page.bundles] == ["good", "good"]
    assert len(page.rejected) == 1


@pytest.mark.parametrize("value", [b"[" * 9000 + b"]" * 9000, b'{"a":' * 5000 + b'"]}"' + b"}" * 5000, b'"]]}}\\"["'])
def test_what_nobody_reads_may_be_nested_as_deep_as_it_likes(value: bytes) -> None:
    body = b'{"rows":1,"bundles":[{"extra":' + value + b"," + GOOD[1:] + b"]}"
    assert [bundle.name for bundle in parse_page(parse_json(received(body)), 1).bundles] == ["good"]


@pytest.mark.parametrize("body", [b"[" * 9000, b"[" * 9000 + b"]" * 8999, b'{"a":[' + b"[" * 9000 + b"]" * 9000])
def test_deep_nesting_that_is_cut_off_is_not_an_answer(body: bytes) -> None:
    with pytest.raises(InvalidDataError, match="not JSON"):
        parse_json(received(body))


def test_a_sample_of_a_body_is_safe_for_terminals_and_logs() -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        raise_for_status(received(b"\x1b]0;owned\x07 \xff \x00", 500), "list bundles")
    assert "\\x1b]0;owned" in str(caught.value)
    assert not any(character in str(caught.value) for character in "\x1b\x07\x00")


async def test_of_a_page_nothing_is_left_for_the_collector_of_garbage(tmp_path: Path) -> None:
    rows = [{"name": f"esim_{number}", "duration": 7, "price": 1.5} for number in range(50)]
    reply = answer(json.dumps({"bundles": rows, "pageCount": 1, "rows": 50}).encode())

    def left() -> int:
        return sum(isinstance(each, Bundle) for each in gc.get_objects())

    async with scripted_server(reply) as server, open_supplier(make_settings(server.url, tmp_path)) as client:
        gc.collect()
        before = left()
        gc.disable()
        try:
            came = [len(page.bundles) async for page in client.iter_pages(Scope(group="A"), deadline=Deadline(60))]
            assert came == [50]
            assert left() == before
        finally:
            gc.enable()
