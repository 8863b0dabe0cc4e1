"""The configurations as data: every component is declared, used and built; rules that `validate` does not check."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.collector import FOLDER, config_arguments, require_collector

CONFIGS = ("single", "gateway", "sampler")
KINDS = ("receivers", "processors", "connectors", "exporters", "extensions")
MODULES = {
    "receivers": {"otlp": "otlpreceiver"},
    "processors": {
        "batch": "batchprocessor",
        "cumulative_to_delta": "cumulativetodeltaprocessor",
        "delta_to_cumulative": "deltatocumulativeprocessor",
        "filter": "filterprocessor",
        "interval": "intervalprocessor",
        "memory_limiter": "memorylimiterprocessor",
        "redaction": "redactionprocessor",
        "tail_sampling": "tailsamplingprocessor",
        "transform": "transformprocessor",
    },
    "connectors": {"forward": "forwardconnector", "span_metrics": "spanmetricsconnector"},
    "exporters": {
        "load_balancing": "loadbalancingexporter",
        "otlp_http": "otlphttpexporter",
        "prometheus_remote_write": "prometheusremotewriteexporter",
    },
    "extensions": {"file_storage": "filestorage", "health_check": "healthcheckextension"},
}
"""Component by its current name, and the module that has it."""
DEPRECATED = (
    "otlphttp", "spanmetrics", "prometheusremotewrite", "loadbalancing", "filestorage", "healthcheck",
    "cumulativetodelta", "deltatocumulative",
)  # fmt: skip


def load(name: str) -> dict[str, Any]:
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    found = yaml.safe_load(text)
    assert isinstance(found, dict)
    return found


def merged(name: str) -> dict[str, Any]:
    """As the Collector merges them: maps are joined, everything else is replaced."""

    def join(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
        result = dict(below)
        for key, value in above.items():
            old = result.get(key)
            result[key] = join(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        return result

    return join(load("common"), load(name))


def used(config: dict[str, Any], kind: str) -> set[str]:
    """The components of a kind that a configuration starts."""
    service = config["service"]
    pipelines = service["pipelines"].values()
    names = {
        "receivers": [name for pipeline in pipelines for name in pipeline["receivers"]],
        "processors": [name for pipeline in pipelines for name in pipeline.get("processors", [])],
        "exporters": [name for pipeline in pipelines for name in pipeline["exporters"]],
        "extensions": service["extensions"],
    }
    connectors = set(config["connectors"])
    if kind == "connectors":
        return connectors & {*names["receivers"], *names["exporters"]}
    return set(names[kind]) - connectors


def component(name: str) -> str:
    """``otlp_http/tempo`` is an ``otlp_http``."""
    return name.partition("/")[0]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_configuration_uses_is_declared(name: str, kind: str) -> None:
    config = merged(name)
    assert used(config, kind) <= config[kind].keys()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_declared_is_used(kind: str) -> None:
    """The common part by one of the three at least, the rest by the one that declares it."""
    assert load("common").get(kind, {}).keys() <= set().union(*(used(merged(name), kind) for name in CONFIGS))
    for name in CONFIGS:
        assert load(name).get(kind, {}).keys() <= used(merged(name), kind)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_connector_ends_one_pipeline_and_begins_another(name: str) -> None:
    config = merged(name)
    for connector in used(config, "connectors"):
        pipelines = config["service"]["pipelines"].values()
        assert any(connector in pipeline["exporters"] for pipeline in pipelines)
        assert any(connector in pipeline["receivers"] for pipeline in pipelines)


def test_the_distribution_holds_exactly_what_is_used() -> None:
    manifest = yaml.safe_load((FOLDER / "manifest.yaml").read_text(encoding="utf-8"))
    for kind in KINDS:
        built = {entry["gomod"].split()[0].rsplit("/", 1)[1] for entry in manifest[kind]}
        needed = {component(item) for name in CONFIGS for item in used(merged(name), kind)}
        assert built == {MODULES[kind][item] for item in needed}


def test_the_distribution_is_of_one_version() -> None:
    manifest = yaml.safe_load((FOLDER / "manifest.yaml").read_text(encoding="utf-8"))
    versions = {entry["gomod"].split()[1] for kind in KINDS for entry in manifest[kind]}
    assert versions == {f"v{manifest['dist']['version']}"}


@pytest.mark.parametrize("name", CONFIGS)
def test_components_have_their_current_names(name: str) -> None:
    """Old ones still validate, and log a warning."""
    config = merged(name)
    assert {component(item) for kind in KINDS for item in config.get(kind, {})}.isdisjoint(DEPRECATED)
    assert all(component(item) in MODULES[kind] for kind in KINDS for item in config.get(kind, {}))


@pytest.mark.parametrize("name", CONFIGS)
def test_memory_is_limited_before_anything_else_where_data_comes_in(name: str) -> None:
    for pipeline in merged(name)["service"]["pipelines"].values():
        if {"otlp", "span_metrics"} & set(pipeline["receivers"]):
            assert pipeline["processors"][0] == "memory_limiter"


@pytest.mark.parametrize("name", ["single", "gateway"])
def test_what_comes_from_clients_is_redacted_before_it_goes_anywhere(name: str) -> None:
    for signal, pipeline in merged(name)["service"]["pipelines"].items():
        if "otlp" in pipeline["receivers"]:
            wanted = (
                ["memory_limiter", "redaction/metrics", "transform/metrics"]
                if signal == "metrics"
                else ["memory_limiter", "transform/lift", "redaction", "transform/lower"]
            )
            assert pipeline["processors"] == wanted


def test_both_walls_of_redaction_know_the_same_secrets() -> None:
    processors = load("common")["processors"]
    for field in ("blocked_key_patterns", "blocked_values", "redact_all_types", "allow_all_keys"):
        assert processors["redaction"][field] == processors["redaction/metrics"][field]


def test_spans_are_counted_before_they_are_sampled() -> None:
    for name in ("single", "sampler"):
        pipelines = merged(name)["service"]["pipelines"]
        assert "tail_sampling" not in pipelines["traces"]["processors"]
        assert pipelines["traces"]["exporters"] == ["span_metrics", "forward/sampled"]
        assert pipelines["traces/sampled"]["processors"] == ["tail_sampling"]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_exporter_has_a_queue_on_disk_that_one_refused_request_does_not_hold_up(name: str) -> None:
    """Several consumers, no merging of requests, retries that outlast an outage but end."""
    config = merged(name)
    for exporter in used(config, "exporters") - {"prometheus_remote_write"}:
        settings = config["exporters"][exporter]
        assert settings["sending_queue"]["storage"] == "file_storage/queue"
        assert settings["sending_queue"]["num_consumers"] >= 32
        assert "batch" not in settings["sending_queue"]
        assert settings["retry_on_failure"]["max_elapsed_time"] == "${env:OTELCOL_RETRY_FOR:-24h}"
    writers = [p for p in config["service"]["pipelines"].values() if "prometheus_remote_write" in p["exporters"]]
    assert [pipeline["receivers"] for pipeline in writers] == [["otlp/relay"]]


def test_the_two_tiers_together_do_what_the_single_one_does() -> None:
    single, gateway, sampler = (merged(name)["service"]["pipelines"] for name in CONFIGS)
    assert gateway["traces"]["processors"] == single["traces"]["processors"]
    assert gateway["logs"] == single["logs"]
    assert gateway["metrics"]["processors"] == single["metrics"]["processors"]
    assert sampler["traces/sampled"] == single["traces/sampled"]
    assert sampler["traces"]["exporters"] == single["traces"]["exporters"]
    assert gateway["metrics/write"] == sampler["metrics/write"] == single["metrics/write"]


VARIABLE = re.compile(r"\$\{env:([A-Z0-9_]+)(?::-((?:[^{}]|\{[^{}]*\})*))?\}")


def variables() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name in ("common", *CONFIGS):
        for variable, default in VARIABLE.findall((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")):
            found.setdefault(variable, set()).add(default)
    return found


def test_every_variable_stands_in_the_readme_with_its_default() -> None:
    documented: dict[str, str] = {}
    for names, defaults in re.findall(
        r"^\| (`[A-Z][^|]*) \| ([^|]*) \|", (FOLDER / "README.md").read_text("utf-8"), re.M
    ):
        documented |= zip(re.findall(r"`([^`]+)`", names), re.findall(r"`([^`]+)`", defaults), strict=True)
    assert {name: {default} for name, default in documented.items()} == variables()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_collector_takes_the_configuration(name: str) -> None:
    binary = require_collector()
    done = subprocess.run([binary, "validate", *config_arguments(name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_built_is_what_the_manifest_says() -> None:
    binary = require_collector()
    listing = yaml.safe_load(subprocess.run([binary, "components"], capture_output=True, check=True).stdout)
    for kind in KINDS:
        assert {entry["name"] for entry in listing[kind]} == MODULES[kind].keys()


def test_without_go_the_build_says_what_to_do(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for tool in ("sh", "dirname", "sed", "cksum", "tr"):
        path = subprocess.run(["sh", "-c", f"command -v {tool}"], capture_output=True, text=True, check=True)
        (commands / tool).symlink_to(path.stdout.strip())
    done = subprocess.run(
        [commands / "sh", FOLDER / "build"],
        env={"PATH": str(commands), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "install Go, then run 'make collector'" in done.stderr
    assert done.stdout == ""
