"""Every public name is documented: what it is, its units, what it raises; its example runs.

An example has the names of ``otel_resilience`` and imports the rest.
"""

from __future__ import annotations

import ast
import dataclasses
import doctest
import enum
import functools
import importlib
import inspect
import itertools
import re
import textwrap
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

import pytest

import otel_resilience
from docs import public_api
from otel_resilience.testing import Resilience

OTHER_FLOATS: Final = frozenset(
    {"capacity", "claim", "cost", "exponential_base", "failure_rate", "fraction", "given", "margin", "rate",
     "refill_rate", "slow_call_rate", "success_credit", "throttle_cost", "tokens", "transient_cost",
     "utilization", "value"}
)  # fmt: skip
"""Numbers that are no durations: shares, factors and tokens. All others are seconds, and the docstring says so."""
CHECKS_OF_RANGES: Final = frozenset({"check.count", "check.number", "check.seconds"})
RANGE: Final = re.compile(r"at least|at most|greater than|from 0|0 to 1|\(0, 1\]|negative")
RAISED_BY_CHECKS: Final = ("TypeError", "ValueError")
"""By the functions of ``otel_resilience._internal.validation``."""


def public_names() -> Iterator[tuple[str, Any]]:
    """Each public class and function once, by the shortest path from which it is imported."""
    seen: set[int] = set()
    for module in map(importlib.import_module, public_api.MODULES):
        for name in public_api.public_names(module):
            value = getattr(module, name)
            if (inspect.isclass(value) or inspect.isroutine(value)) and id(value) not in seen:
                seen.add(id(value))
                yield f"{module.__name__}.{name}", value


def members(path: str, kind: type) -> Iterator[tuple[str, Any]]:
    """What a class itself defines and users call or read."""
    for name, value in vars(kind).items():
        unwrapped = getattr(value, "__func__", value)
        if public_api._is_public(name) and (
            inspect.isfunction(unwrapped) or isinstance(value, property | functools.cached_property)
        ):
            yield f"{path}.{name}", unwrapped


NAMES: Final = dict(public_names())
CLASSES: Final[dict[str, Any]] = {path: value for path, value in NAMES.items() if inspect.isclass(value)}
MEMBERS: Final = {path: value for owner, kind in CLASSES.items() for path, value in members(owner, kind)}


def own_doc(value: Any) -> str:
    """Without what a class inherits, and without the signature that a dataclass makes of itself."""
    text = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    made = inspect.isclass(value) and dataclasses.is_dataclass(value) and (text or "").startswith(f"{value.__name__}(")
    return "" if text is None or made else inspect.cleandoc(text)


def doc_for(path: str) -> str:
    """All that a reader is shown: with what bases say, and of a member also what its class says."""
    value = NAMES.get(path)
    if not inspect.isclass(value):
        owner, _, name = path.rpartition(".")
        bases = public_api._ours(CLASSES[owner]) if value is None else []
        shown = [value, *bases, *(vars(base)[name] for base in bases if name in vars(base))]
    else:
        shown = [*public_api._ours(value), vars(value).get("__init__")]
    return " ".join(own_doc(each) for each in shown if each is not None)


