"""No spelling of a secret setting reaches a log, whether or not the setting is well formed."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import os
import re
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.observability.logs import setup_logging
from catalog_sync.settings import secrets as config_secrets
from catalog_sync.settings.otel import check_otel
from catalog_sync.settings.secrets import register_secrets
from catalog_sync.settings.settings import SECRET_NAMES, Settings
from otel_resilience import redaction

URLS = ("REDIS_URL", "ESIM_GO_BASE_URL", "CELERY_BROKER_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "HTTPS_PROXY", "all_proxy")
HEADERS = tuple(f"OTEL_EXPORTER_OTLP_{part}HEADERS" for part in ("", "TRACES_", "METRICS_", "LOGS_"))


def is_a_key(text: str) -> bool:
    """Words of every header and URL are not taken for keys, and random text may be one of them."""
    return text.strip(" \t=:").lower() not in config_secrets._NO_SECRETS


KEY = st.text(st.sampled_from(string.ascii_letters + string.digits), min_size=12, max_size=40).filter(is_a_key)
PUNCTUATED = st.text(
    st.sampled_from(string.ascii_letters + string.digits + "!#$%&*+-./:;=?@^_|~é "), min_size=12, max_size=40
).filter(lambda text: text == text.strip() and any(char.isalnum() for char in text) and is_a_key(text))


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", {})
    monkeypatch.setattr(redaction, "_exact", None)


HEADER_FORMS = (
    "x-api-key={}",
    "x-api-key: {}",
    "x-api-key:{}",
    "x-api-key%3D{}",
    '{{"x-api-key": "{}"}}',
    "{{'x-api-key': '{}'}}",
    '"x-api-key={}"',
    "authorization=Bearer {}",
    "authorization=Bearer%20{}",
    "Authorization: Bearer {}",
    "x-tenant=7; x-api-key={}",
    "x-api-key={};x-tenant=7",
    " {} ",
    "{}\n",
    "\tx-api-key\t=\t{}\r\n",
    "[{}]",
    "x-api-key=={}",
    "x-api-key=a,{}",
    "OTEL_EXPORTER_OTLP_HEADERS=x-api-key={}",
)


def spellings(secret: str) -> Iterator[str]:
    """The spellings in which a library's warning, a traceback or a URL may contain it."""
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield html.escape(secret)
    yield base64.b64encode(secret.encode()).decode()[
        : len(secret.encode()) * 8 // 6
    ]  # the digits that it alone decides


def assert_hidden(secret: str) -> None:
    for spelling in spellings(secret):
        logged = logged_line("a library quotes %s here", spelling)
        assert spelling not in logged, (secret, spelling)
        assert secret not in logged


def refusal(check: Callable[[Mapping[str, str]], object], environ: Mapping[str, str]) -> str:
    """The message about unusable settings; empty if they can be used."""
    try:
        check(environ)
    except ConfigurationError as error:
        return str(error)
    return ""


def logged_line(message: str, *args: object) -> str:
    out = io.StringIO()
    handler = setup_logging(stream=out, json_lines=True)
    try:
        logging.getLogger("a.library").warning(message, *args)
    finally:
        logging.getLogger().removeHandler(handler)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]  # others may log meanwhile, from their threads
    return str(next(line["message"] for line in lines if line["logger"] == "a.library"))


