"""The file ``.env`` in the working folder: variables with lower priority than the environment.

They become variables of this process, since OpenTelemetry's SDK and child processes read them too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings.settings import VARIABLES

NAME: Final = "CATALOG_ENV_FILE"

_DEFAULT: Final = ".env"
_OURS: Final = ("CATALOG_", "ERROR_", "ESIM_GO_", "OTEL_")
_NAMES: Final = frozenset(variable.name for variable in VARIABLES)


def load_env_file(environ: MutableMapping[str, str]) -> None:
    """Adds the variables that ``environ``, the environment of the process, lacks. Done once, for child processes too.

    Variables of other programs are ignored. A variable that is set to an empty value in the environment stays so.
    Raises ``ConfigurationError`` if the named file, or a line of it, cannot be read; no value is ever quoted.
    """
    named = environ.get(NAME, "").strip()
    if named.lower() == "none":
        return
    text = _text(named)
    if text is not None:
        found = dict(_variables(text, named or _DEFAULT))
        for name, value in found.items():
            environ.setdefault(name, value)
    environ[NAME] = "none"


def _text(named: str) -> str | None:
    path = Path(named or _DEFAULT)
    try:
        absent = not named and (not path.exists() or path.is_dir())
    except OSError:  # a working folder that this user may not enter, as after sudo -u
        absent = True
    if absent:
        return None
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:  # its message would quote the file
        text = "\0"
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise ConfigurationError(f"{f'{NAME}={named}' if named else path} cannot be read: {reason}") from error
    if "\0" in text:  # as in UTF-16 without a byte order mark; no variable can contain it
        raise ConfigurationError(f"{path} cannot be read: it is not UTF-8 text")
    return text


def _variables(text: str, file: str) -> Iterator[tuple[str, str]]:
    for line in parse_stream(io.StringIO(text)):
        if line.error:
            raise ConfigurationError(
                f"{file}, line {_number(line)} cannot be read: it must be NAME=value or # a comment"
            )
        if line.key is None or not (line.key in _NAMES or line.key.upper().startswith(_OURS)):
            continue
        if line.value is None:
            raise ConfigurationError(f"{file}, line {_number(line)}: {line.key} is without =")
        if line.key == NAME:
            raise ConfigurationError(f"{file}, line {_number(line)}: {NAME} can be set in the environment alone")
        yield line.key, line.value


def _number(line: Binding) -> int:
    """The number of a line; its text includes the empty lines before it."""
    text = line.original.string
    return line.original.line + len(re.findall(r"\r\n|\n|\r", text[: len(text) - len(text.lstrip())]))
