"""Links from a message to what happened: the API's pages, with a tracing tool or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog_sync.alerts import CatalogAlerts
from catalog_sync.api.command import _with_address
from catalog_sync.domain.errors import InvalidDataError
from catalog_sync.domain.models import Outcome
from catalog_sync.settings.settings import Settings
from catalog_sync.up.command import _address
from support.alert_receivers import FakeWebhook, served
from support.sync_reports import report

FAILED = report(Outcome.FAILED, InvalidDataError("no JSON"))
PAGES = "https://catalog.example/sync"
GRAFANA = "http://grafana.example/t/{trace_id}"


def settings(**variables: str) -> Settings:
    return Settings.from_env(variables)


def links(folder: Path, **variables: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A message about a failed sync, and its links."""
    with served(FakeWebhook()) as webhook:
        own = {"CATALOG_STATE_DIR": str(folder), "ERROR_ALERT_WEBHOOK_URL": webhook.url, **variables}
        with CatalogAlerts(settings(**own), service_name="catalog-sync") as alerts:
            alerts.flush_within = 60.0
            alerts.sync_ended(FAILED, 60.0)
        (message,) = webhook.accepted
    return message, message["links"]


@pytest.mark.fault("U5")
def test_a_message_leads_to_the_pages_of_its_sync_its_trace_and_its_incident(tmp_path: Path) -> None:
    message, found = links(tmp_path, CATALOG_API_PUBLIC_URL=f"{PAGES}/")
    assert found == {
        "trace": f"{PAGES}/traces/{message['correlation_id']}",
        "dashboard": None,
        "runbook": None,
        "incident": f"{PAGES}/incidents/{message['incident']}",
        "details": f"{PAGES}/syncs/{FAILED.correlation_id}",
    }


@pytest.mark.fault("U5")
def test_with_grafana_the_trace_is_shown_there(tmp_path: Path) -> None:
    message, found = links(
        tmp_path,
        CATALOG_API_PUBLIC_URL=PAGES,
        ERROR_ALERT_TRACE_URL=GRAFANA,
        ERROR_ALERT_RUNBOOK_URL="http://wiki.example/{name}",
    )
    assert found["trace"] == GRAFANA.replace("{trace_id}", message["correlation_id"])
    assert found["runbook"] == "http://wiki.example/sync_failed"
    assert found["details"] == f"{PAGES}/syncs/{FAILED.correlation_id}"


def test_without_any_address_there_is_none(tmp_path: Path) -> None:
    _, found = links(tmp_path)
    assert found == {"trace": None, "dashboard": None, "runbook": None}


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "http://127.0.0.1:8081"),
        ({"CATALOG_API_PUBLIC_URL": PAGES}, PAGES),
        ({"CATALOG_API_HOST": "0.0.0.0"}, None),
        ({"CATALOG_API_HOST": "::"}, None),
    ],
)
def test_the_api_links_to_itself_where_it_knows_its_name(variables: dict[str, str], address: str | None) -> None:
    assert _with_address(settings(**variables), "http://127.0.0.1:8081").api.public_url == address


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"CATALOG_API_HOST": "0.0.0.0", "CATALOG_API_PORT": "8081"}, "http://localhost:8081"),
        ({"CATALOG_API_HOST": "::1"}, "http://[::1]:8080"),
        ({"CATALOG_API_PORT": "0"}, None),
        ({"CATALOG_API_PUBLIC_URL": PAGES}, None),
    ],
)
def test_the_workers_of_make_up_link_to_the_page_beside_them(variables: dict[str, str], address: str | None) -> None:
    assert _address(settings(**variables)).get("CATALOG_API_PUBLIC_URL") == address
