"""``make image-info``: what the image contains, with versions and licences."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import catalog_sync

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, ROOT / "deploy/image_info.py", "--output", target], check=True, capture_output=True)
    return target


def test_the_bill_names_the_application_and_what_it_needs(folder: Path) -> None:
    bill: dict[str, Any] = json.loads((folder / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["version"] == catalog_sync.__version__
    names = {each["name"] for each in bill["components"]}
    assert {"otel-resilience", "celery", "fastapi", "redis", "opentelemetry-sdk"} <= names
    assert not {"pytest", "mypy", "hypothesis"} & names
    assert len(names) == len(bill["components"])


def test_the_versions_are_those_of_the_lock(folder: Path) -> None:
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    lock = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lock.items()}
    bill = json.loads((folder / "sbom.cdx.json").read_text(encoding="utf-8"))
    for each in bill["components"]:
        assert each["name"] == "otel-resilience" or lock[each["name"]] == each["version"], each["name"]


def test_every_licence_is_stated_and_permissive(folder: Path) -> None:
    lines = (folder / "licences.txt").read_text(encoding="utf-8").splitlines()
    assert lines
    permissive = re.compile(r"MIT|BSD|Apache|MPL|Mozilla|ISC|PSF|Python Software Foundation|LGPL")
    assert [line for line in lines if not permissive.search(line)] == []
