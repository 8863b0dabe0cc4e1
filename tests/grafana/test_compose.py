"""docker-compose.yml: what a user gets with one command, without secrets or settings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import catalog_sync
from catalog_sync.settings.env_file import load_env_file
from catalog_sync.settings.settings import VARIABLES, Settings
from support.deploy_tools import deploy_tool

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EACH = pytest.mark.parametrize("name", SERVICES)
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+(-[\w.]+)?")
CANNOT_BE_CHECKED = {"otel-collector"}
"""The image has no shell and the program no such command; Prometheus watches it."""
OURS = ("worker", "beat", "api", "token", "simulator", "alert-sink")
SECRET = re.compile(r"PASSWORD|KEY|TOKEN|SECRET|WEBHOOK")


def one_shot(service: dict[str, Any]) -> bool:
    return service.get("restart") == "no"


@EACH
def test_a_profile_starts_what_it_waits_for(name: str) -> None:
    profiles = set(SERVICES[name]["profiles"])
    assert profiles in ({"app", "full"}, {"full"})
    for other in SERVICES[name].get("depends_on", []):
        assert profiles <= set(SERVICES[other]["profiles"])


def test_what_only_the_whole_picture_has_can_be_switched_off() -> None:
    """With the profile ``app`` an empty variable says that there is no Collector and no Grafana."""
    absent = {name for name, service in SERVICES.items() if "app" not in service["profiles"]}
    ports = {str(port).split(":")[-2] for name in absent for port in SERVICES[name].get("ports", [])}
    of_it = [
        value
        for value in COMPOSE["x-environment"].values()
        if any(f"//{name}:" in value for name in absent) or any(f"localhost:{port}" in value for port in ports)
    ]
    assert len(of_it) == 2
    assert all(re.fullmatch(r"\$\{[A-Z_]+-http://.*\}", value) for value in of_it), of_it


@EACH
def test_nothing_takes_the_memory_of_the_rest(name: str) -> None:
    assert {"mem_limit", "cpus"} <= SERVICES[name].keys()


def test_the_stores_and_what_shows_them_are_there() -> None:
    assert {"otel-collector", "prometheus", "tempo", "loki", "grafana", "alert-sink"} <= SERVICES.keys()


@EACH
def test_an_image_is_pinned_to_a_release_and_to_its_digest_unless_it_is_built_here(name: str) -> None:
    release, mark, digest = SERVICES[name]["image"].partition("@sha256:")
    assert PINNED.fullmatch(release)
    assert bool(mark) == (name not in OURS)
    assert re.fullmatch(r"[0-9a-f]{64}" if mark else "", digest)


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
    text = json.dumps(SERVICES[name]).replace("$$", "")  # an escaped one is the shell's
    assert re.findall(r"\$\{(\w+)\}|\$(\w+)|\$\{\w+:\?", text) == []
    if name == "grafana":  # to our own processes an empty variable is one that is not set
        assert all(default for default in re.findall(r"\$\{\w+:-([^}]*)\}", text))


@EACH
def test_what_it_waits_for_exists(name: str) -> None:
    assert set(SERVICES[name].get("depends_on", [])) <= SERVICES.keys()


@EACH
def test_secrets_are_taken_from_the_environment(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if SECRET.search(variable):  # null: passed on where it is set
            assert value is None or re.fullmatch(r"\$\{\w+:-[^}]*\}", value), variable


def test_every_variable_of_env_reaches_our_programs_and_the_file_may_be_missing() -> None:
    for name in ("api", "worker", "beat", "token"):
        assert SERVICES[name]["env_file"] == [{"path": ".env", "required": False}]


@EACH
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    known = {variable.name for variable in VARIABLES}
    for variable in SERVICES[name].get("environment", {}):
        if name in OURS:
            assert variable in known or variable.startswith("OTEL_"), variable


@pytest.mark.parametrize("name", ["api", "worker", "beat"])
def test_a_program_can_use_what_is_set_here(name: str) -> None:
    given = {
        variable: re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", value)
        for variable, value in SERVICES[name]["environment"].items()
        if value is not None
    }
    settings = Settings.from_env(given)
    assert settings.jobs == "workers"
    assert settings.redis_url == "redis://redis:6379/0"
    if name == "api":
        assert SERVICES["api"]["ports"] == [f"127.0.0.1:{settings.api.port}:{settings.api.port}"]


def token_script(folder: Path, **environment: str) -> str:
    script = SERVICES["token"]["command"][0].replace("$$", "$").replace("/var/lib/catalog-sync", str(folder))
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    command = ["/bin/sh", "-euc", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": path, **environment}).stdout


def test_a_token_is_made_once_and_the_api_reads_it(tmp_path: Path) -> None:
    first = token_script(tmp_path)
    assert token_script(tmp_path) == first
    file = tmp_path / "api-token.env"
    assert file.stat().st_mode & 0o077 == 0
    assert SERVICES["api"]["environment"]["CATALOG_ENV_FILE"] == f"/var/lib/catalog-sync/{file.name}"
    environ = {"CATALOG_ENV_FILE": str(file)}
    load_env_file(environ)
    token = Settings.from_env(environ).api.token
    assert token is not None
    assert first == f"CATALOG_API_TOKEN={token.reveal()}\n"


def test_a_token_that_is_set_is_never_shown(tmp_path: Path) -> None:
    assert "my-own-token" not in token_script(tmp_path, CATALOG_API_TOKEN="my-own-token")
    assert list(tmp_path.iterdir()) == []


def test_the_compose_specification_takes_it() -> None:
    schema = json.loads(deploy_tool("compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(COMPOSE)


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
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name


def test_the_version_of_our_image_is_that_of_the_application() -> None:
    assert {SERVICES[name]["image"] for name in OURS} == {f"catalog-sync:{catalog_sync.__version__}"}


def test_docker_compose_takes_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed; only the structure was checked")
    answer = subprocess.run(
        [docker, "compose", "--file", ROOT / "docker-compose.yml", "--profile", "*", "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", ["redis", *OURS])
def test_a_process_of_ours_has_limits_and_may_write_nowhere_but_to_its_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == ("no" if name == "token" else "unless-stopped")
    assert "pids_limit" in service


def test_their_alerts_go_to_the_bundled_receiver_until_somebody_names_another() -> None:
    for name in ("api", "worker"):
        url = SERVICES[name]["environment"]["ERROR_ALERT_WEBHOOK_URL"]
        assert url == "${ERROR_ALERT_WEBHOOK_URL:-http://alert-sink:8025/webhook}"
