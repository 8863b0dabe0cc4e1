"""Rules for the repository as a whole."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from support import fault_table

ROOT = Path(__file__).parents[1]

SECRETS = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
    "cloud access key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "chat token": re.compile(r"\bxox[abprs]-[0-9]{10,}-[0-9A-Za-z-]{10,}"),
    "chat webhook": re.compile(r"hooks\.slack\.com/services/T[0-9A-Z]{8,}/B[0-9A-Z]{8,}/[0-9A-Za-z]{20,}"),
    "forge token": re.compile(r"\bgh[pousr]_[0-9A-Za-z]{36}\b"),
}


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of tracked files")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_holds_a_secret() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {kind}"
        for path in tracked()
        for kind, shape in SECRETS.items()
        if shape.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


def test_every_relative_link_in_the_documentation_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in tracked("*.md")
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_local_environment_file_is_never_tracked() -> None:
    assert ROOT / ".env" not in tracked()


def test_the_page_of_faults_is_current_and_every_row_is_proven() -> None:
    names = [row.name for group in fault_table.groups().values() for row in group]
    assert len(names) == len(set(names)), "two rows of one name would share their proofs"
    unproven = sorted(fault_table.rows().keys() - fault_table.proofs().keys())
    assert unproven == []
    assert fault_table.PAGE.read_text(encoding="utf-8") == fault_table.page(), "run `make docs`"
