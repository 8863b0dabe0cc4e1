"""A queue damaged by a power cut or a bad disk: the Collector starts, and reports what was lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.cli import wait_until
from support.collector import FOLDER, Collector
from support.otlp_client import Sender, log
from support.otlp_sink import OtlpSink, otlp_sink

RECORDS = 200
PAGE = 4096


def _zeroed(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _hollow(data: bytes) -> bytes:
    """A file whose page headers are intact, but not their content."""
    return data[: 2 * PAGE] + bytes(len(data) // 2) + data[2 * PAGE + len(data) // 2 :]


def _foreign(data: bytes) -> bytes:
    """A file with the blocks of another one, as a bad disk may return."""
    return (b"no database\n" * len(data))[: len(data)]


def _stump(data: bytes) -> bytes:
    return data[:100]


@pytest.mark.fault("O4")
@pytest.mark.parametrize("damage", [_zeroed, _cut, _hollow, _foreign, _stump])
def test_a_damaged_queue_is_set_aside_and_named_and_what_comes_next_is_delivered(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    with otlp_sink() as loki:
        loki.mode = "unavailable"
        collector = _collector(tmp_path, loki)
        with collector:
            sender = Sender(collector.url)
            for number in range(RECORDS):
                sender.logs(log("x" * 2000 + str(number)))
            wait_until(lambda: collector.own_metric("otelcol_exporter_queue_size", exporter="otlp_http/loki") > 0)
            collector.stop()
            (queue,) = (tmp_path / "queue").glob("*loki*")
            queue.write_bytes(damage(queue.read_bytes()))
            loki.mode = "accept"
            collector.start()
            assert "what waited in it is lost: exporter_otlp_http_loki_logs" in collector.log
            assert list(tmp_path.glob("queue.damaged-*/*loki*"))
            sender.logs(log("after"))
            loki.wait_for(lambda sink: any(record.body == "after" for record in sink.logs))
            collector.stop()


def test_another_end_is_the_end_of_the_script(tmp_path: Path) -> None:
    with otlp_sink() as loki, pytest.raises(RuntimeError, match="did not start"):
        _collector(tmp_path, loki, OTELCOL_MEMORY_LIMIT_MIB="none").start()
    assert not list(tmp_path.glob("queue.damaged-*"))


def _collector(folder: Path, loki: OtlpSink, **environment: str) -> Collector:
    endpoints = {
        "TEMPO_OTLP_ENDPOINT": loki.url,
        "LOKI_OTLP_ENDPOINT": loki.url,
        "PROMETHEUS_REMOTE_WRITE_ENDPOINT": f"{loki.url}/none",
    }
    return Collector("single", folder, through=str(FOLDER / "run"), **endpoints, **environment)
