"""The Helm chart and the manifests generated from it: valid, hardened, and consistent with the programs."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import catalog_sync
from catalog_sync.settings.settings import SECRET_NAMES, VARIABLES, Settings
from catalog_sync.worker.celery_settings import QUEUE_KEY
from support.deploy_tools import CHART, KUBERNETES, ROOT, deploy_tool, helm, render, template

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
CASES: dict[str, tuple[str, ...]] = {
    "workers": (),
    "cron": ("--set", "syncs=cron"),
    "everything": (
        *("--set", "redis.enabled=true,api.autoscaling.enabled=true,worker.autoscaling.enabled=true"),
        *("--set", "otlp.endpoint=http://collector:4318,state.create=true,state.accessMode=ReadWriteMany"),
        *(
            "--set",
            "state.storageClass=shared,redis.storageClass=fast,priorityClassName=high,imagePullSecrets[0].name=pull",
        ),
        *("--set", "api.publicUrl=https://catalog.example"),
        *("--set", "env.CATALOG_SYNC_EVERY_S=600,env.OTEL_RESOURCE_ATTRIBUTES=team=catalogue"),
        *("--set", "nodeSelector.disk=ssd,podAnnotations.team=catalogue,serviceAccount.annotations.team=catalogue"),
        *("--set-json", 'tolerations=[{"key":"spot","operator":"Exists"}]'),
        *("--set-json", 'networkPolicy.apiFrom=[{"namespaceSelector":{}}]'),
    ),
    "cron with its own redis": ("--set", "syncs=cron,redis.enabled=true,state.create=true"),
    "queue": ("--set", "worker.keda.enabled=true,redis.enabled=true"),
}
EACH = pytest.mark.parametrize("case", CASES)


@functools.cache
def objects(case: str) -> list[dict[str, Any]]:
    return render(*CASES[case])


def pods(case: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in objects(case):
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is not None:
            yield template["metadata"]["labels"]["app.kubernetes.io/component"], template["spec"]


def ours(case: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for component, pod in pods(case):
        if component != "redis":
            yield component, pod, pod["containers"][0]


def one(case: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in objects(case) if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


@EACH
def test_helm_lints_it(case: str) -> None:
    answer = helm("lint", "--strict", CHART, *CASES[case])
    assert answer.returncode == 0, answer.stdout + answer.stderr


@EACH
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_would_take_every_object(case: str, version: str) -> None:
    for each in render(*CASES[case], version=version):
        if each["apiVersion"] != "keda.sh/v1alpha1":  # a resource that Kubernetes does not define
            kubernetes_validate.validate(each, version, strict=True)


def test_the_plain_manifests_are_those_of_the_chart(tmp_path: Path) -> None:
    deploy_tool("helm")
    subprocess.run([ROOT / "deploy/render", tmp_path], check=True)
    kept = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "deploy/kubernetes").iterdir()}
    assert kept == {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}, "run `make deploy`"


@EACH
def test_no_name_is_given_twice(case: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in objects(case)]
    assert len(names) == len(set(names))


@EACH
def test_a_pod_has_no_rights_that_it_does_not_need(case: str) -> None:
    for _, pod in pods(case):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@EACH
def test_what_does_work_is_watched(case: str) -> None:
    for component, pod in pods(case):
        container = pod["containers"][0]
        assert component == "sync" or {"startupProbe", "livenessProbe"} <= container.keys(), component


@EACH
def test_pods_are_chosen_by_their_labels(case: str) -> None:
    """Each selector fits one component and never another's pods."""
    for each in objects(case):
        spec = each.get("spec", {})
        selector = spec.get("selector", {})
        chosen = selector.get("matchLabels", selector) if each["kind"] != "CronJob" else {}
        if chosen:
            assert each["metadata"]["labels"].items() >= chosen.items()
        if each["kind"] == "HorizontalPodAutoscaler":
            target = one(case, "Deployment", spec["scaleTargetRef"]["name"])
            assert "replicas" not in target["spec"]


@EACH
def test_every_variable_is_a_setting_and_no_secret_stands_in_it(case: str) -> None:
    data = one(case, "ConfigMap", "catalog-sync")["data"]
    known = {variable.name for variable in VARIABLES}
    assert {name for name in data if not name.startswith("OTEL_")} <= known
    assert not SECRET_NAMES & data.keys()
    for _, _, container in ours(case):
        names = {each["name"] for each in container["env"]}
        assert names == {"POD_NAME", "POD_NAMESPACE", "NODE_NAME", "OTEL_RESOURCE_ATTRIBUTES"}
        assert container["envFrom"][0] == {"secretRef": {"name": "catalog-sync"}}


