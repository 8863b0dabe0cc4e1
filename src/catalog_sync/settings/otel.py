"""The ``OTEL_*`` variables that this application passes on to the SDK, checked before the SDK reads them.

The SDK reads most of them late: when a library is imported, in a thread, after a fork. It drops a value that it cannot
use with a warning that quotes it, or raises if there is no handler. Here each is read once, at the start, without the
SDK but by its rules: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, MutableMapping
from importlib.metadata import entry_points
from typing import Final, Literal, get_args
from urllib.parse import unquote, urlsplit

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings import values
from catalog_sync.settings.variables import Variable
from otel_resilience.telemetry.providers import any_set

Protocol = Literal["http/protobuf", "grpc"]

SIGNALS: Final = ("TRACES", "METRICS", "LOGS")
OTLP: Final = "OTEL_EXPORTER_OTLP_"

_LONGEST: Final = 1e9
_SAMPLERS: Final = (
    "always_on", "always_off", "traceidratio",
    "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
)  # fmt: skip
_GRPC_CODES: Final = frozenset((
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
))  # fmt: skip
LOG_LEVELS: Final = ("debug", "info", "warn", "warning", "error", "critical")
"""Values of ``OTEL_LOG_LEVEL``."""
_SCHEMES: Final = {"http/protobuf": ("http", "https"), "grpc": ("http", "https", "unix", "dns", "")}

# What the SDK accepts without a warning; see opentelemetry.util.re.
_HEADER_NAME: Final = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+")
_HEADER_VALUE: Final = re.compile(r"[ !#-+\--:<-\[\]-~]*")
_GRPC_NAME: Final = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_SENDABLE: Final = re.compile(r"[ -~]*")


def check_otel(environ: Mapping[str, str]) -> None:
    """Checks every non-empty ``OTEL_*`` variable, whether or not its signal is exported.

    Raises ``ConfigurationError`` with one line that names the variable. The values of headers are never quoted. With
    ``OTEL_SDK_DISABLED=true`` only the variables that are still read are checked.
    """
    for variable in _ALWAYS:
        variable.value(environ)
    if sdk_disabled(environ):
        return
    for variable in _OF_THE_SDK:
        variable.value(environ)
    if environ.get("OTEL_CONFIG_FILE", "").strip() and not any_set():
        raise ConfigurationError("OTEL_CONFIG_FILE is not read here: set the other OTEL_* variables instead of it")
    for signal in SIGNALS:
        exporter_names(environ, signal)
        otlp_endpoint(environ, signal)
        _check_client_certificate(environ, signal)
        _check_grpc_headers(environ, signal)
    for name in ("OTEL_BSP_", "OTEL_BLRP_"):
        _check_batch(environ, name)


def tidy_otel(environ: MutableMapping[str, str]) -> None:
    """Rewrites ``OTEL_*`` variables so that the SDK reads them without a warning; their meaning is unchanged.

    According to the specification an empty variable is not set, a trace ratio is 1 by default, and an empty item in a
    list is ignored. ``environ`` is the environment of the process, before OpenTelemetry is imported.
    """
    for name, text in list(environ.items()):
        if not name.startswith("OTEL_"):
            continue
        if name == "OTEL_RESOURCE_ATTRIBUTES":
            text = ",".join(pair.strip() for pair in text.split(",") if pair.strip())
        if tidy := text.strip():
            environ[name] = tidy
        else:
            del environ[name]
    if environ.get("OTEL_TRACES_SAMPLER", "").lower().endswith("traceidratio"):
        environ.setdefault("OTEL_TRACES_SAMPLER_ARG", "1.0")


def sdk_disabled(environ: Mapping[str, str]) -> bool:
    """Whether ``OTEL_SDK_DISABLED`` turns everything off."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exporter_names(environ: Mapping[str, str], signal: str) -> set[str]:
    """Which of ``otlp`` and ``console`` a signal out of :data:`SIGNALS` goes to. Raises ``ConfigurationError``.

    If the process already has an SDK, that one has the exporters, and may know others.
    """
    name = f"OTEL_{signal}_EXPORTER"
    if any_set():
        return {"otlp", "console"} & {word.strip() for word in (environ.get(name) or "otlp").lower().split(",")}
    return set(Variable(name, read=_exporters, default="otlp").value(environ)) - {"none"}


