"""Variables that Celery reads itself have no effect and are logged; an unusable broker is refused."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.settings.settings import Settings
from catalog_sync.store.server import check_server
from catalog_sync.worker.celery_app import app, configure
from support.redis_server import RedisServer

OURS = "redis://127.0.0.1:6399/3"


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CELERY_CUSTOM_WORKER_POOL"])
def test_a_variable_of_celery_is_ignored_and_named(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, "redis://:hidden@elsewhere:1/0")
    before = {key: app.conf[key] for key in ("broker_url", "broker_read_url", "broker_write_url")}
    try:
        with caplog.at_level(logging.WARNING):
            configure(Settings.from_env({"REDIS_URL": OURS, "CATALOG_STATE_DIR": str(tmp_path)}))
        assert name not in os.environ
        assert [app.conf.broker_url, app.conf.broker_write_url] == [OURS, OURS]
    finally:
        app.conf.update(before)
    assert name in caplog.text
    assert "hidden" not in caplog.text


def test_a_loader_in_the_environment_does_not_keep_a_program_from_starting() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "from catalog_sync.worker.celery_app import app; print(app.loader)"],
        env={**os.environ, "CELERY_LOADER": "no.such:Loader"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "AppLoader" in found.stdout, found.stderr


@pytest.mark.parametrize("clustered", [True, False])
def test_a_redis_cluster_is_refused_in_one_line(clustered: bool, tmp_path: Path) -> None:
    options = ("--cluster-enabled", "yes") if clustered else ()
    with RedisServer(tmp_path / "redis", *options) as server:
        settings = Settings.from_env({"REDIS_URL": server.url, "CATALOG_STATE_DIR": str(tmp_path)})
        if not clustered:
            check_server(settings, publishes=True, needed=True)
            return
        with pytest.raises(ConfigurationError, match=r"REDIS_URL=\S+ is not usable: it is a node of a Redis Cluster"):
            check_server(settings, publishes=True, needed=True)
