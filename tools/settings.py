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
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "OTLP endpoint. Not set: no telemetry is exported, no SDK is loaded."),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "`http/protobuf` or `grpc`."),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "3", "Seconds for one export, repetitions included."),
    ("OTEL_EXPORTER_OTLP_HEADERS", "", "`name=value` pairs separated by commas, percent-encoded. Secret: never shown."),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "`gzip`, `deflate` or `none`."),
    ("OTEL_METRIC_EXPORT_INTERVAL", "15000", "Milliseconds between two exports of metrics."),
    ("OTEL_BSP_SCHEDULE_DELAY", "2000", "Milliseconds between two exports of spans."),
    ("OTEL_BLRP_SCHEDULE_DELAY", "2000", "Milliseconds between two exports of logs."),
    ("OTEL_SERVICE_NAME", "", "Not set: the name of the service itself."),
    ("OTEL_RESOURCE_ATTRIBUTES", "", "Attributes of the resource; `service.instance.id` is made unique."),
    ("OTEL_TRACES_SAMPLER", "parentbased_always_on", "The sampler of the SDK."),
    ("OTEL_TRACES_EXPORTER", "otlp", "`otlp`, `console` (stderr), both, `none`; `METRICS`, `LOGS` too."),
    ("OTEL_SDK_DISABLED", "false", "`true`: no telemetry at all."),
    ("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database", "Stable semantic conventions of HTTP and database spans."),
    ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true", "The SDK measures itself: queues, drops, exports."),
    ("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "", "`logs`: events as log records alone; else on spans too."),
)  # fmt: skip
"""Variables of the SDK whose default differs here, or that matter most."""

_SPECIFICATION: Final = "https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/"


def _descriptions() -> dict[str, str]:
    """The string below each field, by the name of its variable. Read from the source, where alone it stands."""
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
    lines = ["# Copy to .env and set what differs. Every variable is optional; the values shown are the defaults.", ""]
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
        "Environment variables, read once when a program starts. A wrong value ends the program with exit code 2 and",
        "one line that names the variable, the value (unless it may hold a secret) and what is allowed. A variable",
        "set to nothing counts as not set.",
        "",
        "Every program also reads the file `.env` in the working folder, as `docker compose` does;",
        "[.env.example](../.env.example) is a template for it. Only the variables of this page and those that begin",
        "with `OTEL_` are taken from it. A variable that is set in the environment, even to nothing, wins over the",
        "file. Values are taken literally, without the quotes around them (`docker compose` does that only for single",
        "quotes). A line that cannot be read ends the program with exit code 2 and the number of the line.",
        "",
        "Where a variable begins with `CATALOG_`, `ERROR_` or `ESIM_GO_` and is not on this page, the most similar",
        "known name is suggested: `doctor` then ends with exit code 2, every other program logs a warning.",
        "",
        "Every secret is masked in logs, telemetry and messages in any spelling, well formed or not: the values marked",
        "below, the credentials and secret query parameters in any URL, the headers for the collector. A text shorter",
        "than four characters cannot be found in other texts: as a key, token or signing secret it is refused.",
        "",
        "This page is generated: `make docs`.",
        "",
        "| variable | default | unit | meaning |",
        "|---|---|---|---|",
        *(_row(variable, descriptions[variable.name]) for variable in VARIABLES),
        "",
        "Some are checked together: `ERROR_RETRY_BASE_DELAY` is at most `ERROR_RETRY_MAX_DELAY`;",
        "`CATALOG_ATTEMPT_TIMEOUT_MS` is at most `CATALOG_SYNC_DEADLINE_MS`, and at most half of",
        "`ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD`. `CATALOG_API_OPEN_READS=false` needs `CATALOG_API_TOKEN`.",
        "Link templates and `CATALOG_API_PUBLIC_URL` hold no user and no password: everyone who is notified gets them.",
        "",
        "## Redis",
        "",
        "One server, or the primary of one with replicas. TLS with a private authority is",
        "`rediss://user:password@host:6379/0?ssl_ca_certs=/etc/ca.pem`; a user of an access control list needs the",
        "keys `*{cat}*`, `*catalog:alerts*`, `*catalog-sync:*`, `*resilience:*` and all commands on them, `INFO` too.",
        "A node of a Redis Cluster and a Sentinel are refused by every program, in one line, with exit code 2.",
        "",
        f"A Redis that is silent when a command starts gets {FIRST_ANSWER:g} s more, and is named:",
        "`search`, `show` and `status` then read the snapshot, `run` ends with 5. A Redis that has answered once gets",
        "the time of its policy: three attempts of 5 s, or of `CATALOG_ATTEMPT_TIMEOUT_MS` where that is less.",
        "",
        "The installation that publishes marks its Redis. Another one, which has another `CATALOG_ENVIRONMENT`, or",
        "another supplier and another state folder, is refused with exit code 2: give each a `CATALOG_KEY_PREFIX`,",
        "or take the Redis over with `catalog-sync run --force`. Two accounts at one supplier look alike: they need",
        "the prefix or `CATALOG_ENVIRONMENT`. A program that only reads is refused only where `CATALOG_ENVIRONMENT`",
        "differs.",
        "",
        "## Private authorities and proxies",
        "",
        "| who | certificates | proxy |",
        "|---|---|---|",
        "| the supplier | `ESIM_GO_CA_FILE` | `ESIM_GO_PROXY` |",
        "| Redis | `ssl_ca_certs` in `REDIS_URL` | none |",
        "| the collector | `OTEL_EXPORTER_OTLP_CERTIFICATE` | `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` |",
        "| alerts | `SSL_CERT_FILE` | see [alerting-channels.md](alerting-channels.md) |",
        "",
        "## OpenTelemetry",
        "",
        f"The SDK reads the [standard variables]({_SPECIFICATION}) itself. They are checked with the others,",
        "whether or not their signal is exported: what the SDK would drop with a warning, or raise later, ends the",
        "command with exit code 2. Those that have another default here, or matter most:",
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
