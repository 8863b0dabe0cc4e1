"""Registers every secret in the environment with :mod:`otel_resilience.redaction`, in whatever form it is written.

Nothing here relies on a setting being well formed: malformed ones are what libraries quote in warnings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote, unquote_plus

from otel_resilience.redaction import MAX_SECRET, is_secret_name, register_secret

MIN_PART: Final = 8
"""Minimum characters of a part of a secret to be registered separately; shorter ones are ordinary words."""
MIN_PATH: Final = 16
"""The same for parts of a URL's path, which often name a service."""
MAX_ENCODINGS: Final = 3
"""Maximum times that a value may have been percent-encoded repeatedly."""

_URL_NAMES: Final = re.compile(r"(?i).*(?:_URL|_URI|_DSN|_ENDPOINT|_PROXY|_PROXY_URL|_BACKEND)|.*PROXY")
"""Variables of any program that contain URLs, and possibly passwords."""
_HEADERS: Final = re.compile(r"OTEL_EXPORTER_OTLP_(?:[A-Z]+_)?HEADERS")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_SEPARATORS: Final = re.compile(r"[\s,;=:{}\[\]()<>\"'`|&\\]+")
_URL_SEPARATORS: Final = re.compile(r"[:/@?#&=]+")
_NO_SECRETS: Final = frozenset(
    {
        "authorization", "proxy-authorization", "application", "application/json", "application/x-protobuf", "identity",
        "content-type", "content-encoding", "user-agent", "x-api-key", "catalog-sync", "catalog-api", "catalog-worker",
        "esim-go-simulator", "localhost", "127.0.0.1", "production", "development",
    }
)  # fmt: skip
"""Words in headers and URLs that are long enough to be mistaken for a secret."""


def register_secrets(environ: Mapping[str, str], names: frozenset[str]) -> None:
    """Registers the values of the variables ``names``, the headers for the collector and the credentials in all URLs.

    A value is registered as is, without surrounding quotes, percent-decoded, and in the parts into which a parser or a
    line break may split it.
    """
    for name, text in environ.items():
        if name in names:
            _register_value(text)
        elif _HEADERS.fullmatch(name):
            _register_headers(text)
        elif _URL_NAMES.fullmatch(name):
            _register_user_information(text)
            _register_secret_parameters(text)


def _register_value(text: str) -> None:
    for form in _forms(text):
        _register(form)
        for part in form.split():
            _register(part, MIN_PART)
        if "://" in form:
            _register_user_information(form)
            _register_path_and_query(form)


def _register_headers(text: str) -> None:
    for pair in text.split(","):
        name, _, value = pair.partition("=")
        if value.strip():
            _register_words(value, short=is_secret_name(name) or not _NAME.fullmatch(name.strip()))
        else:
            # Name and value cannot be separated here: all of it counts, including percent-encoded separators.
            _register_words(name, short=True)


def _register_words(text: str, *, short: bool) -> None:
    """``short``: the last word is registered even if it is short: "Bearer k3y", "x-api-key: k3y"."""
    for form in _forms(text):
        _register(form.strip(" \t=:"), MIN_PART)
        words = [word for word in _SEPARATORS.split(form) if word]
        for number, word in enumerate(words, start=1):
            _register(word, 0 if short and number == len(words) else MIN_PART)
        for word in form.split():
            _register(word, MIN_PART)


def _register_user_information(text: str) -> None:
    """Everything before the last @, whatever it contains: a malformed URL may have a slash in the password."""
    for form in _forms(text):
        rest = form.partition("://")[2] if "://" in form else form
        credentials, at, _ = rest.rpartition("@")
        if not at:
            continue
        user, colon, password = credentials.partition(":")
        secret = password if colon else user
        for spelling in (credentials, secret, secret.lstrip("/:")):  # "redis:/:password@host"
            _register(spelling)
            _register(unquote(spelling))
        for part in _URL_SEPARATORS.split(credentials):  # split as a parser would if it is not percent-encoded
            _register(part, MIN_PART)


def _register_secret_parameters(text: str) -> None:
    """The values of query parameters whose names say that they are secret."""
    for pair in text.partition("?")[2].partition("#")[0].split("&"):
        name, _, value = pair.partition("=")
        if is_secret_name(unquote_plus(name)):
            _register(value.strip())
            _register(unquote_plus(value).strip())


def _register_path_and_query(text: str) -> None:
    """For a URL that is itself a credential: libraries quote its path without the host."""
    head, _, query = text.partition("://")[2].partition("?")
    path = head.partition("/")[2]
    _register(path, MIN_PATH)
    for part in path.split("/"):
        _register(part, MIN_PATH)
    for pair in query.partition("#")[0].split("&"):
        value = pair.partition("=")[2]
        _register(value, MIN_PART)
        _register(unquote_plus(value), MIN_PART)


def _forms(text: str) -> Iterator[str]:
    stripped = text.strip().strip("\"'`").strip()
    forms = [text.strip(), stripped, unquote_plus(stripped)]
    decoded = stripped
    for _ in range(MAX_ENCODINGS):
        decoded = unquote(decoded)
        forms.append(decoded)
    yield from dict.fromkeys(forms)


def _register(secret: str, least: int = 0) -> None:
    """One spelling, in pieces short enough to be matched as a whole."""
    if len(secret) < least or secret.lower() in _NO_SECRETS:
        return
    for start in range(0, len(secret), MAX_SECRET):
        register_secret(secret[start : start + MAX_SECRET])
