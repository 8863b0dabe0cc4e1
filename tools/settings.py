"""Generates ``.env.example`` and ``docs/configuration.md`` from the fields of the settings classes.

``python -m tools.settings`` writes both below the current folder.
"""

from __future__ import annotations

import ast
import inspect
import itertools
from pathlib import Path
from typing import Final

from catalog_sync.composition import FIRST_ANSWER
from catalog_sync.settings import alerts, settings
from catalog_sync.settings.settings import VARIABLES, Variable

_STANDARD: Final = (
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "OTLP endpoint. If unset, no telemetry is exported and no SDK is loaded."),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "`http/protobuf` or `grpc`."),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "3", "Time limit of one export in seconds, retries included."),
    ("OTEL_EXPORTER_OTLP_HEADERS", "", "`name=value` pairs separated by commas, percent-encoded. Secret: never shown."),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "`gzip`, `deflate` or `none`."),
    ("OTEL_METRIC_EXPORT_INTERVAL", "15000", "Milliseconds between two exports of metrics."),
    ("OTEL_BSP_SCHEDULE_DELAY", "2000", "Milliseconds between two exports of spans."),
    ("OTEL_BLRP_SCHEDULE_DELAY", "2000", "Milliseconds between two exports of logs."),
    ("OTEL_SERVICE_NAME", "", "Name of the service. If unset, the name of the program."),
    ("OTEL_RESOURCE_ATTRIBUTES", "", "Resource attributes; `service.instance.id` is made unique per process."),
    ("OTEL_TRACES_SAMPLER", "parentbased_always_on", "The sampler of the SDK."),
    ("OTEL_TRACES_EXPORTER", "otlp", "`otlp`, `console` (stderr), both, or `none`; also `METRICS` and `LOGS`."),
    ("OTEL_SDK_DISABLED", "false", "With `true` there is no telemetry at all."),
    ("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database", "Stable semantic conventions for HTTP and database spans."),
    ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true", "Whether the SDK measures its own queues, drops and exports."),
    ("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "", "With `logs`, events are only log records; otherwise also on spans."),
)  # fmt: skip
"""Variables of the SDK whose default differs here, or that matter most."""

_SPECIFICATION: Final = "https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/"


