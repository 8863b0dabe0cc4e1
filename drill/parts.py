"""The programs of the drill, each a process on free loopback ports: what starts them and what stops them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import redis
import yaml

from drill import pace as paces
from drill.receiver import BEAT, Receiver, running_receiver
from support import loopback
from support.api_process import TOKEN, ApiProcess
from support.cli import API_KEY, Supplier
from support.collector import FOLDER, Collector
from support.otlp_sink import OtlpSink, otlp_sink
from support.prometheus import Prometheus
from support.redis_server import RedisServer, free_port

ROOT: Final = Path(__file__).parents[1]
ALERTMANAGERS: Final = ("prometheus-alertmanager", "alertmanager")
"""Debian's name first."""
TARGETS: Final = ("otel-collector", "tempo", "loki")
"""Prometheus' targets, by job name."""
STATE: Final = "state"
BUNDLES: Final = 600
PAGES: Final = 30
"""Pages of the whole catalogue at the supplier."""
START_WITHIN: Final = 30.0
"""Seconds that a program may take to start."""
FLEET_WITHIN: Final = 60.0
"""Seconds that API and worker may take to start on a busy machine."""
RUN_WITHIN: Final = 90.0
"""Seconds that one command may take."""
GAP: Final = 1.0
"""Seconds between two runs of the job."""
READ_EVERY: Final = 4
"""After this many runs somebody reads the catalogue."""
COMPILER: Final = "cc"
"""A C compiler, for a clock that is wrong."""
_OWN: Final = ("ESIM_GO_", "REDIS_URL", "CATALOG_", "ERROR_", "OTEL_", "GRAFANA_")


def missing_programs() -> list[str]:
    """Names of programs that the drill needs and cannot find."""
    missing = [name for name in ("redis-server", "prometheus") if shutil.which(name) is None]
    if alertmanager() is None:
        missing.append(ALERTMANAGERS[0])
    answer = subprocess.run([FOLDER / "build", "--path"], capture_output=True, text=True, check=True)
    if not Path(answer.stdout.strip()).is_file():
        missing.append("the Collector (make collector)")
    return missing


def alertmanager() -> str | None:
    """The path of Alertmanager."""
    return next((path for name in ALERTMANAGERS if (path := shutil.which(name)) is not None), None)


class Alertmanager:
    """A real one."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        program = alertmanager()
        if program is None:
            raise FileNotFoundError(ALERTMANAGERS[0])
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "alertmanager.yml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.port = free_port()
        self._log = folder / "alertmanager.log"
        self._command = [
            program,
            f"--config.file={file}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            _until_ready(f"http://127.0.0.1:{self.port}/-/ready", self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Restarts it: it keeps a group for half a minute, and new alerts in that time wait for ``group_interval``."""
        self.__exit__()
        self.__enter__()


def _until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    import httpx

    give_up = time.monotonic() + START_WITHIN
    while process.poll() is None and time.monotonic() < give_up:
        with contextlib.suppress(httpx.TransportError):
            if loopback.get(url).is_success:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start")


