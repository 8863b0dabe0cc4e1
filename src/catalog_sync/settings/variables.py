"""An environment variable as a field of a settings class: name, default, unit, meaning, and allowed values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import Field
from pydantic_core import CoreSchema, core_schema
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings import values
from otel_resilience.redaction import redact_url


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable. An empty value counts as not set."""

    name: str
    read: values.Reader
    default: str = ""
    """The default as text; empty if there is none."""
    unit: str = ""
    secret: bool = False
    """Its value is never shown."""

    def value(self, environ: Mapping[str, str]) -> Any:
        """The value from the environment or the default, ``None`` if there is neither.

        Raises ``ConfigurationError``.
        """
        return self.parsed(environ.get(self.name, "").strip() or self.default or None)

    def parsed(self, text: object) -> Any:
        """The value for ``text``; anything but a string is returned as is. Raises ``ConfigurationError``.

        Not a ``ValueError``, which pydantic would collect together with the values of all variables.
        """
        if not isinstance(text, str):
            return text
        try:
            return self.read(text)
        except (ValueError, OSError, RuntimeError) as error:
            reason = str(error) if isinstance(error, ValueError) else "the path of a folder that can be reached"
            raise ConfigurationError(f"{self.name}={self.shown(text)} is not allowed: it must be {reason}") from error

    def shown(self, text: str) -> str:
        """The value as a message may show it: short, on one line, without secrets."""
        if self.secret or text.lstrip().startswith("{"):  # a message may contain a token
            return "***"
        if self.name.endswith("_URL") or "://" in text or "@" in text:
            return values.shown_address(text)
        return values.shortened(redact_url(text))

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """The field is read only by :meth:`parsed`."""
        return core_schema.no_info_plain_validator_function(self.parsed)


def variable(
    name: str, read: values.Reader, default: str = "", unit: str = "", *, unset: object = None, in_repr: bool = True
) -> Any:
    """A field for a variable, documented by the string below it; without a default, ``unset`` is used.

    The value of a reader that returns :class:`~catalog_sync.settings.values.Secret` is never shown.
    """
    field: Any = Field(default=default or unset, validation_alias=name, repr=in_repr)
    field.metadata.append(
        Variable(name, read, default, unit, read in (values.secret, values.token, values.secret_url, values.mail_url))
    )
    return field


class VariableGroup(BaseSettings):
    """Settings that are read only from a mapping of environment variables."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", case_sensitive=True, enable_decoding=False, validate_default=True,
        arbitrary_types_allowed=True, hide_input_in_errors=True,
    )  # fmt: skip

    @classmethod
    def read(cls, environ: Mapping[str, str], **parts: object) -> Self:
        """The group with the given fields ``parts``, the others from ``environ``. Raises ``ConfigurationError``."""
        environment = EnvSettingsSource(cls)
        environment.env_vars = {name: text.strip() for name, text in environ.items() if text.strip()}
        return cls(_build_sources=((InitSettingsSource(cls, parts), environment), {}))

    def changed(self, **changes: Any) -> Self:
        """A copy with other values of some fields, which are not validated."""
        return self.model_copy(update=changes)

    @classmethod
    def variables(cls) -> Iterator[Variable]:
        """The variables of the group, in the order of its fields."""
        for field in cls.model_fields.values():
            yield from (each for each in field.metadata if isinstance(each, Variable))
