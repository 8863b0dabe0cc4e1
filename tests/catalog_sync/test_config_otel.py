"""Every ``OTEL_*`` variable is checked when the settings are read; the message names the variable."""

from __future__ import annotations

import logging
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.util.re import parse_env_headers

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.observability.sdk import setup_telemetry
from catalog_sync.settings.otel import check_otel, tidy_otel
from catalog_sync.settings.settings import Settings
from support.certificates import loopback_certificate
from support.otel_globals import fresh_otel_globals

BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
GRPC = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}

BAD = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318?tenant=4"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:70000"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector: 4318"),
    ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "collector"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "udp"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "brotli"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
    ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "-1"),
    ("OTEL_EXPORTER_OTLP_INSECURE", "maybe"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/nowhere/key.pem"),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/"),
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
    ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "bars"),
    ("OTEL_PROPAGATORS", "b3"),
    ("OTEL_PROPAGATORS", "tracecontext,,baggage"),
    ("OTEL_PYTHON_CONTEXT", "green_threads"),
    ("OTEL_PYTHON_TRACER_PROVIDER", "mine"),
    ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "vault"),
    ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "moon"),
    ("OTEL_TRACES_SAMPLER", "some"),
    ("OTEL_TRACES_SAMPLER_ARG", "half"),
    ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "often"),
    ("OTEL_METRIC_EXPORT_TIMEOUT", "-3"),
    ("OTEL_METRICS_EXEMPLAR_FILTER", "all"),
    ("OTEL_BSP_SCHEDULE_DELAY", "2s"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5000"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "x"),
    ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1.5"),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "long"),
    ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name"),
    ("OTEL_SDK_DISABLED", "perhaps"),
    ("OTEL_TRACES_EXPORTER", "zipkin"),
    ("OTEL_METRICS_EXPORTER", "prometheus"),
    ("OTEL_LOGS_EXPORTER", "none,otlp"),
    ("OTEL_CONFIG_FILE", "/etc/otel.yaml"),
    ("OTEL_LOG_LEVEL", "loud"),
    ("OTEL_PYTHON_ID_GENERATOR", "xray"),
    ("OTEL_PYTHON_TRACER_CONFIGURATOR", "mine"),
    ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "sometimes"),
    ("OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES", "UNAVAILABLE,GONE"),
    ("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "health,["),
    ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", "*secret"),
    ("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "spans"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key: 0123456789"),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", '{"x-api-key": "0123456789"}'),
    ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-api-key%3D0123456789"),
    ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-api-key=ok,0123456789"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=0123%0A456789"),
]
GOOD = [
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "2.5"),
    ("OTEL_PROPAGATORS", "baggage, tracecontext"),
    ("OTEL_PROPAGATORS", "none"),
    ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
    ("OTEL_TRACES_SAMPLER", "traceidratio"),
    ("OTEL_TRACES_SAMPLER", "ParentBased_TraceIdRatio"),
    ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "0"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2048"),
    ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,team=a%20b"),
    ("OTEL_RESOURCE_ATTRIBUTES", ",team=a,, tier=b ,"),
    ("OTEL_RESOURCE_ATTRIBUTES", ","),
    ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic dXNlcjpwYXNz,x-tenant=7"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc%3D%3D"),
    ("OTEL_BSP_SCHEDULE_DELAY", " "),
    ("OTEL_TRACES_EXPORTER", "console, otlp"),
    ("OTEL_LOGS_EXPORTER", "none"),
    ("OTEL_LOG_LEVEL", "error"),
    ("OTEL_PYTHON_ID_GENERATOR", "random"),
    ("OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES", "unavailable, ABORTED"),
    ("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "health,ready$"),
    ("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs/dup"),
]


@pytest.mark.fault("W1")
@pytest.mark.fault("T3")
@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_variable_that_the_sdk_would_read_late_is_refused_with_the_settings(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}[= ]") as refused:
        Settings.from_env({**BASE, name: value})
    assert len(str(refused.value).splitlines()) == 1
    assert "0123" not in str(refused.value)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_program_without_settings_of_ours_refuses_it_too(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}[= ]"):
        setup_telemetry("esim-go-simulator", {**BASE, name: value})


