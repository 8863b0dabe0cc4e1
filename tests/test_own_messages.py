"""What the programs say of themselves is not taken for a secret by their own redaction."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from otel_resilience.redaction import redact

ROOT = Path(__file__).parents[1]
SAID_BY = {"debug", "info", "warning", "error", "critical", "exception", "log", "emit", "complain", "text", "append"}
FILLED_IN = "something"


def said(node: ast.AST) -> Iterator[str]:
    """Texts of a message, with a word in each place that is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value.replace("%s", FILLED_IN).replace("%r", FILLED_IN)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(each.value) if isinstance(each, ast.Constant) else FILLED_IN for each in node.values)
    elif isinstance(node, ast.BinOp | ast.IfExp | ast.Tuple | ast.keyword):
        for child in ast.iter_child_nodes(node):
            yield from said(child)


def messages(tree: ast.AST) -> Iterator[str]:
    """Of what is raised, logged or printed."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in SAID_BY or name.endswith(("Error", "_error")):
            for argument in (*node.args, *node.keywords):
                yield from said(argument)


def test_a_message_names_a_setting_or_a_key_and_stays_whole() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for text in messages(ast.parse(path.read_text(encoding="utf-8")))
        if redact(text) != text
    }
    assert not found


def test_it_would_notice_one() -> None:
    [text] = messages(ast.parse('raise AuthenticationError(f"refuses the API key: {why}") from denied'))
    assert redact(text) != text
