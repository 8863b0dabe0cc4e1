"""Command line, API and workers as one system: real Redis and HTTP, each process with its own alert service."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.alerts import CatalogAlerts
from catalog_sync.alerts.overview import overview
from catalog_sync.domain.errors import InvalidDataError
from catalog_sync.domain.models import GroupReport, Outcome
from catalog_sync.observability.contract import SERVICE_API, SERVICE_SYNC, SERVICE_WORKER
from catalog_sync.settings.settings import Settings
from support.alert_receivers import ROUTING_KEY, FakePagerDuty, FakeWebhook, served
from support.redis_server import RedisServer
from support.sync_reports import report

FAILED = report(Outcome.FAILED, InvalidDataError("no JSON"))
COMPLETE = report(Outcome.COMPLETE, groups=(GroupReport("Fixed", "ok", 5),))
SOON = 60.0
"""Seconds within which the end of an incident is sent on a busy machine; by itself it would end after five minutes."""


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


class System:
    """Receivers, a Redis, and processes with separate state folders."""

    def __init__(self, folder: Path, redis: RedisServer, webhook: FakeWebhook, pagerduty: FakePagerDuty) -> None:
        self.webhook, self.pagerduty = webhook, pagerduty
        self._folder, self._redis = folder, redis

    def settings(self, name: str, **more: str) -> Settings:
        return Settings.from_env({
            "CATALOG_STATE_DIR": str(self._folder / name),
            "REDIS_URL": self._redis.url,
            "ESIM_GO_API_KEY": "test-key-0123456789",
            "ERROR_ALERT_WEBHOOK_URL": self.webhook.url,
            "ERROR_ALERT_PAGERDUTY_ROUTING_KEY": ROUTING_KEY,
            "ERROR_ALERT_PAGERDUTY_URL": self.pagerduty.url,
            "ERROR_ALERT_GROUP_WAIT_S": "0.1",
            **more,
        })  # fmt: skip

    @contextlib.contextmanager
    def process(self, name: str, **more: str) -> Iterator[CatalogAlerts]:
        with CatalogAlerts(self.settings(name, **more), service_name=name) as alerts:
            yield alerts

    def wait(self, holds: Callable[[], object], timeout: float = SOON) -> None:
        give_up_at = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < give_up_at, (self.statuses, self.pagerduty.incidents)
            time.sleep(0.02)

    @property
    def statuses(self) -> list[str]:
        return [message["status"] for message in self.webhook.accepted]

    @property
    def confirmations(self) -> list[str]:
        """The channels that took a message about an open incident, as every process knows it."""
        incidents = overview(self.settings("a person"))["incidents"]
        return [each["channel"] for incident in incidents for each in incident["deliveries"]]

    @property
    def pages(self) -> list[str]:
        return [incident.status for incident in self.pagerduty.incidents]


@pytest.fixture
def system(redis_server: RedisServer, tmp_path: Path) -> Iterator[System]:
    redis_server.command("FLUSHALL")
    with served(FakeWebhook()) as webhook, served(FakePagerDuty()) as pagerduty:
        yield System(tmp_path, redis_server, webhook, pagerduty)


@pytest.mark.fault("A1")
def test_a1_what_a_worker_saw_fail_the_command_line_ends(system: System) -> None:
    names = [SERVICE_WORKER, "another-worker", SERVICE_API]
    with contextlib.ExitStack() as stack:
        worker, *_ = [stack.enter_context(system.process(name)) for name in names]
        worker.sync_ended(FAILED, 60.0)
        system.wait(lambda: system.pages == ["triggered"])
        system.wait(lambda: system.statuses == ["firing"])
        system.wait(lambda: len(system.confirmations) == 2)
        with system.process(SERVICE_SYNC) as cli:
            cli.sync_ended(COMPLETE, 1.0)
        system.wait(lambda: system.pages == ["resolved"])
        system.wait(lambda: system.statuses == ["firing", "resolved"])
    assert system.statuses == ["firing", "resolved"]
    assert system.pages == ["resolved"]
    assert overview(system.settings("a person"))["incidents"] == []


@pytest.mark.fault("A2")
def test_a2_one_key_for_every_sender(system: System) -> None:
    with system.process(SERVICE_API) as api:
        api.sync_ended(FAILED, 60.0)
    with system.process(SERVICE_SYNC) as cli:
        cli.sync_ended(COMPLETE, 1.0)
    (incident,) = system.pagerduty.incidents
    assert incident.status == "resolved"
    assert incident.dedup_key.startswith("catalog-sync:")
    assert {message["service"] for message in system.webhook.accepted} == {"catalog-sync"}
    assert len({message["fingerprint"] for message in system.webhook.accepted}) == 1
    assert system.webhook.accepted[0]["context"]["process"] == SERVICE_API
    with system.process(SERVICE_WORKER) as worker:
        worker.sync_ended(FAILED, 60.0)
        time.sleep(0.5)
    assert [each.dedup_key for each in system.pagerduty.incidents] in ([incident.dedup_key], [incident.dedup_key] * 2)


@pytest.mark.parametrize("variable", ["CATALOG_ENVIRONMENT", "OTEL_RESOURCE_ATTRIBUTES"])
@pytest.mark.fault("A2")
def test_a2_staging_and_production_with_one_key_are_apart(system: System, variable: str) -> None:
    prefix = "" if variable == "CATALOG_ENVIRONMENT" else "team=blue,deployment.environment.name="
    environments = [{variable: f"{prefix}{name}"} for name in ("staging", "production")]
    for environment in environments:
        with system.process(SERVICE_WORKER, **environment) as worker:
            worker.sync_ended(FAILED, 60.0)
    assert system.pages == ["triggered", "triggered"]
    with system.process(SERVICE_SYNC, **environments[0]) as cli:
        cli.sync_ended(COMPLETE, 1.0)
    assert system.pages == ["resolved", "triggered"]
    assert [each.dedup_key.split(":")[1] for each in system.pagerduty.incidents] == ["staging", "production"]
    assert [message["environment"] for message in system.webhook.accepted] == ["staging", "production", "staging"]


@pytest.mark.fault("A4")
def test_a4_two_installations_with_one_redis_each_notify_their_own_channel(system: System, tmp_path: Path) -> None:
    with served(FakeWebhook()) as other:
        own: dict[str, Any] = {"CATALOG_ENVIRONMENT": "production"}
        theirs = {"CATALOG_ENVIRONMENT": "staging", "ERROR_ALERT_WEBHOOK_URL": other.url}
        with system.process("one", **own) as one, system.process("two", **theirs) as two:
            one.sync_ended(FAILED, 60.0)
            system.wait(lambda: system.statuses == ["firing"])
            two.sync_ended(FAILED, 60.0)
            other.wait_for(1)
            two.sync_ended(COMPLETE, 1.0)
            other.wait_for(2)
        assert [message["status"] for message in other.accepted] == ["firing", "resolved"]
    assert system.statuses == ["firing"]
    kinds = [each["kind"] for each in overview(system.settings("three", **own))["incidents"]]
    assert kinds == ["sync_failed"]


@pytest.mark.fault("A3")
def test_a3_a_refused_heartbeat_ends_with_a_confirmed_one(system: System) -> None:
    with served(FakeWebhook()) as heart:
        heartbeat = {"ERROR_ALERT_HEARTBEAT_URL": heart.url}
        with system.process(SERVICE_SYNC, **heartbeat) as cli:
            heart.script(401, forever=True)
            cli.sync_ended(COMPLETE, 1.0)
        system.wait(lambda: system.statuses == ["firing"])
        (message,) = system.webhook.accepted
        assert (message["kind"], message["severity"], message["dependency"]) == (
            "authentication",
            "CRITICAL",
            "heartbeat",
        )
        with system.process(SERVICE_SYNC, **heartbeat) as cli:
            heart.script(200, forever=True)
            cli.sync_ended(COMPLETE, 1.0)
        assert system.statuses == ["firing", "resolved"]


@pytest.mark.parametrize(("late", "kinds"), [(-1.0, []), (899.0, []), (901.0, ["stale_catalogue"])])
def test_a_lock_that_nobody_gives_back_keeps_no_stale_catalogue_quiet(
    tmp_path: Path, late: float, kinds: list[str]
) -> None:
    """Every sync ends SKIPPED_LOCKED. The one that holds the lock has 15 minutes to renew the catalogue."""
    settings = Settings.from_env({"CATALOG_STATE_DIR": str(tmp_path), "CATALOG_STALE_AFTER_S": "3600"})
    with CatalogAlerts(settings, service_name=SERVICE_SYNC) as alerts:
        alerts.sync_ended(report(Outcome.SKIPPED_LOCKED), 3600.0 + late)
        assert [each.kind for each in alerts.service.incidents()] == kinds
