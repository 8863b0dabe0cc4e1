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
        "from otel_resilience.telemetry.definitions import Event as Event\n"
        "from otel_resilience.telemetry.definitions import Metric as Metric\n"
        "from otel_resilience.telemetry.definitions import Span as Span\n",
    ),
    Module(
        SOURCE / "catalog_sync" / "observability" / "contract.py",
        "catalog",
        "The telemetry that the application adds: every name, unit and attribute.",
        "catalog_sync",
        "from otel_resilience.telemetry.contract import CORRELATION_ID as CORRELATION_ID\n"
        "from otel_resilience.telemetry.definitions import Event, Metric, Span\n",
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
    yield from _signals("Metric", names.metrics, names)
    yield from _signals("Span", names.spans, names)
    yield from _signals("Event", names.events, names)


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


def _signals(kind: str, signals: list[Entry], names: Registry) -> Iterator[str]:
    """A constant for each, where it has a name of its own, and the tuple of all."""
    expressions = []
    for signal in signals:
        constant: str | None = generation(signal).get("constant")
        expression = _expression(kind, signal, names)
        if constant is not None:
            if kind == "Metric":  # which holds its description
                yield f"{constant}: Final = {expression}"
            else:
                yield f"{constant}: Final = {_name(kind, signal)!r}\n{_docstring(signal['brief'])}"
        expressions.append(constant if constant is not None and kind == "Metric" else expression)
    yield f"\n{kind.upper()}S: Final = ({', '.join(expressions)},)\n"


def _expression(kind: str, signal: Entry, names: Registry) -> str:
    attributes = tuple(ref["ref"] for ref in names.refs(signal))
    brief = " ".join(signal["brief"].split())
    wanted = generation(signal)
    if kind == "Metric":
        bounds = wanted.get("boundaries")
        more = f", {tuple(map(float, bounds))!r}" if bounds else ""
        return (
            f"Metric({signal['name']!r}, {signal['instrument']!r}, {signal['unit']!r}, {attributes!r}, {brief!r}{more})"
        )
    about = signal["kind"].upper() if kind == "Span" else signal["annotations"]["severity"]
    return f"{kind}({_name(kind, signal)!r}, {about!r}, {attributes!r}, {brief!r})"


def _name(kind: str, signal: Entry) -> str:
    return str(generation(signal)["name"] if kind == "Span" else signal["name"])


def _docstring(brief: str) -> str:
    return f'"""{" ".join(brief.split()).replace("`", "``").replace("````", "``")}"""'


def _formatted(text: str, path: Path) -> str:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or "ruff"
    done = subprocess.run(
        [ruff, "format", "--stdin-filename", str(path), "-"], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout
