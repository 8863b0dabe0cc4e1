"""Edge cases of redaction: the shortest secret, the longest text, secrets within secrets, odd characters."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Iterator

import pytest

from otel_resilience import redaction
from otel_resilience.redaction import MAX_SECRET, MAX_TEXT, redact, redact_url, register_secret


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


@pytest.mark.parametrize(
    "secrets", [("k9+v2", "k9 v2-longer"), ("k9%20v2", "k9 v2-longer"), ("k9 v2", "k9%20v2-longer")]
)
def test_even_if_they_begin_alike_in_one_of_their_spellings(secrets: tuple[str, str]) -> None:
    for secret in secrets:
        register_secret(secret)
    shorter, longer = secrets
    for spelled in (longer, longer.replace("k9 v2", shorter)):
        assert redact(f"<{spelled}>") == "<***>"


def test_a_secret_of_several_words_is_masked_whole_behind_its_name() -> None:
    register_secret("three little words")
    assert redact("password=three little words refused") == "password=*** refused"


@pytest.mark.parametrize("char", ["&", "<", ">", '"', "'", "%", "+", "\\", "ü", *"\n\r\t\b\f\v\a"])
def test_a_secret_is_masked_to_its_end_in_each_spelling(char: str) -> None:
    register_secret(f"r2{char}d2{char}-")
    register_secret(f"c3p0{char}-")
    for secret in (f"r2{char}d2{char}-", f"c3p0{char}-"):
        for spelled in (
            secret,
            html.escape(secret),
            urllib.parse.quote(secret, safe=""),
            json.dumps(secret)[1:-1],
            repr(secret)[1:-1],
            repr(secret.encode())[2:-1],
        ):
            assert redact(f"<{spelled}>") == "<***>"


@pytest.mark.parametrize("spelled", ["r2d2&amp;", "r2d2&#38;", "r2d2&#x26;", "r2d2%26", r"r2d2\u0026", r"r2d2\x26"])
def test_of_the_last_character_of_a_secret_no_part_is_left(spelled: str) -> None:
    register_secret("r2d2&")
    assert redact(f"<{spelled}>") == "<***>"


@pytest.mark.parametrize(("char", "masked"), [("ÿ", True), ("Ā", False), ("ā", False)])
def test_an_escape_of_two_digits_is_that_of_one_of_the_first_characters(char: str, masked: bool) -> None:
    register_secret(f"{char}r2d2")
    escaped = rf"\x{ord(char):02x}r2d2"
    assert redact(escaped) == ("***" if masked else escaped)


def test_base64_of_a_short_secret_is_masked() -> None:
    register_secret("r2-d2!")
    assert redact(f"<{base64.b64encode(b'r2-d2!').decode()}>") == "<***>"


def test_of_a_text_that_is_cut_no_more_goes_than_a_secret_can_be_long() -> None:
    """In the longest spelling, of six characters for one."""
    assert redact("x" * (MAX_TEXT + 1)) == "x" * (MAX_TEXT - 6 * MAX_SECRET) + "… [cut]"


def test_of_a_text_that_is_one_long_secret_nothing_is_left() -> None:
    assert redact("password=" + "x" * MAX_TEXT) == "… [cut]"


def test_the_value_of_a_parameter_may_hold_what_divides_it_from_its_name() -> None:
    assert redact_url("https://h.example/?api%5Fkey=hid=den") == "https://h.example/?api%5Fkey=***"


def test_base64_of_a_secret_is_masked_up_to_its_last_digit() -> None:
    secret = "r2-d2:c3-p0!"
    register_secret(secret)
    assert redact(f"<{base64.b64encode(secret.encode()).decode()}>") == "<***>"


def test_the_bytes_of_a_secret_with_letters_beyond_ascii_are_masked() -> None:
    register_secret("grüße-an-alle")
    assert redact(repr("<grüße-an-alle>".encode())) == "b'<***>'"


def test_a_secret_that_is_not_valid_text_is_masked() -> None:
    register_secret("half\ud83dpair")
    assert redact("<half\ud83dpair>") == "<***>"
    assert redact(ascii("<half\ud83dpair>")) == "'<***>'"


def test_a_question_mark_in_a_parameter_hides_nothing() -> None:
    assert redact_url("https://h.example/?api%5Fkey=hid?den&page=1") == "https://h.example/?api%5Fkey=***&page=1"


def test_the_fragment_of_a_url_stays() -> None:
    assert redact_url("https://h.example/?api%5Fkey=hidden#part") == "https://h.example/?api%5Fkey=***#part"
