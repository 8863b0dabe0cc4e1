"""A custom message for the generic webhook: JSON with ``{{ field }}`` for the fields of a notification."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from otel_resilience.alerting.channels._text import headline
from otel_resilience.alerting.model.alert import SHOWN_FIELDS, Links, Notification
from otel_resilience.redaction import is_secret_name, register_secret

FIELDS: Final = frozenset(
    {*SHOWN_FIELDS, "headline", "environment", "merged", "duration_s"}
    | {f"links.{link.name}" for link in dataclasses.fields(Links)}
)
"""What may be written between the braces: the fields of the generic webhook, and the ``headline`` that chats show."""

MAX_TEMPLATE: Final = 65_536
"""Characters."""

_PLACEHOLDER: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_BARE: Final = re.compile(r'("(?:[^"\\]|\\.)*")|' + _PLACEHOLDER.pattern)


class MessageTemplate:
    """JSON in which texts hold ``{{ field }}``.

    A string that is exactly one placeholder becomes the field's value: a number, an object, ``null`` if there is none.
    Within a longer string it becomes text, empty if there is none. The template is parsed before it is filled, so the
    message is valid JSON whatever a field contains.

    Examples:
        >>> from otel_resilience.alerting.channels import MessageTemplate, from_url
        >>> template = MessageTemplate('{"text": "{{ severity }}: {{ title }}", "count": {{ count }}}')
        >>> from_url("https://hooks.example/alerts", template=template).name
        'webhook'
    """

    def __init__(self, text: str) -> None:
        """Raises ``ValueError`` if it is not a JSON object, names a field that is not one of :data:`FIELDS`, or has a
        placeholder in a name. The value of a name such as ``token`` is redacted from every log from now on."""
        if len(text) > MAX_TEMPLATE:
            raise ValueError(f"a template of at most {MAX_TEMPLATE:,} characters")
        try:
            # Bare placeholders, as of numbers, are put into quotes first.
            self._parts = json.loads(_BARE.sub(lambda found: found[1] or f'"{found[0]}"', text))
        except RecursionError:
            raise ValueError("a template that is not so deeply nested") from None
        except ValueError as error:
            where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "?"
            raise ValueError(f"a template that is JSON once it is filled; it is not, at {where}") from None
        if not isinstance(self._parts, dict):
            raise ValueError("a template that is a JSON object")  # noqa: TRY004  # an error in a setting
        _check(self._parts)

    def fill(self, notification: Notification) -> dict[str, Any]:
        """The message."""
        values: dict[str, Any] = {**notification.to_json(), "headline": headline(notification)}
        values |= {f"links.{name}": url for name, url in values["links"].items()}
        filled = _filled(self._parts, values)
        return dict(filled)


def _check(part: Any, name: str = "") -> None:
    if isinstance(part, str):
        _check_fields(part)
        if is_secret_name(name) and not _PLACEHOLDER.search(part):
            register_secret(part)
    elif isinstance(part, dict):
        for key, value in part.items():
            if "{{" in key:
                raise ValueError("a template without placeholders in its names")
            _check(value, key)
    elif isinstance(part, list):
        for each in part:
            _check(each, name)


def _check_fields(text: str) -> None:
    for field in _PLACEHOLDER.findall(text):
        if field not in FIELDS:
            near = difflib.get_close_matches(field, FIELDS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"a template with known fields: there is no {field[:40]!r}{hint}")
    if "{{" in _PLACEHOLDER.sub("", text):
        raise ValueError("a template in which every {{ has its field and its }}")


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(part, dict):
        return {key: _filled(value, values) for key, value in part.items()}
    if isinstance(part, list):
        return [_filled(each, values) for each in part]
    if not isinstance(part, str):
        return part
    alone = _PLACEHOLDER.fullmatch(part)
    if alone:
        return values.get(alone[1])
    return _PLACEHOLDER.sub(lambda found: _text(values.get(found[1])), part)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