def otlp_variable(environ: Mapping[str, str], signal: str, what: str) -> tuple[str, str] | None:
    """Name and value of the ``OTEL_EXPORTER_OTLP_*`` variable of a signal, else of that for all signals."""
    names = (f"{OTLP}{signal}_{what}", f"{OTLP}{what}")
    return next(((name, text) for name in names if (text := environ.get(name, "").strip())), None)


def otlp_protocol(environ: Mapping[str, str], signal: str) -> Protocol:
    """The protocol of a signal out of :data:`SIGNALS`. Raises ``ConfigurationError``."""
    name, text = otlp_variable(environ, signal, "PROTOCOL") or ("", "http/protobuf")
    known: tuple[Protocol, ...] = get_args(Protocol)
    found = next((each for each in known if each == text.lower()), None)
    if found is None:
        raise ConfigurationError(f"{name}={text.lower()!r} is not allowed: it must be {' or '.join(known)}")
    return found


def otlp_endpoint(environ: Mapping[str, str], signal: str) -> str | None:
    """The full endpoint of a signal out of :data:`SIGNALS`, ``None`` if none is set.

    Raises ``ConfigurationError`` naming the variable.
    """
    protocol = otlp_protocol(environ, signal)
    own = environ.get(f"{OTLP}{signal}_ENDPOINT", "").strip()
    if own:
        _check_endpoint(f"{OTLP}{signal}_ENDPOINT", own, protocol)
        return own
    base = environ.get(f"{OTLP}ENDPOINT", "").strip()
    if not base:
        return None
    _check_endpoint(f"{OTLP}ENDPOINT", base, protocol)
    if protocol != "grpc" and ("?" in base or "#" in base):
        raise ConfigurationError(
            f"{OTLP}ENDPOINT={values.shown_address(base)} is not allowed: a path is added to it, so it must be without"
            f" query and fragment; {OTLP}{signal}_ENDPOINT may have them"
        )
    return base if protocol == "grpc" else f"{base.removesuffix('/')}/v1/{signal.lower()}"


def _check_endpoint(name: str, text: str, protocol: Protocol) -> None:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in _SCHEMES[protocol] and bool(parts.netloc or parts.path)
        port = parts.port
        if protocol == "http/protobuf":
            usable = usable and bool(parts.hostname) and port != 0
        elif ":" in text and "://" not in text:
            usable = urlsplit(f"//{text}").port != 0 or parts.scheme in {"unix", "dns"}  # host:port
    except ValueError:
        usable = False
    if not usable or not values.VISIBLE.fullmatch(text):
        allowed = "http:// or https:// URL" if protocol == "http/protobuf" else "URL or host:port of a gRPC endpoint"
        raise ConfigurationError(f"{name}={values.shown_address(text)} is not allowed: it must be an {allowed}")


def _check_client_certificate(environ: Mapping[str, str], signal: str) -> None:
    """Checks what the SDK would only find out with the first export, in a background thread."""
    key, certificate = (otlp_variable(environ, signal, what) for what in ("CLIENT_KEY", "CLIENT_CERTIFICATE"))
    if key is not None and certificate is None:
        raise ConfigurationError(f"{key[0]} is not allowed without {OTLP}CLIENT_CERTIFICATE")
    if certificate is None:
        return
    name, path = certificate
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(path, None if key is None else key[1], password=lambda: "")
        usable = key is not None or otlp_protocol(environ, signal) != "grpc"
    except (OSError, ValueError):
        usable = False
    if not usable:
        allowed = f"a certificate in PEM format, with its key without passphrase in {OTLP}CLIENT_KEY"
        raise ConfigurationError(f"{name}={values.shortened(path)} is not allowed: it must be {allowed}")


