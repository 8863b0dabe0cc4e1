"""Published types and grammars of Grafana and Prometheus, run by node. They are development packages of npm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from support.programs import missing, require_program

FOLDER = Path(__file__).parents[2] / "grafana/checks"
INSTALL_TIMEOUT = 100.0


def installed() -> Path:
    """The folder with the packages, installed once for each content of package.json.

    Skips if node, npm or the registry is missing.
    """
    require_program("node")
    npm = require_program("npm")
    manifest = (FOLDER / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "catalog-sync/dashboard-checks"
    target = cache / hashlib.sha256(manifest).hexdigest()[:16]
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=cache))
        (staging / "package.json").write_bytes(manifest)
        command = [str(npm), "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            answer = subprocess.run(
                command, cwd=staging, capture_output=True, text=True, timeout=INSTALL_TIMEOUT, check=False
            )
            failure = answer.stderr if answer.returncode else ""
        except subprocess.TimeoutExpired:
            failure = "it took too long"
        if failure:
            shutil.rmtree(staging)
            missing(f"the packages of grafana/checks could not be installed: {failure[-300:]}")
        try:
            staging.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(staging)
    return target


def errors_in(queries: list[tuple[str, str]]) -> list[int]:
    """The number of syntax errors in each query, given with its language (promql, logql, traceql)."""
    with tempfile.TemporaryDirectory(dir=installed()) as work:
        script = shutil.copy(FOLDER / "parse.mjs", work)
        text = json.dumps([{"language": language, "query": query} for language, query in queries])
        answer = subprocess.run(["node", script], input=text, capture_output=True, text=True, timeout=60, check=True)
    found: list[int] = json.loads(answer.stdout)
    return found


def type_errors(dashboards: dict[str, Any]) -> str:
    """The errors of tsc when it checks dashboards against Grafana's published types; empty if there are none."""
    packages = installed()
    with tempfile.TemporaryDirectory(dir=packages) as work:
        lines = ["import type { DashboardFile } from './types';"]
        for number, dashboard in enumerate(dashboards.values()):
            lines.append(f"export const d{number}: DashboardFile = {json.dumps(dashboard, indent=1)};")
        shutil.copy(FOLDER / "types.ts", work)
        source = Path(work) / "dashboards.ts"
        source.write_text("\n".join(lines), encoding="utf-8")
        options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler"]
        compiler = packages / "node_modules/typescript/bin/tsc"
        answer = subprocess.run(
            ["node", compiler, *options, source], capture_output=True, text=True, timeout=100, check=False
        )
    return answer.stdout if answer.returncode else ""
