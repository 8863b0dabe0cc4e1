"""Measures what each of our processes needs: ``python deploy/sizing.py``, on Linux, with a redis-server on the PATH.

One process alone, as cron starts it, comes first. Then ``make up`` runs with its simulator (5,200 bundles) and its
private Redis; a full sync is requested of the API, and while it runs the memory and processor time of every process are
read from /proc. Memory is the proportional set size: pages that the processes of a worker share are divided among them.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IDLE_S = 30.0
EVERY_S = 0.5
TOKEN = "sizing-token"
WHO = {
    "catalog_sync.worker.beat": "scheduler",
    "catalog_sync.worker": "2 workers",
    "celeryd:": "2 workers",  # their own title, if setproctitle is installed
    "catalog_sync.api.command": "API",
    "redis-server": "Redis",
}


def processes() -> Iterator[tuple[str, int]]:
    """Ours, by the name of what they do: those below this process."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pid, stat = int(folder.name), (folder / "stat").read_text()
            parents[pid] = int(stat.rpartition(")")[2].split()[1])
            names[pid] = (folder / "cmdline").read_text()
        except OSError:
            continue
    for pid, command in names.items():
        above = pid
        while above > 1 and above != os.getpid():
            above = parents.get(above, 0)
        name = next((who for part, who in WHO.items() if part in command), None)
        if above == os.getpid() and name:
            yield name, pid


def sample() -> dict[str, tuple[float, float]]:
    """MB of memory and seconds of processor time, by name."""
    memory: dict[str, float] = defaultdict(float)
    cpu: dict[str, float] = defaultdict(float)
    for name, pid in processes():
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)
        memory[name] += int(found[1]) * 1024 / 1e6 if found else 0.0
        cpu[name] += sum(map(int, times[:2])) / os.sysconf("SC_CLK_TCK")
    return {name: (memory[name], cpu[name]) for name in memory}


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as answer:
        return json.load(answer)


def full_sync(base: str, peak: dict[str, float]) -> dict[str, Any]:
    sync = ask(f"{base}/syncs", {"kind": "full", "force": True})
    while (found := ask(f"{base}/syncs/{sync['id']}"))["status"] != "finished":
        for name, (memory, _) in sample().items():
            peak[name] = max(peak[name], memory)
        time.sleep(EVERY_S)
    return dict(found)


def measure_up(env: dict[str, str]) -> None:
    up = subprocess.Popen(
        [sys.executable, "-m", "catalog_sync.up"], env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        lines = iter(up.stderr or ())
        base = next(found[1] for line in lines if (found := re.search(r"page and API: (\S+)", line))).rstrip("/")
        while any(each["status"] not in {"finished", "cancelled"} for each in ask(f"{base}/syncs")["syncs"]):
            time.sleep(1.0)  # the first one, which the scheduler has asked for
        before = sample()
        time.sleep(IDLE_S)
        idle = sample()
        peak: dict[str, float] = defaultdict(float)
        sync = full_sync(base, peak)
        after = sample()
        report = sync["report"]
        took = f"{report['duration_s']:.1f} s"
        print(f"sync through API and workers: {report['outcome']}, {report['bundles']} bundles, {took}")
        for name in sorted(after):
            print(
                f"{name}: {idle[name][0]:.0f} MB idle, {peak[name]:.0f} MB peak; CPU"
                f" {(idle[name][1] - before[name][1]) / IDLE_S:.3f} cores idle, {after[name][1] - idle[name][1]:.1f} s"
                " for the sync"
            )
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate()


def measure_run(env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "catalog_sync", "simulate", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
        try:
            ready = json.loads(simulator.stdout.readline()) if simulator.stdout else {}
            run = subprocess.run(
                [sys.executable, "-m", "catalog_sync", "run", "--json"],
                env=env | {"ESIM_GO_BASE_URL": ready["base_url"], "ESIM_GO_API_KEY": ready["api_key"]},
                stdout=subprocess.PIPE,
                check=True,
            )
            used = resource.getrusage(resource.RUSAGE_CHILDREN)  # the simulator has not ended yet
            report = json.loads(run.stdout)
        finally:
            simulator.terminate()
    print(
        f"catalog-sync run: {report['outcome']}, {report['bundles']} bundles, {report['duration_s']:.1f} s,"
        f" {used.ru_maxrss * 1024 / 1e6:.0f} MB in its largest process, {used.ru_utime + used.ru_stime:.1f} s of CPU"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        plain = {
            name: value for name, value in os.environ.items() if not name.startswith(("CATALOG_", "ESIM_GO_", "OTEL_"))
        }
        env = plain | {"CATALOG_ENV_FILE": "none", "CATALOG_STATE_DIR": folder, "CATALOG_API_PORT": "0"}
        env.pop("REDIS_URL", None)
        measure_run(env)
        measure_up(env | {"CATALOG_API_TOKEN": TOKEN})
