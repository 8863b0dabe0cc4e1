"""Counts what a sync leaves in telemetry and what idle workers ask of Redis: ``python -m benchmarks.footprint``.

Numbers, not times: spans of the trace of a good sync, metric series of a run as Prometheus stores them, commands that
Redis gets from two workers that have nothing to do.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.server
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.api_reads import api
from benchmarks.api_reads import sync as sync_through_api
from benchmarks.sync_speed import COMMAND, KEY, SyncFailedError, Target, redis_server, simulator
from benchmarks.tables import machine, table, write_results

CATALOGUE = 5_221
WORKERS = 2
SETTLED = 15.0
"""Seconds after the start of the workers from which on they count as idle."""
_BUCKETS = 3
"""Series of a histogram besides those of its bounds: ``+Inf``, sum, count."""


class Sink:
    """A receiver of OTLP over HTTP that counts."""

    def __init__(self) -> None:
        self.url = ""
        self.traces: dict[bytes, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        """By trace, the names of its spans."""
        self.series: dict[tuple[str, ...], int] = {}
        """By metric and attributes, the series in Prometheus."""

    def take(self, path: str, body: bytes) -> None:
        """One export."""
        if path.endswith("/traces"):
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in of_resource.scope_spans:
                    for span in scope.spans:
                        self.traces[span.trace_id][span.name] += 1
        if path.endswith("/metrics"):
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for of_scope in resource.scope_metrics:
                    for metric in of_scope.metrics:
                        self._count(metric)

    def _count(self, metric: Any) -> None:
        data = getattr(metric, metric.WhichOneof("data"))
        for point in data.data_points:
            attributes = sorted(f"{each.key}={each.value}" for each in point.attributes)
            bounds = getattr(point, "explicit_bounds", None)
            self.series[metric.name, *attributes] = 1 if bounds is None else len(bounds) + _BUCKETS

    def by_metric(self) -> list[tuple[str, int]]:
        """Series of each metric, most first."""
        counted: collections.Counter[str] = collections.Counter()
        for (name, *_), series in self.series.items():
            counted[name] += series
        return counted.most_common()

    def largest_trace(self) -> collections.Counter[str]:
        """The spans of the largest trace."""
        return max(self.traces.values(), key=lambda spans: spans.total())


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    """A sink that listens."""
    found = Sink()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def environment(folder: pathlib.Path, redis_url: str, supplier: dict[str, Any], sink_url: str) -> dict[str, str]:
    """The environment of every program in one installation."""
    own = ("ESIM_GO_", "REDIS_URL", "CATALOG_", "ERROR_", "OTEL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)} | {
        "REDIS_URL": redis_url,
        "CATALOG_STATE_DIR": str(folder / "state"),
        "CATALOG_SUPPLIER_RATE_PER_S": "0",
        "ESIM_GO_BASE_URL": supplier["base_url"],
        "ESIM_GO_API_KEY": KEY,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink_url,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }


def one_process(folder: pathlib.Path, redis_url: str, supplier: dict[str, Any]) -> Sink:
    """``catalog-sync run`` into an empty store."""
    with sink() as found:
        done = subprocess.run(
            [*COMMAND, "run", "--json"],
            env=environment(folder, redis_url, supplier, found.url),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    if done.returncode:
        raise SyncFailedError(f"exit {done.returncode}: {done.stderr[-2000:]}")
    return found


def with_workers(folder: pathlib.Path, redis_url: str, supplier: dict[str, Any], seconds: float) -> tuple[Sink, float]:
    """A sync through the API and two workers; and the commands per second that Redis gets while these are idle."""
    with sink() as found:
        env = environment(folder, redis_url, supplier, found.url)
        logs = [(folder / f"worker-{number}.log").open("w") for number in range(WORKERS)]
        workers = [
            subprocess.Popen([sys.executable, "-m", "catalog_sync.worker", "--name", f"w{number}"], env=env, stderr=log)
            for number, log in enumerate(logs)
        ]
        try:
            with api(folder, redis_url, supplier, **_telemetry(env), CATALOG_JOBS="workers") as (url, _):
                sync_through_api(url)
            time.sleep(SETTLED)
            idle = commands_per_second(redis_url, seconds)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(30)
            for log in logs:
                log.close()
    return found, idle


def _telemetry(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith("OTEL_")}


def commands_per_second(redis_url: str, seconds: float) -> float:
    """Commands that Redis gets from all others, those inside scripts included."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        before, began = client.info("stats")["total_commands_processed"], time.monotonic()
        time.sleep(seconds)
        after, spent = client.info("stats")["total_commands_processed"], time.monotonic() - began
    return float(after - before - 1) / spent


def main(argv: list[str] | None = None) -> int:
    """Prints the tables; 1 if something fails, and with ``--strict`` also if a target is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30, help="for which idle workers are watched (default 30)")
    parser.add_argument("--data", help="JSON file of bundles (default: a generated catalogue)")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is not met")
    parser.add_argument("--readme", action="store_true", help="write the result into benchmarks/README.md")
    options = parser.parse_args(argv)
    try:
        with contextlib.ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            redis_url = stack.enter_context(redis_server(folder))
            supplier = stack.enter_context(simulator(CATALOGUE, 0, data=options.data))
            alone = one_process(folder / "a", redis_url, supplier)
            other_url = stack.enter_context(redis_server(folder))
            many, idle = with_workers(folder, other_url, supplier, options.seconds)
    except SyncFailedError as error:
        print(f"benchmarks.footprint: {error}", file=sys.stderr)
        return 1
    spans, with_two = alone.largest_trace(), many.largest_trace()
    series = sum(alone.series.values())
    targets = [
        Target("spans of a good sync, one process", "<= 400", f"{spans.total()}", spans.total() <= 400),
        Target("spans of a good sync, API and two workers", "<= 400", f"{with_two.total()}", with_two.total() <= 400),
        Target("metric series of a run", "<= 200", f"{series}", series <= 200),
        Target("Redis commands of two idle workers", "<= 10/s", f"{idle:.1f}/s", idle <= 10),
    ]
    text = "\n\n".join(
        [
            f"{machine()}; {supplier['bundles']:,} bundles.",
            "### Targets",
            table(
                ["target", "limit", "measured", "verdict"],
                [[each.name, each.limit, each.measured, "met" if each.met else "NOT MET"] for each in targets],
            ),
            "### Series of a run",
            table(["metric", "series"], [[name, str(count)] for name, count in alone.by_metric()]),
            "### Spans of a sync in one process",
            table(["span", "number"], [[name, str(count)] for name, count in spans.most_common(20)]),
            "### Spans of a sync of API and workers",
            table(["span", "number"], [[name, str(count)] for name, count in with_two.most_common(20)]),
        ]
    )
    print(text)
    if options.readme:
        write_results("footprint", text)
    return int(options.strict and not all(each.met for each in targets))


if __name__ == "__main__":
    sys.exit(main())