@pytest.mark.parametrize("base", [BASE, GRPC], ids=["http", "grpc"])
@pytest.mark.parametrize(("name", "value"), GOOD)
def test_what_is_accepted_sets_the_sdk_up_without_a_warning(
    name: str, value: str, base: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for given_name, text in {**base, name: value}.items():
        monkeypatch.setenv(given_name, text)
    tidy_otel(os.environ)
    with fresh_otel_globals(), caplog.at_level(logging.WARNING, "opentelemetry"):
        Settings.from_env(os.environ)
        setup_telemetry("catalog-sync", os.environ).shutdown(timeout=0.1)
    said = [record.getMessage() for record in caplog.records if "xport" not in record.getMessage()]
    assert not said


@pytest.mark.slow
@pytest.mark.fault("T3")
@pytest.mark.parametrize(
    ("program", "name", "value"),
    [
        ("catalog_sync run", "OTEL_TRACES_EXPORTER", "zipkin"),
        ("catalog_sync doctor", "OTEL_CONFIG_FILE", "/etc/otel.yaml"),
        ("catalog_sync simulate", "OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("catalog_sync demo", "OTEL_PROPAGATORS", "b3"),
        ("catalog_sync.api.command", "OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("catalog_sync.worker", "OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "["),
        ("catalog_sync.up", "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES", "GONE"),
    ],
)
def test_every_program_refuses_it_in_one_line(program: str, name: str, value: str, tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "CATALOG_STATE_DIR": str(tmp_path), "ESIM_GO_API_KEY": "a-key-0815"}
    done = subprocess.run(
        [sys.executable, "-m", *program.split()],
        env={**environ, name: value},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert name in line


def test_an_unset_variable_and_one_set_to_nothing_are_the_same() -> None:
    environ = {"OTEL_PROPAGATORS": "", "OTEL_BSP_SCHEDULE_DELAY": " ", "OTEL_TRACES_SAMPLER": " always_on ", "HOME": ""}
    tidy_otel(environ)
    assert environ == {"OTEL_TRACES_SAMPLER": "always_on", "HOME": ""}


def test_what_the_sdk_would_warn_of_stands_as_the_specification_reads_it() -> None:
    environ = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_RESOURCE_ATTRIBUTES": ",team=a,, tier=b ,"}
    tidy_otel(environ)
    assert environ == {
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "1.0",
        "OTEL_RESOURCE_ATTRIBUTES": "team=a,tier=b",
    }
    environ = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5", "OTEL_RESOURCE_ATTRIBUTES": ","}
    tidy_otel(environ)
    assert environ == {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}


def test_with_the_sdk_disabled_only_what_is_read_all_the_same_is_checked() -> None:
    check_otel({"OTEL_SDK_DISABLED": "true", "OTEL_METRIC_EXPORT_INTERVAL": "0"})
    with pytest.raises(ConfigurationError, match="OTEL_PROPAGATORS"):
        check_otel({"OTEL_SDK_DISABLED": "true", "OTEL_PROPAGATORS": "b3"})


PART = "OTEL_EXPORTER_OTLP_"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files by name: a certificate and its key, both in one, another key, and what is neither."""
    folder = tmp_path_factory.mktemp("pem")
    certificate, key = loopback_certificate(folder)
    (folder / "other").mkdir()
    _, other = loopback_certificate(folder / "other")
    contents = {
        "both": certificate.read_text() + key.read_text(),
        "cut": "-----BEGIN CERTIFICATE-----",
        "empty": "",
        "junk": "no certificate",
    }
    for name, text in contents.items():
        (folder / f"{name}.pem").write_text(text)
    made = {name: str(folder / f"{name}.pem") for name in contents}
    return {"certificate": str(certificate), "key": str(key), "other": str(other), **made}


@pytest.mark.parametrize(
    "given",
    [
        {"CERTIFICATE": "certificate"},
        {"CLIENT_CERTIFICATE": "certificate", "CLIENT_KEY": "key"},
        {"LOGS_CLIENT_CERTIFICATE": "certificate", "CLIENT_CERTIFICATE": "certificate", "CLIENT_KEY": "key"},
        {"CLIENT_CERTIFICATE": "both"},
    ],
)
def test_certificates_that_can_be_used_are_accepted(given: dict[str, str], pem: dict[str, str]) -> None:
    check_otel({f"{PART}{name}": pem[file] for name, file in given.items()})


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"CERTIFICATE": "cut"}, "CERTIFICATE"),
        ({"CERTIFICATE": "empty"}, "CERTIFICATE"),
        ({"TRACES_CERTIFICATE": "junk"}, "TRACES_CERTIFICATE"),
        ({"CERTIFICATE": "key"}, "CERTIFICATE"),
        ({"CLIENT_KEY": "key"}, "CLIENT_KEY"),
        ({"METRICS_CLIENT_KEY": "key"}, "METRICS_CLIENT_KEY"),
        ({"CLIENT_CERTIFICATE": "certificate"}, "CLIENT_CERTIFICATE"),
        ({"CLIENT_CERTIFICATE": "certificate", "CLIENT_KEY": "other"}, "CLIENT_CERTIFICATE"),
        ({"CLIENT_CERTIFICATE": "junk", "CLIENT_KEY": "key"}, "CLIENT_CERTIFICATE"),
        ({"LOGS_CLIENT_CERTIFICATE": "certificate", "LOGS_CLIENT_KEY": "junk"}, "LOGS_CLIENT_CERTIFICATE"),
    ],
)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_certificates_that_the_first_export_would_fail_with_are_refused(
    given: dict[str, str], named: str, protocol: str, pem: dict[str, str]
) -> None:
    environ = {f"{PART}{name}": pem[file] for name, file in given.items()}
    with pytest.raises(ConfigurationError, match=f"^{PART}{named}[= ]") as refused:
        check_otel({**environ, f"{PART}PROTOCOL": protocol})
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("header", ["a-bin=x", "x-tenant=7,a!b=x", "grpc-timeout=5", "A-Bin=x", "a%21b=x", "a~=b"])
def test_headers_that_grpc_cannot_send_are_refused_for_it_alone(header: str) -> None:
    over_http = {f"{PART}LOGS_HEADERS": header}
    check_otel(over_http)
    with pytest.raises(ConfigurationError, match=rf"^{PART}LOGS_HEADERS=\*\*\* ") as refused:
        check_otel({**over_http, f"{PART}LOGS_PROTOCOL": "grpc"})
    assert len(str(refused.value).splitlines()) == 1
    check_otel({f"{PART}HEADERS": "X-Tenant_1.a=7, authorization=Bearer%20x", f"{PART}PROTOCOL": "grpc"})


def test_a_client_certificate_without_a_file_for_its_key_is_refused_for_grpc(pem: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{PART}CLIENT_CERTIFICATE="):
        check_otel({f"{PART}CLIENT_CERTIFICATE": pem["both"], f"{PART}PROTOCOL": "grpc"})


HEADER_TEXT = st.text(st.sampled_from(string.ascii_letters + string.digits + " =:,;%\"'{}[]\\\t-_.é\n"), max_size=40)


@pytest.mark.fault("T1")
@given(HEADER_TEXT)
def test_headers_that_are_accepted_are_those_that_the_sdk_takes_without_a_warning(text: str) -> None:
    try:
        check_otel({"OTEL_EXPORTER_OTLP_HEADERS": text})
    except ConfigurationError:
        return
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    logger = logging.getLogger("opentelemetry.util.re")
    logger.addHandler(handler)
    try:
        parse_env_headers(text.strip(), liberal=True)
    finally:
        logger.removeHandler(handler)
    assert not records