def _check_grpc_headers(environ: Mapping[str, str], signal: str) -> None:
    """HTTP allows more header names than gRPC can send."""
    given = otlp_variable(environ, signal, "HEADERS")
    if given is None or otlp_protocol(environ, signal) != "grpc":
        return
    name, text = given
    names = [unquote(pair.partition("=")[0].strip()).lower() for pair in text.split(",") if pair.strip()]
    if not all(_GRPC_NAME.fullmatch(each) for each in names):
        allowed = "names of letters, digits, '-', '_' and '.', none that begins with grpc- or ends with -bin"
        raise ConfigurationError(f"{name}=*** is not allowed: with gRPC it must have {allowed}")


def _check_batch(environ: Mapping[str, str], prefix: str) -> None:
    batch_name, queue_name = f"{prefix}MAX_EXPORT_BATCH_SIZE", f"{prefix}MAX_QUEUE_SIZE"
    batch = int(environ.get(batch_name, "").strip() or 512)
    queue = int(environ.get(queue_name, "").strip() or 2048)
    if batch > queue:
        raise ConfigurationError(f"{batch_name}={batch} is not allowed: it must be at most {queue_name}={queue}")


def _headers(text: str) -> str:
    """A list of headers that the SDK accepts without a warning, and that HTTP and gRPC can send."""
    allowed = "name=value pairs separated by commas, the values percent-encoded"
    for pair in text.split(","):
        name, equals, value = pair.strip().partition("=")
        name, value = name.strip(), value.strip()
        if not pair.strip():
            continue
        if not equals or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(allowed)
        if not _HEADER_NAME.fullmatch(unquote(name)) or not _SENDABLE.fullmatch(unquote(value)):
            raise ValueError(f"{allowed}, each of visible ASCII characters")
    return text


def _pairs(text: str) -> str:
    for pair in text.split(","):
        name, equals, _ = pair.partition("=")
        if pair.strip() and not (equals and name.strip()):
            raise ValueError("key=value pairs separated by commas, percent-encoded")
    return text


def _installed(group: str, *extra: str) -> values.Reader:
    """Names of components that installed packages offer, separated by commas."""

    def read(text: str) -> str:
        known = {*extra, *(point.name for point in entry_points(group=group))}
        unknown = [name.strip() for name in text.split(",") if name.strip() not in known]
        if unknown:
            raise ValueError(f"one of {', '.join(sorted(known))}; others need their package to be installed")
        return text

    return read


def _exporters(text: str) -> list[str]:
    wanted = [name.strip().lower() for name in text.split(",") if name.strip()]
    if not set(wanted) <= {"otlp", "console", "none"} or ("none" in wanted and len(set(wanted)) > 1):
        raise ValueError("otlp, console, both separated by a comma, or none")
    return wanted


def _patterns(text: str) -> str:
    try:
        for pattern in text.split(","):
            re.compile(pattern.strip())
    except re.error as error:
        raise ValueError("regular expressions separated by commas") from error
    return text


def _grpc_codes(text: str) -> str:
    if not {code.strip().upper() for code in text.split(",") if code.strip()} <= _GRPC_CODES:
        raise ValueError(f"codes of gRPC separated by commas, out of {', '.join(sorted(_GRPC_CODES))}")
    return text


def _unusable(text: str) -> str:
    del text
    raise ValueError("left out: it is experimental and not supported here")


def _propagators(text: str) -> str:
    return text if text.lower() == "none" else str(_installed("opentelemetry_propagator", "none")(text))


_count: Final = values.whole(1, 2**31)
_milliseconds: Final = values.number(0, _LONGEST, exclusive=True, unit="milliseconds")
_whole_milliseconds: Final = values.whole(1, int(_LONGEST))
_seconds: Final = values.number(0, _LONGEST, exclusive=True, unit="seconds")
_flag: Final = values.one_of("true", "false")