@pytest.mark.fault("T1")
@pytest.mark.parametrize("form", HEADER_FORMS)
@given(secret=KEY)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_key_for_the_collector_is_hidden_however_the_headers_are_written(form: str, secret: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        forget(patch)
        environ = {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": form.format(secret)}
        register_secrets(environ, SECRET_NAMES)
        assert_hidden(secret)
        assert secret not in refusal(check_otel, environ)


@pytest.mark.fault("T1")
@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    "form",
    [
        "redis://:{}@redis:6379/0",
        "redis://user:{}@redis:6379/0",
        "https://{}@host/path",
        "https://user:{}@host:99999/",
        "user:{}@host",
        " 'redis://:{}@redis:6379/0' ",
        "redis//:{}@redis",
        "redis:/:{}@redis",
    ],
)
@given(secret=PUNCTUATED)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_password_in_a_url_is_hidden_even_if_the_url_is_malformed(name: str, form: str, secret: str) -> None:
    for written in (secret, quote(secret, safe="")):
        with pytest.MonkeyPatch.context() as patch:
            forget(patch)
            environ = {name: form.format(written)}
            register_secrets(environ, SECRET_NAMES)
            # The password may look like a user name and a password itself: the whole is hidden, and what follows.
            said = logged_line("cannot use %s", environ[name])
            assert secret not in said
            assert written not in said
            if ":" not in secret and "@" not in secret and "://" not in secret:
                assert_hidden(secret)
            said = refusal(Settings.from_env, environ)
            assert secret not in said
            assert written not in said


@pytest.mark.fault("T1")
@pytest.mark.parametrize("name", sorted(SECRET_NAMES))
@given(secret=PUNCTUATED, padding=st.sampled_from(["{}", " {} ", "{}\n", '"{}"', "\t{}"]))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_secret_setting_is_hidden_whatever_surrounds_it(name: str, secret: str, padding: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        forget(patch)
        environ = {name: padding.format(secret)}
        assert secret not in refusal(Settings.from_env, environ).replace(name, "")
        assert_hidden(secret)


@pytest.mark.fault("T1")
@pytest.mark.parametrize("name", [*URLS, "ERROR_ALERT_TRACE_URL"])
@pytest.mark.parametrize(
    "form", ["http://host/path?password={}", "redis://h?username=u&password={}#end", "h?x=1&api_key={}&auth_token= {}"]
)
@given(secret=KEY)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_secret_in_the_query_of_a_url_is_hidden(name: str, form: str, secret: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        forget(patch)
        environ = {name: form.replace("{}", secret)}
        register_secrets(environ, SECRET_NAMES)
        assert_hidden(secret)
        assert secret not in refusal(Settings.from_env, environ)


@pytest.mark.fault("T1")
@given(secret=PUNCTUATED, times=st.integers(1, 3))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_key_that_was_percent_encoded_more_than_once_is_hidden(secret: str, times: int) -> None:
    written = secret
    for _ in range(times):
        written = quote(written, safe="")
    with pytest.MonkeyPatch.context() as patch:
        forget(patch)
        register_secrets({"OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={written}"}, SECRET_NAMES)
        assert secret not in redaction.redact(f"sent {secret} to the collector")
        assert written not in redaction.redact(f"sent {written} to the collector")


@pytest.mark.fault("T1")
@pytest.mark.parametrize(
    "name",
    sorted(name for name in SECRET_NAMES if not re.search("_URL$|_URL_|_EMAIL$", name)),  # those are URLs
)
def test_a_secret_too_short_to_be_masked_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name}=\*\*\* is not allowed: it must be (4|12) or more visible"):
        Settings.from_env({name: "k3y"})


def test_a_long_token_is_hidden_to_its_end() -> None:
    token = "".join(f"{number:04x}" for number in range(900))
    register_secrets({"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {token}"}, SECRET_NAMES)
    assert token[-40:] not in redaction.redact(f"refused: {token}")
    assert token[2000:2040] not in redaction.redact(f"refused: {token}")


def test_a_secret_in_two_lines_is_hidden_in_both() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({"ESIM_GO_API_KEY": "first-half-of-it\nsecond-half-of-it"})
    assert "half" not in str(refused.value)
    assert "half" not in redaction.redact(repr("first-half-of-it\nsecond-half-of-it"))


@pytest.mark.parametrize(
    "url", ["redis://:s3cret-pass-word", "redis://:s3cret/pass@h", "default:s3cret-pass", "x?pw=s3cret"]
)
def test_a_url_that_cannot_be_used_is_shown_only_where_nothing_in_it_can_be_a_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({"REDIS_URL": url})
    assert "s3cret" not in str(refused.value)


def test_ordinary_words_of_headers_stay_readable() -> None:
    register_secrets({"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=shop,content-type=application/json"}, SECRET_NAMES)
    text = "catalog-sync of the shop sent application/json"
    assert redaction.redact(text) == text


def test_a_short_key_under_a_secret_name_is_hidden() -> None:
    register_secrets({"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=shop,x-api-key=k3y5"}, SECRET_NAMES)
    assert redaction.redact("sent k3y5 of the shop") == "sent *** of the shop"


def test_what_is_logged_before_logs_are_set_up_is_masked_too() -> None:
    code = (
        "import logging\n"
        "from catalog_sync.programs import register_environment_secrets\n"
        "register_environment_secrets()\n"
        f"logging.getLogger('a.library').warning('header %s', {SECRET!r})\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ESIM_GO_API_KEY": SECRET},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "header ***" in ended.stderr


def test_what_a_thread_of_a_program_raises_is_masked_too() -> None:
    code = (
        "import threading\n"
        "from catalog_sync.programs import run_program\n"
        "def fail(): raise RuntimeError('refused: ' + __import__('os').environ['ESIM_GO_API_KEY'])\n"
        "def body():\n"
        "    thread = threading.Thread(target=fail); thread.start(); thread.join(); fail()\n"
        "raise SystemExit(run_program('a-program', body))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ESIM_GO_API_KEY": SECRET},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("refused: ***") >= 2
    assert SECRET not in ended.stderr
    assert ended.stderr.splitlines()[-1] == "a-program: unexpected error: RuntimeError: refused: ***"


SECRET = "hidden-Key-0815-4711"
MALFORMED = (
    {"OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key: {SECRET}"},
    {"OTEL_EXPORTER_OTLP_LOGS_HEADERS": json.dumps({"x-api-key": SECRET})},
    {"REDIS_URL": f"redis://:{SECRET}"},
    {"ESIM_GO_API_KEY": f"two {SECRET}"},
)
PROGRAMS = (
    ("catalog_sync", "run"),
    ("catalog_sync", "status", "--json"),
    ("catalog_sync", "doctor"),
    ("catalog_sync.api.command",),
    ("catalog_sync.worker",),
    ("catalog_sync.worker.beat",),
)


@pytest.mark.fault("T1")
@pytest.mark.parametrize(
    ("program", "environ"),
    [(program, MALFORMED[number % len(MALFORMED)]) for number, program in enumerate(PROGRAMS)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_program_that_refuses_a_malformed_secret_does_not_show_it(
    program: tuple[str, ...], environ: dict[str, str], tmp_path: Path
) -> None:
    given_environ = {
        **{name: text for name, text in os.environ.items() if not name.startswith(("OTEL_", "CATALOG_", "ERROR_"))},
        "CATALOG_STATE_DIR": str(tmp_path),
        "ESIM_GO_API_KEY": "another-key-1234",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        **environ,
    }
    ended = subprocess.run(
        [sys.executable, "-m", *program], env=given_environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert next(iter(environ)) in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert SECRET not in ended.stdout + ended.stderr
