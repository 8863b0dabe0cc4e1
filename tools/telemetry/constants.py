"""The modules of constants: ``contract.py`` of the library and of the application."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.telemetry import registry
from tools.telemetry.registry import Entry, Registry, generation
from tools.telemetry.signals import span_name

SOURCE: Final = registry.ROOT.parent / "src"


@dataclasses.dataclass(frozen=True)
class Module:
    """One generated module."""

    path: Path
    folder: str
    """Of the registry."""
    summary: str
    scope: str
    imports: str


MODULES: Final = (
    Module(
        SOURCE / "otel_resilience" / "telemetry" / "contract.py",
        "resilience",
        "The telemetry that this library emits: every name, unit and attribute.",
        "otel_resilience",
        "from otel_resilience.telemetry.definitions import Metric as Metric\n",
    ),
    Module(
        SOURCE / "catalog_sync" / "observability" / "contract.py",
        "catalog",
        "The telemetry that the application adds: every name, unit and attribute.",
        "catalog_sync",
        "from otel_resilience.telemetry.contract import CORRELATION_ID as CORRELATION_ID\n"
        "from otel_resilience.telemetry.definitions import Metric\n",
    ),
)


def render(module: Module) -> str:
    """The text of the module, formatted as the repository's code is."""
    return _formatted("\n".join(_lines(module)) + "\n", module.path)


def _lines(module: Module) -> Iterator[str]:
    names = registry.load(module.folder)
    yield f'"""{module.summary}\n\nGenerated from ``telemetry/{module.folder}`` by ``make docs``.\n"""\n'
    yield f"from __future__ import annotations\n\nfrom typing import Final\n\n{module.imports}"
    yield f'SCOPE: Final = "{module.scope}"\n"""Name of the tracer, the meter and the logger."""'
    yield f'SCHEMA_URL: Final = "{registry.schema_url()}"\n"""The registry that defines the names, and its version."""'
    yield f'PREFIX: Final = "{module.folder}."\n'
    for key, attribute in names.attributes.items():
        yield from _attribute(key, attribute)
    if module.folder == "resilience":
        yield 'ERROR_TYPE: Final = "error.type"\n"""Its values stand in ``classification.error_types``."""'
    for key, vocabulary in names.vocabularies():
        yield from _vocabulary(key, vocabulary)
    yield from _metrics(names)
    for span in names.spans:
        yield from _named(span, span_name(span))
    for event in names.events:
        yield from _named(event, event["name"])


def _attribute(key: str, attribute: Entry) -> Iterator[str]:
    wanted = generation(attribute)
    constants = wanted.get("constant", [])
    for constant in [constants] if isinstance(constants, str) else constants:
        yield f"{constant}: Final = {key!r}\n{_docstring(attribute['brief'])}"
    for constant, values in wanted.get("values", {}).items():
        yield f"{constant}: Final = {tuple(values)!r}\n{_docstring(f'Values of ``{key}``.')}"


def _vocabulary(key: str, vocabulary: Entry) -> Iterator[str]:
    if "constant" not in vocabulary:
        return
    for member in vocabulary["members"]:
        if "constant" in member:
            yield f"{member['constant']}: Final = {member['id']!r}\n{_docstring(member['brief'])}"
    values = tuple(member["id"] for member in vocabulary["members"])
    yield f"{vocabulary['constant']}: Final = {values!r}\n{_docstring(f'Values of ``{key}``.')}"


def _metrics(names: Registry) -> Iterator[str]:
    """A constant for each, if it has a name of its own, and the tuple of all."""
    expressions = []
    for metric in names.metrics:
        constant: str | None = generation(metric).get("constant")
        expression = _metric(metric, names)
        if constant is not None:
            yield f"{constant}: Final = {expression}"
        expressions.append(constant or expression)
    yield f"\nMETRICS: Final = ({', '.join(expressions)},)\n"


def _metric(metric: Entry, names: Registry) -> str:
    attributes = tuple(ref["ref"] for ref in names.refs(metric))
    brief = " ".join(metric["brief"].split())
    bounds = generation(metric).get("boundaries")
    more = f", {tuple(map(float, bounds))!r}" if bounds else ""
    return f"Metric({metric['name']!r}, {metric['instrument']!r}, {metric['unit']!r}, {attributes!r}, {brief!r}{more})"


def _named(signal: Entry, name: str) -> Iterator[str]:
    constant: str | None = generation(signal).get("constant")
    if constant is not None:
        yield f"{constant}: Final = {name!r}\n{_docstring(signal['brief'])}"


def _docstring(brief: str) -> str:
    return f'"""{" ".join(brief.split()).replace("`", "``").replace("````", "``")}"""'


def _formatted(text: str, path: Path) -> str:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or "ruff"
    done = subprocess.run(
        [ruff, "format", "--stdin-filename", str(path), "-"], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout
