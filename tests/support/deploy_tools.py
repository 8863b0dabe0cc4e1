"""helm and the schema of the Compose specification, which `make deploy-tools` builds and fetches."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml

from support.programs import missing

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/catalog-sync"
KUBERNETES = ("1.31.0", "1.37.0")
"""The oldest and the newest version that the chart is checked against."""


@functools.cache
def deploy_tool(name: str) -> Path:
    """``helm`` or ``compose-spec.json``; without it the test is skipped, but fails if ``CI=true``."""
    answer = subprocess.run([ROOT / "deploy/tools", "--path"], capture_output=True, text=True, check=True)
    found = Path(answer.stdout.strip()) / name
    if not found.is_file():
        missing(f"{name} is not there; run: make deploy-tools")
    return found


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs helm without the user's configuration."""
    command = [deploy_tool("helm"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "", "HOME": "/nowhere"})


def template(*arguments: str, version: str = KUBERNETES[0]) -> subprocess.CompletedProcess[str]:
    """``helm template``; with a version of Kubernetes, since a helm built with Go only knows an old one."""
    return helm("template", "catalog-sync", CHART, "--kube-version", version, *arguments)


def render(*arguments: str, version: str = KUBERNETES[0]) -> list[dict[str, Any]]:
    """The objects of ``helm template`` with these values."""
    answer = template(*arguments, version=version)
    assert answer.returncode == 0, answer.stderr
    return [each for each in yaml.safe_load_all(answer.stdout) if each]
