"""botocore against a local server that answers like AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import botocore.config
import botocore.loaders
import botocore.session
import pytest

from support.error_rows import ErrorRow, check_row, closed_port, full_port, raised, rows_of
from support.faulty_http import FaultyServer, faulty_server

PATHS = {"no answer in time": "silent", "closed without an answer": "close"}
LOADER = botocore.loaders.create_loader()  # keeps what it has read
STATUSES = {"Throttling": 400, "SlowDown": 503, "NoSuchKey": 404, "InternalError": 500, "no": 503, "AccessDenied": 403}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with faulty_server() as started:
        started.content_type = b"application/x-amz-json-1.0"
        yield started


def client(url: str, **options: Any) -> Any:
    config = botocore.config.Config(
        retries={"total_max_attempts": 1}, read_timeout=options.pop("read_timeout", 5), connect_timeout=0.2, proxies={}
    )
    session = botocore.session.Session()
    session.register_component("data_loader", LOADER)
    session.set_config_variable("config_file", "none")
    session.set_config_variable("credentials_file", "none")
    keys = options or {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return session.create_client("dynamodb", region_name="eu-west-1", endpoint_url=url, config=config, **keys)


def get(url: str, **options: Any) -> Exception:
    made = client(url, **options)
    caught = raised(lambda: made.get_item(TableName="stock", Key={"id": {"S": "1"}}))
    made.close()
    return caught


def provoke(row: ErrorRow, server: FaultyServer) -> Exception:
    ports = {"connection refused": closed_port, "connect timeout": full_port}
    if row.error in ports:
        with ports[row.error]() as port:
            return get(f"http://127.0.0.1:{port}")
    if row.error == "unknown host":
        return get("http://no-such-host.invalid")
    if row.error == "wrong parameters":
        return raised(lambda: client(server.url).get_item(TableName="stock", Key="1"))
    code = row.error.split(" ")[0]
    server.path = PATHS.get(row.error) or str(STATUSES.get(code, 400))
    server.body = b"" if code == "no" else json.dumps({"__type": f"com.amazon#{code}", "message": "no"}).encode()
    return get(server.url, read_timeout=0.1 if row.error == "no answer in time" else 10)


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("botocore"))
def test_botocore(row: ErrorRow, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if row.error == "no credentials":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        check_row(row, get(server.url, aws_access_key_id=None))
    else:
        check_row(row, provoke(row, server))