_of_otlp: Final[dict[str, values.Reader]] = {
    "TIMEOUT": _seconds,
    "COMPRESSION": values.one_of("gzip", "deflate", "none"),
    "INSECURE": _flag,
    "CERTIFICATE": values.ca_file,
    "CLIENT_KEY": values.readable_file,
    "CLIENT_CERTIFICATE": values.readable_file,
}
_of_batches: Final[dict[str, values.Reader]] = {
    "SCHEDULE_DELAY": _whole_milliseconds,
    "EXPORT_TIMEOUT": _whole_milliseconds,
    "MAX_QUEUE_SIZE": _count,
    "MAX_EXPORT_BATCH_SIZE": _count,
}
_ALWAYS: Final = (
    Variable("OTEL_SDK_DISABLED", read=_flag),
    Variable("OTEL_PROPAGATORS", read=_propagators),
    Variable("OTEL_PYTHON_CONTEXT", read=_installed("opentelemetry_context")),
    *(
        Variable(f"OTEL_PYTHON_{kind}_PROVIDER", read=_installed(f"opentelemetry_{kind.lower()}_provider"))
        for kind in ("TRACER", "METER", "LOGGER")
    ),
    Variable("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", read=values.one_of("logs", "logs/dup")),
    *(Variable(f"{OTLP}{part}HEADERS", read=_headers, secret=True) for part in ("", "TRACES_", "METRICS_", "LOGS_")),
)
_OF_THE_SDK: Final = (
    Variable("OTEL_RESOURCE_ATTRIBUTES", read=_pairs, secret=True),
    Variable("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", read=_installed("opentelemetry_resource_detector", "*")),
    Variable("OTEL_LOG_LEVEL", read=values.one_of(*LOG_LEVELS)),
    Variable("OTEL_PYTHON_ID_GENERATOR", read=_installed("opentelemetry_id_generator")),
    Variable("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", read=_flag),
    Variable("OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES", read=_grpc_codes),
    *(Variable(f"OTEL_PYTHON_{kind}_CONFIGURATOR", read=_unusable) for kind in ("TRACER", "METER", "LOGGER")),
    *(
        Variable(name, read=_patterns)
        for name in (
            "OTEL_PYTHON_EXCLUDED_URLS",
            "OTEL_PYTHON_HTTPX_EXCLUDED_URLS",
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS",
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST",
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE",
        )
    ),
    Variable("OTEL_TRACES_SAMPLER", read=values.one_of(*_SAMPLERS)),
    Variable("OTEL_TRACES_SAMPLER_ARG", read=values.number(0, 1)),
    Variable("OTEL_METRIC_EXPORT_INTERVAL", read=_milliseconds),
    Variable("OTEL_METRIC_EXPORT_TIMEOUT", read=_milliseconds),
    Variable("OTEL_METRICS_EXEMPLAR_FILTER", read=values.one_of("always_on", "always_off", "trace_based")),
    Variable(f"{OTLP}METRICS_TEMPORALITY_PREFERENCE", read=values.one_of("cumulative", "delta", "lowmemory")),
    Variable(
        f"{OTLP}METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        read=values.one_of("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
    ),
    *(
        Variable(name, read=values.whole(0, 2**31))
        for name in (
            "OTEL_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_SPAN_EVENT_COUNT_LIMIT",
            "OTEL_SPAN_LINK_COUNT_LIMIT",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        )
    ),
    *(
        Variable(f"{prefix}{name}", read=read)
        for prefix in ("OTEL_BSP_", "OTEL_BLRP_")
        for name, read in _of_batches.items()
    ),
    *(
        Variable(f"{OTLP}{part}{name}", read=read)
        for part in ("", "TRACES_", "METRICS_", "LOGS_")
        for name, read in _of_otlp.items()
    ),
    *(
        Variable(
            f"OTEL_PYTHON_EXPORTER_OTLP_{protocol}_{part}CREDENTIAL_PROVIDER",
            read=_installed("opentelemetry_otlp_credential_provider"),
        )
        for protocol in ("HTTP", "GRPC")
        for part in ("", "TRACES_", "METRICS_", "LOGS_")
    ),
)