@functools.cache
def source_of(value: Any) -> Any:
    """The definition of a class or function, parsed."""
    value = getattr(value, "fget", None) or getattr(value, "func", None) or inspect.unwrap(value)
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def texts_after(body: list[ast.stmt]) -> dict[str, str]:
    """The literals that document the names which are assigned before them."""
    found = {}
    for statement, following in itertools.pairwise(body):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if (
            isinstance(target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            found[target.id] = str(following.value.value)
    return found


@pytest.mark.parametrize(
    "path", ["otel_resilience", *NAMES, *(each for each in MEMBERS if ">>>" in own_doc(MEMBERS[each]))]
)
def test_an_example_runs(path: str, resilience: Resilience) -> None:
    del resilience  # it keeps policies from waiting
    value = otel_resilience if path == "otel_resilience" else NAMES.get(path) or MEMBERS[path]
    names = {name: getattr(otel_resilience, name) for name in otel_resilience.__all__}
    example = doctest.DocTestParser().get_doctest(own_doc(value), names, path, None, None)
    assert example.examples, "it has no example"
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=report.append)
    assert not result.failed, "".join(report)


@pytest.mark.parametrize("path", [*NAMES, *MEMBERS])
def test_it_has_a_docstring(path: str) -> None:
    value = NAMES.get(path) or MEMBERS[path]
    assert own_doc(value), "it has no docstring"


@pytest.mark.parametrize("path", [path for path, kind in CLASSES.items() if issubclass(kind, enum.Enum)])
def test_a_member_of_an_enumeration_is_explained(path: str) -> None:
    documented = texts_after(source_of(CLASSES[path]).body)
    assert not set(CLASSES[path].__members__) - set(documented)


@pytest.mark.parametrize("path", [path for path, kind in CLASSES.items() if dataclasses.is_dataclass(kind)])
def test_a_number_of_a_dataclass_has_its_unit(path: str) -> None:
    documented = texts_after(source_of(CLASSES[path]).body)
    for field in dataclasses.fields(CLASSES[path]):
        if is_duration(field.name, field.type):
            assert "second" in f"{doc_for(path)} {documented.get(field.name, '')}".lower(), field.name


@pytest.mark.parametrize("path", [*NAMES, *MEMBERS])
def test_a_parameter_that_is_a_duration_is_in_seconds(path: str) -> None:
    value = NAMES.get(path) or MEMBERS[path]
    if dataclasses.is_dataclass(value) or isinstance(value, property | functools.cached_property):
        return
    for name, parameter in inspect.signature(value.__init__ if inspect.isclass(value) else value).parameters.items():
        if is_duration(name, parameter.annotation):
            assert "second" in doc_for(path).lower(), name


def is_duration(name: str, annotation: object) -> bool:
    text = str(annotation)
    return "float" in text and "Callable" not in text and name not in OTHER_FLOATS


def written_steps(value: Any) -> Iterator[ast.AST]:
    """What runs where it is called or made, without what a dataclass or a protocol generates."""
    steps = [vars(value).get("__init__"), vars(value).get("__post_init__")] if inspect.isclass(value) else [value]
    for step in steps:
        code = getattr(step, "__code__", None)
        if step is not None and (code is None or code.co_filename not in ("<string>", typing.__file__)):
            yield source_of(step)


def raised_by(definition: ast.AST) -> Iterator[tuple[str, ...]]:
    """The errors that a function raises itself; each as the names of which one must be documented."""
    for node in ast.walk(definition):
        if isinstance(node, ast.Raise) and node.exc is not None:
            named = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(named, ast.Name) and named.id[0].isupper():
                yield (named.id,)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("check."):
            yield RAISED_BY_CHECKS


@pytest.mark.parametrize("path", [*NAMES, *MEMBERS])
def test_what_it_raises_is_named(path: str) -> None:
    doc = doc_for(path)
    for step in written_steps(NAMES.get(path) or MEMBERS[path]):
        for names in raised_by(step):
            assert any(name in doc for name in names), names


@pytest.mark.parametrize("path", [*NAMES, *MEMBERS])
def test_the_range_of_a_number_is_named(path: str) -> None:
    value = NAMES.get(path) or MEMBERS[path]
    fields = texts_after(source_of(CLASSES[path]).body) if dataclasses.is_dataclass(value) else {}
    doc = " ".join([doc_for(path), *fields.values()])
    for step in written_steps(value):
        for call in (ast.unparse(node.func) for node in ast.walk(step) if isinstance(node, ast.Call)):
            assert call not in CHECKS_OF_RANGES or RANGE.search(doc), call


@pytest.mark.parametrize("path", [path for path, kind in CLASSES.items() if dataclasses.is_dataclass(kind)])
def test_a_field_of_a_configuration_is_explained(path: str) -> None:
    documented = texts_after(source_of(CLASSES[path]).body)
    if "__post_init__" in vars(CLASSES[path]):  # what users make; the others are read
        doc = own_doc(CLASSES[path])
        for field in dataclasses.fields(CLASSES[path]):
            assert field.name in documented or f"``{field.name}``" in doc, field.name


@pytest.mark.parametrize("name", public_api.MODULES)
def test_a_constant_is_explained(name: str) -> None:
    module = importlib.import_module(name)
    assert own_doc(module), "the module has no docstring"
    for each in public_api.public_names(module):
        value = getattr(module, each)
        if not (inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, ModuleType)):
            assert each == "__version__" or each in explained(), each


@functools.cache
def explained() -> dict[str, str]:
    """The documented constants of all modules of the library that are loaded."""
    loaded = [inspect.getmodule(value) for value in NAMES.values()]
    found: dict[str, str] = {}
    for module in {module.__name__: module for module in loaded if module is not None}.values():
        found |= texts_after(ast.parse(inspect.getsource(module)).body)
    return found