@contextlib.contextmanager
def running_simulator(collector_url: str, environment: dict[str, str], log: Path, bundles: int) -> Iterator[Supplier]:
    """The supplier, traced as a service of its own."""
    command = [sys.executable, "-m", "catalog_sync", "simulate", "--json", "--rate", "0", "--bundles", str(bundles)]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [*command, "--api-key", API_KEY],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_inherited() | environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url},
            text=True,
        )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield Supplier(ready["base_url"], ready["control_url"])
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the job."""

    started: float
    ended: float
    code: int
    outcome: str
    error_type: str | None
    correlation_id: str | None
    scoped: bool = False
    """Only a part of the catalogue was asked for."""


class Job:
    """The scheduler: ``catalog-sync run`` again and again, each a process of its own, as cron would start them."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.arguments: tuple[str, ...] = ()
        """Arguments besides ``run --json``."""
        self.order: Callable[[], dict[str, Any]] | None = None
        """Runs a sync in another way than with the command; returns its report."""
        self.through: tuple[str, ...] = ()
        """Words before the command: a program that runs it."""
        self.runs: list[Run] = []
        self._environment = _inherited() | environment
        self._log = log
        self._enabled = threading.Event()
        self._stopped = threading.Event()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="job", daemon=True)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._enabled.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
        self._thread.join(10)

    def go(self) -> None:
        """Start runs from now on."""
        self._enabled.set()

    def pause(self) -> None:
        """Start no more runs; returns when the one under way has ended."""
        self._enabled.clear()
        self._idle.wait(RUN_WITHIN)

    def command(self, *arguments: str, within: float = RUN_WITHIN) -> tuple[int, str]:
        """Another command of the application: its exit code and what it wrote."""
        with self._log.open("ab") as errors:
            done = subprocess.run(
                [sys.executable, "-m", "catalog_sync", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                text=True,
                timeout=within,
                check=False,
            )
        return done.returncode, done.stdout

    def _loop(self) -> None:
        while True:
            self._idle.set()
            self._enabled.wait()
            if self._stopped.wait(GAP):
                return
            self._idle.clear()
            if self._enabled.is_set():
                self._once()
                if len(self.runs) % READ_EVERY == 0:
                    self.command("search", "--limit", "1", "--json")

    def _once(self) -> None:
        started, arguments = time.time(), self.arguments
        if self.order is not None:
            self._note(started, self.order(), 0, arguments)
            return
        with self._log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*self.through, sys.executable, "-m", "catalog_sync", "run", "--json", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                text=True,
            )
        try:
            out, _ = self._process.communicate(timeout=RUN_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, _ = self._process.communicate()
        self._note(started, json.loads(out) if out.strip() else {}, self._process.returncode, arguments)

    def _note(self, started: float, report: dict[str, Any], code: int, arguments: tuple[str, ...]) -> None:
        error = report.get("error") or {}
        self.runs.append(
            Run(
                started,
                time.time(),
                code,
                report.get("outcome", "none"),
                error.get("type"),
                report.get("correlation_id"),
                bool(arguments),
            )
        )


class Fleet:
    """The API and a worker: syncs that are ordered, and run by another process."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = _inherited() | environment | {"CATALOG_JOBS": "workers"}
        self._folder = folder
        self._alive = folder / "worker.alive"
        self._running = contextlib.ExitStack()
        self._api: ApiProcess | None = None

    def start(self) -> None:
        """Returns when the API answers and the worker works. Raises ``RuntimeError`` when that takes too long."""
        self._api = self._running.enter_context(ApiProcess(self._folder, self._environment))
        self._running.enter_context(self._worker())
        give_up = time.monotonic() + FLEET_WITHIN
        while not self._alive.exists():
            if time.monotonic() > give_up:
                raise RuntimeError(f"the worker did not start: {self._folder / 'worker.log'}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends both."""
        self._running.close()
        self._api = None

    @contextlib.contextmanager
    def _worker(self) -> Iterator[None]:
        command = [sys.executable, "-m", "catalog_sync.worker", "--concurrency", "2", "--health-file", str(self._alive)]
        with (self._folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def sync(self) -> dict[str, Any]:
        """Orders a full sync and waits for its end: its report, or nothing if it does not come."""
        import httpx

        api = self._api
        if api is None:
            return {}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with contextlib.suppress(httpx.TransportError):
            order = loopback.post(f"{api.base_url}/syncs", json={"kind": "full"}, headers=headers)
            if order.status_code != 202:
                return {"outcome": f"refused {order.status_code}"}
            give_up = time.monotonic() + RUN_WITHIN
            while time.monotonic() < give_up:
                job = loopback.get(f"{api.base_url}/syncs/{order.json()['id']}").json()
                if job["status"] in {"finished", "cancelled"}:
                    return job["report"] or {}
                time.sleep(0.1)
        return {}


@dataclass(slots=True)
class World:
    """All running programs, and the knobs to turn."""

    pace: paces.Pace
    supplier: Supplier
    redis: RedisServer
    collector: Collector
    prometheus: Prometheus
    alertmanager: Alertmanager
    receiver: Receiver
    tempo: OtlpSink
    loki: OtlpSink
    job: Job
    fleet: Fleet
    folder: Path
    notes: list[str] = field(default_factory=list)
    forgot_at: float = 0.0
    """When the messages of earlier incidents stopped counting, in seconds since the epoch."""

    def wrong_clock(self, seconds: int) -> tuple[str, ...]:
        """What to put before a command so that its clock is that many seconds ahead."""
        library = self.folder / "clock_offset.so"
        source = Path(__file__).with_name("clock_offset.c")
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source], check=True)
        return ("env", f"LD_PRELOAD={library}", f"CLOCK_OFFSET_S={seconds}")

    def forget(self) -> None:
        """Starts an incident as if those before it were long ago: the messages about them no longer count.

        The application bounds what it sends about one fingerprint within an hour, and Alertmanager remembers a group
        for half a minute: neither time can be compressed.
        """
        self.job.pause()
        for file in self._files():
            file.unlink()
        for key in self._keys():
            self.redis.command("DEL", key)
        self.alertmanager.forget()
        self.forgot_at = time.time()
        self.job.go()

    def over(self) -> set[str]:
        """Fingerprints of the application's incidents that are over, whether that was notified yet or not.

        A recurring incident is reported as over only when the hourly limit of messages allows it.
        """
        calm_for = float(paces.application(self.pace)["ERROR_ALERT_KEEP_FIRING_S"])
        calm = {
            record["fingerprint"]: min(record["over_at"] or math.inf, (record["calm_since"] or math.inf) + calm_for)
            for record in self._records()
        }
        return {fingerprint for fingerprint, at in calm.items() if at <= time.time()}

    def _records(self) -> Iterator[dict[str, Any]]:
        """The incidents on disk, and then those in the store that takes precedence, if it is there."""
        for file in self._files():
            with contextlib.suppress(FileNotFoundError):  # forgotten meanwhile
                yield json.loads(file.read_text(encoding="utf-8"))
        for key in self._keys():
            yield from map(json.loads, self.redis.command("HVALS", key))

    def _files(self) -> list[Path]:
        return list((self.folder / STATE / "alerts" / "incidents").glob("*.json"))

    def _keys(self) -> list[Any]:
        try:
            return list(self.redis.command("KEYS", "*:incidents"))
        except redis.ConnectionError:  # an incident took it away
            return []

    def firing(self) -> set[str]:
        """Names of the alerts that are firing now, except the heartbeat."""
        return {alert["labels"]["alertname"] for alert in self._alerts() if alert["state"] == "firing"}

    def is_watched(self) -> bool:
        """Whether Prometheus has reached every target and no rule waits to fire because it had not.

        It looks for its first targets some seconds after its start; until then they are missing to the rules.
        """
        reached = self.prometheus.value("sum(up)")
        return reached == len(TARGETS) and not self._alerts()

    def _alerts(self) -> list[dict[str, Any]]:
        return [alert for alert in self.prometheus.alerts() if alert["labels"].get("severity") != "none"]


