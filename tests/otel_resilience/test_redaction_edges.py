"""Redaction at its edges: the shortest secret, the longest text, secrets within secrets, odd characters."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from otel_resilience import redaction
from otel_resilience.redaction import MAX_TEXT, redact, redact_url, register_secret


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    known, exact = dict(redaction._known), redaction._exact
    yield
    redaction._known, redaction._exact = known, exact


def test_the_shortest_secret_is_registered() -> None:
    register_secret("qz7!")
    assert redact("it is qz7!.") == "it is ***."


def test_text_of_the_greatest_length_is_kept_whole() -> None:
    assert redact("x" * MAX_TEXT) == "x" * MAX_TEXT


@pytest.mark.parametrize("secrets", [("k9v2", "k9v2-longer"), ("k9v2-longer", "k9v2"), ("k9 v2", "k9+v2-longer")])
def test_the_longer_of_two_secrets_that_begin_alike_is_masked_whole(secrets: tuple[str, str]) -> None:
    for secret in secrets:
        register_secret(secret)
    assert redact(f"<{max(secrets, key=len)}>") == "<***>"


def test_base64_of_a_secret_is_masked_up_to_its_last_digit() -> None:
    secret = "r2-d2:c3-p0!"
    register_secret(secret)
    assert redact(f"<{base64.b64encode(secret.encode()).decode()}>") == "<***>"


def test_the_bytes_of_a_secret_with_letters_beyond_ascii_are_masked() -> None:
    register_secret("grüße-an-alle")
    assert redact(repr("<grüße-an-alle>".encode())) == "b'<***>'"


def test_a_secret_that_is_no_valid_text_is_masked() -> None:
    register_secret("half\ud83dpair")
    assert redact("<half\ud83dpair>") == "<***>"
    assert redact(ascii("<half\ud83dpair>")) == "'<***>'"


def test_a_question_mark_in_a_parameter_hides_nothing() -> None:
    assert redact_url("https://h.example/?api%5Fkey=hid?den&page=1") == "https://h.example/?api%5Fkey=***&page=1"


def test_the_fragment_of_a_url_stays() -> None:
    assert redact_url("https://h.example/?api%5Fkey=hidden#part") == "https://h.example/?api%5Fkey=***#part"
