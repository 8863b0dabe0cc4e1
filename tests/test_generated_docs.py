"""What `make docs` generates from the library is current: its public names and signatures."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import otel_resilience

DOCS = Path(__file__).parents[1] / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_make_docs_writes_is_current() -> None:
    """Where the list of public names differs, the API changes: say so in CHANGELOG.md, then run `make docs`."""
    module = script("public_api")
    assert module.TARGET.read_text(encoding="utf-8") == module.render(), "run `make docs`"


def test_the_list_of_public_names_notices_a_change_of_a_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("public_api")

    def retry(config: int = 3, *, on: str | None) -> None:
        del config, on

    monkeypatch.setattr(otel_resilience, "retry", retry)
    assert "    retry(config: int = 3, *, on: str | None) -> None\n" in module.render()


def test_every_public_name_of_the_library_is_listed() -> None:
    listed = script("public_api").TARGET.read_text(encoding="utf-8")
    first = listed.partition("\n\n")[0]
    words = {"enum", "class", "protocol", "module"}
    found = set()
    for line in first.splitlines()[1:]:
        if line.startswith("    ") and line[4] not in " )":
            name = next(word for word in line.replace("(", " ").split() if word not in words)
            found.add(name)
    assert found == set(otel_resilience.__all__)