@contextlib.contextmanager
def running_world(folder: Path, pace: paces.Pace, bundles: int = BUNDLES) -> Iterator[World]:
    """Starts everything, and stops all of it at the end. The remaining files are in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        receiver = start(running_receiver())
        tempo, loki = start(otlp_sink()), start(otlp_sink())
        alerting = start(Alertmanager(folder / "alertmanager", paces.routing(pace, receiver.url)))
        own = free_port()
        targets = dict(zip(TARGETS, (f"127.0.0.1:{own}", address(tempo.url), address(loki.url)), strict=True))
        prometheus = _prometheus(folder / "prometheus", pace, alerting.port, targets)
        start(prometheus)
        collector = Collector(
            "single",
            folder / "collector",
            TEMPO_OTLP_ENDPOINT=tempo.url,
            LOKI_OTLP_ENDPOINT=loki.url,
            PROMETHEUS_REMOTE_WRITE_ENDPOINT=prometheus.remote_write,
            OTELCOL_SELF_PORT=str(own),
            **paces.collector(pace),
        )
        start(collector)
        times = paces.application(pace) | {"CATALOG_PAGE_SIZE": str(-(-bundles // PAGES))}
        supplier = start(running_simulator(collector.url, times, folder / "simulator.log", bundles))
        redis = start(RedisServer(folder / "redis"))
        environment = times | {
            "CATALOG_STATE_DIR": str(folder / STATE),
            "ESIM_GO_API_KEY": API_KEY,
            "ESIM_GO_BASE_URL": supplier.base_url,
            "REDIS_URL": redis.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "ERROR_ALERT_WEBHOOK_URL": f"{receiver.url}/webhook",
            "ERROR_ALERT_FALLBACK_WEBHOOK_URL": f"{receiver.url}/fallback",
            "ERROR_ALERT_HEARTBEAT_URL": f"{receiver.url}{BEAT}",
            "ERROR_ALERT_TRACE_URL": "http://localhost:3000/explore?trace={trace_id}",
        }
        job = start(Job(environment, folder / "job.log"))
        fleet = Fleet(environment, folder)
        stack.callback(fleet.stop)
        yield World(pace, supplier, redis, collector, prometheus, alerting, receiver, tempo, loki, job, fleet, folder)


def address(url: str) -> str:
    """Host and port of a base URL."""
    return url.partition("://")[2]


def _prometheus(folder: Path, pace: paces.Pace, alerting_port: int, targets: dict[str, str]) -> Prometheus:
    """Our configuration with the targets that are here, compressed, and our rules."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in paces.rule_files(pace).items():
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False, width=10_000), encoding="utf-8")
    config = yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    config = paces.compressed(config, pace)
    config["rule_files"] = [str(folder / name) for name in ("alerts.yml", "recording.yml")]
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
    ]
    config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alerting_port}"]}]}]}
    options = (
        f"--query.lookback-delta={paces.divided('5m', pace.memory)}",
        # An ended alert is reported only once: repeated, it would open a group in a restarted Alertmanager.
        "--rules.alert.resend-delay=1h",
    )
    return Prometheus(folder, yaml.safe_dump(config, sort_keys=False), *options)