def _descriptions() -> dict[str, str]:
    """The string below each field, by the name of its variable. Read from the source, the only place that has it."""
    found = {}
    for module in (settings, alerts):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.ClassDef):
                continue
            for field, below in itertools.pairwise(node.body):
                match field, below:
                    case (
                        ast.AnnAssign(value=ast.Call(args=[ast.Constant(value=str(name)), *_])),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        found[name] = " ".join(text.split())
    return found


def render_env_example() -> str:
    """The text of ``.env.example``: every variable with its default, nothing set."""
    lines = [
        "# Copy this file to .env and change what you need. All variables are optional; defaults are shown.",
        "",
    ]
    descriptions = _descriptions()
    for variable in VARIABLES:
        unit = f" ({variable.unit})" if variable.unit else ""
        lines += [f"# {_plain(descriptions[variable.name])}{unit}", f"#{variable.name}={variable.default}", ""]
    lines += ["# The standard variables of OpenTelemetry, with the defaults of this application.", ""]
    for name, default, description in _STANDARD:
        lines += [f"# {_plain(description)}", f"#{name}={default}", ""]
    return "\n".join(lines).rstrip() + "\n"


def render_markdown() -> str:
    """The text of ``docs/configuration.md``."""
    descriptions = _descriptions()
    lines = [
        "# Configuration",
        "",
        "This page lists all settings of the programs of catalog-sync. They are environment variables, which a program",
        "reads once when it starts. `make docs` generates this page.",
        "",
        "An invalid value ends the program with exit code 2 and one line that names the variable, the value (unless it",
        "may contain a secret) and what is allowed. An empty variable counts as unset.",
        "",
        "Every program also reads the file `.env` in the working directory, as `docker compose` does;",
        "[.env.example](../.env.example) is a template. Only the variables on this page and those that begin with",
        "`OTEL_` are taken from it. A variable in the environment, even an empty one, takes precedence over the file.",
        "Values are taken literally, without the quotes around them (`docker compose` does this only for single",
        "quotes). An invalid line ends the program with exit code 2 and the number of the line.",
        "",
        "For an unknown variable that begins with `CATALOG_`, `ERROR_` or `ESIM_GO_`, the most similar known name is",
        "suggested: `doctor` then ends with exit code 2, and every other program logs a warning.",
        "",
        "Secrets are masked in logs, telemetry and messages, however they are encoded: the values marked below, the",
        "credentials and secret query parameters in any URL, and the headers for the Collector. A text shorter than",
        "four characters cannot be found reliably in other texts, so it is refused as a key, token or signing secret.",
        "",
        "| variable | default | unit | meaning |",
        "|---|---|---|---|",
        *(_row(variable, descriptions[variable.name]) for variable in VARIABLES),
        "",
        "Some variables are checked together. `ERROR_RETRY_BASE_DELAY` must not exceed `ERROR_RETRY_MAX_DELAY`, and",
        "`CATALOG_ATTEMPT_TIMEOUT_MS` must exceed neither `CATALOG_SYNC_DEADLINE_MS` nor half of",
        "`ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD`. `CATALOG_API_OPEN_READS=false` requires `CATALOG_API_TOKEN`.",
        "Link templates and `CATALOG_API_PUBLIC_URL` must not contain a user or password: every recipient gets them.",
        "",
        "## Redis",
        "",
        "`REDIS_URL` names a single server, or the primary of a server with replicas. The nodes of a Redis Cluster and",
        "Sentinels are refused by every program with one line and exit code 2. For TLS with a private certificate",
        "authority, use `rediss://user:password@host:6379/0?ssl_ca_certs=/etc/ca.pem`. An ACL user needs the keys",
        "`*{cat}*`, `*catalog:alerts*`, `*catalog-sync:*` and `*resilience:*`, with all commands including `INFO`.",
        "",
        f"If Redis is silent when a command starts, it gets {FIRST_ANSWER:g} s more, and a message names it. `search`,",
        "`show` and `status` then read the snapshot, and `run` ends with 5. A Redis that has responded once gets the",
        "time of its policy: three attempts of 5 s each, or of `CATALOG_ATTEMPT_TIMEOUT_MS` if that is less.",
        "",
        "An installation that publishes marks its Redis. Another installation, with another `CATALOG_ENVIRONMENT`, or",
        "with another supplier and another state directory, is refused with exit code 2: give each its own",
        "`CATALOG_KEY_PREFIX`, or take over the Redis with `catalog-sync run --force`. Two accounts at one supplier",
        "cannot be distinguished, so they need the prefix or `CATALOG_ENVIRONMENT`. A program that only reads is",
        "refused only if `CATALOG_ENVIRONMENT` differs.",
        "",
        "## Private certificate authorities and proxies",
        "",
        "| connection to | certificates | proxy |",
        "|---|---|---|",
        "| the supplier | `ESIM_GO_CA_FILE` | `ESIM_GO_PROXY` |",
        "| Redis | `ssl_ca_certs` in `REDIS_URL` | none |",
        "| the Collector | `OTEL_EXPORTER_OTLP_CERTIFICATE` | `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` |",
        "| receivers of alerts | `SSL_CERT_FILE` | see [alerting-channels.md](alerting-channels.md#proxies) |",
        "",
        "## OpenTelemetry",
        "",
        f"The SDK reads the [standard variables]({_SPECIFICATION}) itself. They are checked together with the others,",
        "even if their signal is not exported: a value that the SDK would ignore with a warning, or fail on later,",
        "ends the command with exit code 2. These variables have a different default here or are the most important:",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
        *(f"| `{name}` | {_code(default)} | {description} |" for name, default, description in _STANDARD),
    ]
    return "\n".join(lines) + "\n"


def write(root: Path) -> None:
    """Writes both files below ``root``."""
    (root / "docs").mkdir(exist_ok=True)
    (root / ".env.example").write_text(render_env_example(), encoding="utf-8")
    (root / "docs" / "configuration.md").write_text(render_markdown(), encoding="utf-8")


def _row(variable: Variable, description: str) -> str:
    note = " Secret: never shown." if variable.secret else ""
    return f"| `{variable.name}` | {_code(variable.default)} | {variable.unit} | {description}{note} |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _plain(text: str) -> str:
    return text.replace("`", "")


if __name__ == "__main__":
    write(Path.cwd())
