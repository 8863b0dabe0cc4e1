"""docker-compose.yml: what a user gets with one command, no secret and no setting."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EACH = pytest.mark.parametrize("name", SERVICES)
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+(-[\w.]+)?")
CANNOT_BE_CHECKED = {"otel-collector"}
"""The image has no shell and the program no such command; Prometheus watches it."""
SECRET = re.compile(r"PASSWORD|KEY|TOKEN|SECRET|WEBHOOK")


def one_shot(service: dict[str, Any]) -> bool:
    return service.get("restart") == "no"


def test_the_stores_and_what_shows_them_are_there() -> None:
    assert {"otel-collector", "prometheus", "tempo", "loki", "grafana", "alert-sink"} <= SERVICES.keys()


@EACH
def test_an_image_is_pinned_to_a_release(name: str) -> None:
    assert PINNED.fullmatch(SERVICES[name]["image"])


@EACH
def test_a_service_says_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    if one_shot(service) or name in CANNOT_BE_CHECKED:
        assert "healthcheck" not in service
        return
    check = service["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries"} <= check.keys()


@EACH
def test_a_port_is_open_on_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_no_port_is_taken_twice() -> None:
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))


@EACH
def test_what_is_mounted_exists(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, _, options = mount.split(":")[0], mount.split(":")[1], mount.split(":")[2:]
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert options == ["ro"], mount
        else:
            assert source in COMPOSE["volumes"]


@EACH
def test_no_variable_must_be_set(name: str) -> None:
    text = json.dumps(SERVICES[name])
    assert re.findall(r"\$\{(\w+)\}|\$(\w+)|\$\{\w+:\?", text) == []
    if name == "grafana":  # to our own processes an empty variable is one that is not set
        assert all(default for default in re.findall(r"\$\{\w+:-([^}]*)\}", text))


@EACH
def test_what_it_waits_for_exists(name: str) -> None:
    assert set(SERVICES[name].get("depends_on", [])) <= SERVICES.keys()


@EACH
def test_secrets_are_taken_from_the_environment(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if SECRET.search(variable):
            assert re.fullmatch(r"\$\{\w+:-[^}]*\}", value), variable


def test_the_scrape_targets_of_prometheus_are_services_and_their_jobs_are_known() -> None:
    from grafana.generate.foreign import JOBS

    config = yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert tuple(jobs) == JOBS
    hosts = {target.split(":")[0] for targets in jobs.values() for target in targets}
    assert hosts - {"localhost"} <= SERVICES.keys()


def test_prometheus_takes_writes_and_examples_and_no_alert_rules() -> None:
    """Grafana evaluates those; twice would tell everything twice."""
    service = SERVICES["prometheus"]
    assert {"--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage"} <= set(service["command"])
    mounted = [mount.split(":")[1] for mount in service["volumes"]]
    assert "/etc/prometheus/rules/recording.yml" in mounted
    assert "/etc/prometheus/rules/alerts.yml" not in mounted


def test_the_stores_keep_their_labels_and_their_graph() -> None:
    loki = yaml.safe_load((ROOT / "grafana/loki/loki.yaml").read_text(encoding="utf-8"))
    labels = loki["distributor"]["otlp_config"]["default_resource_attributes_as_index_labels"]
    assert "service.name" in labels
    assert "service.instance.id" not in labels
    tempo = yaml.safe_load((ROOT / "grafana/tempo/tempo.yaml").read_text(encoding="utf-8"))
    assert tempo["overrides"]["defaults"]["metrics_generator"]["processors"] == ["service-graphs"]


def test_the_collector_counts_spans_as_the_rules_need_it() -> None:
    """By error and dependency, and without forgetting: a forgotten series would be born again with a count of 1."""
    config = yaml.safe_load((ROOT / "otel-collector/common.yaml").read_text(encoding="utf-8"))
    connector = config["connectors"]["span_metrics"]
    assert {"resilience.dependency", "error.type"} <= {dimension["name"] for dimension in connector["dimensions"]}
    assert "metrics_expiration" not in connector


def test_the_image_runs_as_nobody_special_and_is_pinned() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base in bases)
    assert re.search(r"^USER (?!root)\w+", text, re.MULTILINE)
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name


def test_docker_compose_takes_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not here; the checks of structure stand alone")
    answer = subprocess.run(
        [docker, "compose", "--file", ROOT / "docker-compose.yml", "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", ["redis", "worker", "beat", "api", "simulator"])
def test_a_process_of_ours_has_limits_and_may_write_nowhere_but_to_its_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == "unless-stopped"
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()


def test_their_alerts_go_to_the_bundled_receiver_until_somebody_names_another() -> None:
    for name in ("api", "worker"):
        url = SERVICES[name]["environment"]["ERROR_ALERT_WEBHOOK_URL"]
        assert url == "${ERROR_ALERT_WEBHOOK_URL:-http://alert-sink:8025/webhook}"