@EACH
def test_the_programs_can_use_these_settings(case: str) -> None:
    data = one(case, "ConfigMap", "catalog-sync")["data"]
    settings = Settings.from_env({"REDIS_URL": "redis://elsewhere:6379/0"} | data)
    assert settings.jobs == ("process" if "cron" in case else "workers")
    (api,) = [container for component, _, container in ours(case) if component == "api"]
    assert api["ports"] == [{"name": "http", "containerPort": settings.api.port}]
    assert one(case, "Service", "catalog-sync-api")["spec"]["ports"][0]["targetPort"] == "http"
    for _, pod, container in ours(case):
        state = next(each for each in container["volumeMounts"] if each["name"] == "state")
        assert state["mountPath"] == str(settings.state_dir)
        assert {each["name"] for each in pod["volumes"]} == {each["name"] for each in container["volumeMounts"]}


@EACH
def test_the_paths_of_health_are_those_of_the_api(case: str) -> None:
    (api,) = [container for component, _, container in ours(case) if component == "api"]
    paths = {api[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"/health/live", "/health/ready"}
    routes = (ROOT / "src/catalog_sync/api/app.py").read_text(encoding="utf-8")
    assert all(f'add("{path}"' in routes for path in paths)


def test_the_image_and_its_user_are_those_that_are_built() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert chart["kubeVersion"] == f">={KUBERNETES[0]}-0"
    assert chart["appVersion"] == chart["version"] == catalog_sync.__version__
    assert compose["services"]["api"]["image"] == f"{VALUES['image']['repository']}:{chart['appVersion']}"
    assert compose["services"]["redis"]["image"] == VALUES["redis"]["image"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (user,) = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
    for _, pod, container in ours("workers"):
        security = pod["securityContext"]
        assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
        assert container["image"] == compose["services"]["api"]["image"]


def test_messages_of_every_pod_link_to_the_address_that_people_reach() -> None:
    data = one("everything", "ConfigMap", "catalog-sync")["data"]
    assert Settings.from_env(data).api.public_url == "https://catalog.example"
    assert "CATALOG_API_PUBLIC_URL" not in one("workers", "ConfigMap", "catalog-sync")["data"]


def test_a_claim_for_one_node_is_used_by_one_pod() -> None:
    volumes = {component: pod["volumes"][1] for component, pod, _ in ours("cron with its own redis")}
    assert volumes["sync"] == {"name": "state", "persistentVolumeClaim": {"claimName": "catalog-sync"}}
    assert volumes["api"] == {"name": "state", "emptyDir": {}}


def test_the_queue_is_the_one_that_workers_empty() -> None:
    scaled = one("queue", "ScaledObject", "catalog-sync-worker")
    assert scaled["spec"]["triggers"][0]["metadata"]["listName"] == QUEUE_KEY
    assert "replicas" not in one("queue", "Deployment", "catalog-sync-worker")["spec"]


def test_a_sync_may_take_as_long_as_its_deadline() -> None:
    deadline = Settings.from_env({}).sync_deadline
    job = one("cron", "CronJob", "catalog-sync-sync")["spec"]["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] > deadline
    assert one("cron", "CronJob", "catalog-sync-sync")["spec"]["concurrencyPolicy"] == "Forbid"
    assert one("cron", "Deployment", "catalog-sync-api")["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("sync=cron", "sync"),
        ("syncs=never", "syncs"),
        ("env.ERROR_ALERT_WEBHOOK_URL=https://example.com", "ERROR_ALERT_WEBHOOK_URL"),
        ("env.PATH=/tmp", "PATH"),
        ("api.port=80", "port"),
        ("api.publicUrl=catalog.example", "publicUrl"),
        ("existingSecret=", "existingSecret"),
        ("state.create=true", "ReadWriteMany"),
        ("worker.keda.enabled=true,worker.autoscaling.enabled=true", "exclude each other"),
    ],
)
def test_values_that_cannot_work_are_refused(setting: str, complaint: str) -> None:
    answer = template("--set", setting)
    assert answer.returncode != 0
    assert complaint in answer.stderr


def test_no_secret_may_be_given_as_a_plain_value() -> None:
    for name in SECRET_NAMES:
        answer = template("--set", f"env.{name}=value")
        assert answer.returncode != 0, name


def test_what_has_a_policy_reaches_what_it_needs() -> None:
    policy = one("everything", "NetworkPolicy", "catalog-sync")["spec"]
    ports = {each["port"] for rule in policy["egress"] for each in rule["ports"]}
    assert {53, 443, 4317, 4318, 6379} <= ports
    assert one("everything", "NetworkPolicy", "catalog-sync-redis")["spec"]["egress"] == []
