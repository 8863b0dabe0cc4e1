"""``catalog-sync alerts``: open incidents, the outbox and dead letters; and a test through the real path."""

from __future__ import annotations

import getpass
import secrets
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from catalog_sync import composition as app
from catalog_sync import exit_codes
from catalog_sync.alerts import CatalogAlerts
from catalog_sync.alerts.overview import DONE, not_open, overview
from catalog_sync.alerts.service import config
from catalog_sync.cli.tables import print_sections
from catalog_sync.domain.times import is_ahead
from catalog_sync.observability.contract import SERVICE_SYNC
from catalog_sync.terminal.output import UsageError, console, failure
from otel_resilience import Severity, correlation_id
from otel_resilience.alerting import Notification, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from catalog_sync.settings.settings import Settings
    from catalog_sync.terminal.output import CommandOutput
    from otel_resilience.alerting import Receipt

TEST_WITHIN: Final = 15.0
"""Seconds to wait for confirmations."""

_SENDS: Final = frozenset({"close", "resend"})
"""Actions that send a message."""


def show_alerts(output: CommandOutput) -> int:
    """Show open incidents, the outbox and dead letters."""
    settings = app.read_settings()
    with app.observed(quiet=True):
        data = overview(settings)
    output.result(data, lambda: _print(data))
    return exit_codes.OK


def send_test(severity: str, channels: Sequence[str] | None, output: CommandOutput) -> int:
    """Sends a test to the channels, by default to all. Returns 0; 1 if one did not confirm it."""
    settings = app.read_settings()
    confirmations = _Confirmations()
    with (
        app.observed(quiet=True),
        CatalogAlerts(settings, service_name=SERVICE_SYNC, on_receipt=confirmations.note) as alerts,
    ):
        names = [route.name for route in alerts.routes]
        wanted = list(channels or names)
        unknown = [name for name in wanted if name not in names]
        if unknown:
            known = ", ".join(names)
            raise UsageError("catalog-sync alerts test", f"no channel {unknown[0]!r} is set up; there are: {known}")
        notification = _notification(Severity(severity), tuple(wanted), settings)
        started = time.monotonic()
        alerts.service.send(notification)
        found = confirmations.wait(lambda message: message.id == notification.id, wanted)
        seconds = time.monotonic() - started
        alerts.end_test(notification)
    results = [_result(name, found.get(name)) for name in wanted]
    good = all(result["confirmed"] for result in results)
    data = {"ok": good, "id": notification.id, "duration_s": round(seconds, 3), "channels": results}
    output.result(data, lambda: _print_results(results), None if good else _unconfirmed(results))
    return exit_codes.OK if good else exit_codes.FAILED


def act_on_incident(decision: str, identifier: str, seconds: float, reason: str | None, output: CommandOutput) -> int:
    """Carries out what a person decided about one incident, and waits for the messages that it sends.

    Returns 0; 1 if no channel confirmed a message. Raises ``IncidentNotFoundError``, or ``CacheConnectionError`` if
    only Redis may know it, and does not answer.
    """
    settings = app.read_settings()
    confirmations = _Confirmations()
    with (
        app.observed(quiet=True),
        CatalogAlerts(settings, service_name=SERVICE_SYNC, on_receipt=confirmations.note) as alerts,
    ):
        found = alerts.act(decision, identifier, seconds=seconds, by=_user(), reason=reason)
        if found is None:
            raise not_open(settings, identifier)
        incident = found.incident if isinstance(found, Notification) else found.id
        names = [route.name for route in alerts.routes if not route.fallback]
        receipts = confirmations.wait(lambda message: message.incident == incident, names) if decision in _SENDS else {}
    results = [_result(name, receipt) for name, receipt in receipts.items()]
    good = decision not in _SENDS or any(result["confirmed"] for result in results)
    output.text(f"{DONE[decision]}: {incident}")
    data = {"ok": good, "action": decision, "incident": incident, "channels": results}
    output.result(data, lambda: _print_results(results), None if good else _unconfirmed(results))
    return exit_codes.OK if good else exit_codes.FAILED


def _user() -> str | None:
    """The user's name; ``None`` if the system does not know it, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


class _Confirmations:
    """Collects receipts from the service's threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._receipts: dict[tuple[str, str], Receipt] = {}

    def note(self, receipt: Receipt) -> None:
        with self._changed:
            self._receipts[receipt.notification.id, receipt.channel] = receipt
            self._changed.notify_all()

    def wait(self, concerns: Callable[[Notification], bool], channels: list[str]) -> dict[str, Receipt]:
        """The outcome of these messages, by channel: once it is known for all, or after :data:`TEST_WITHIN`."""
        until = time.monotonic() + TEST_WITHIN
        with self._changed:
            while True:
                known = {name: each for (_, name), each in self._receipts.items() if concerns(each.notification)}
                left = until - time.monotonic()
                if len(known) >= len(channels) or left <= 0:
                    return known
                self._changed.wait(left)


def _notification(severity: Any, channels: tuple[str, ...], settings: Settings) -> Notification:
    now, identifier, trace_id, pages = time.time(), secrets.token_hex(8), correlation_id(), settings.api.public_url
    return Notification(
        id=f"test-{identifier}",
        status=Status.FIRING,
        severity=severity,
        kind="test",
        title="Test of the alert channels",
        summary="A test sent with `catalog-sync alerts test`. Nothing is wrong.",
        correlation_id=trace_id,
        fingerprint=identifier,
        incident=identifier,
        first_seen=now,
        last_seen=now,
        links=config(settings).links("test", trace_id, details=pages and f"{pages}/"),
        service=SERVICE_SYNC,
        reason="test",
        channels=channels,
        caused_at=now,
    )


def _result(channel: str, receipt: Receipt | None) -> dict[str, Any]:
    if receipt is None:
        return {"channel": channel, "confirmed": False, "seconds": None, "error_type": "no_answer_yet"}
    return {
        "channel": channel,
        "confirmed": receipt.delivered,
        "seconds": round(receipt.seconds, 3),
        "error_type": receipt.error_type,
    }


def _unconfirmed(results: list[dict[str, Any]]) -> dict[str, Any]:
    failed = [f"{each['channel']}: {each['error_type']}" for each in results if not each["confirmed"]]
    return failure("not_delivered", f"no confirmation: {', '.join(failed) or 'no channel answered'}")


def _print_results(results: list[dict[str, Any]]) -> None:
    from rich.text import Text

    out = console(sys.stdout)
    for result in results:
        if result["confirmed"]:
            out.print(Text.assemble(("confirmed", "green"), f"  {result['channel']}  after {result['seconds']:.3f} s"))
        else:
            out.print(Text.assemble(("FAILED", "bold red"), f"     {result['channel']}  {result['error_type']}"))


def _print(data: dict[str, Any]) -> None:
    sections = {
        "channels": [", ".join(data["channels"])],
        "incidents": incident_lines(data) or ["none open"],
        "outbox": [_waiting(each) for each in data["outbox"]] or ["empty on this machine"],
        "dead letters": dead_letter_lines(data) or ["none on this machine"],
    }
    print_sections(sections)


def incident_lines(data: dict[str, Any]) -> list[str]:
    """The open incidents, for a person."""
    lines = []
    for each in data["incidents"]:
        times = f", {each['count']:,} times" if each["count"] > 1 else ""
        calm = f", calm since {each['calm_since']}" if each["calm_since"] else ""
        lines.append(f"{each['severity']}  {each['title']}, since {each['first_seen']}{times}{calm}")
        lines.append(f"  ID {each['id']}, correlation ID {each['correlation_id']}")
        if each["acknowledged_at"]:
            lines.append(f"  acknowledged at {each['acknowledged_at']}")
        if each["silenced_until"] and is_ahead(each["silenced_until"]):
            lines.append(f"  silenced until {each['silenced_until']}")
        last = each["deliveries"][-1:]
        lines += [f"  delivered by {sent['channel']} after {sent['seconds']:.1f} s" for sent in last]
        if not last:
            lines.append("  NOT DELIVERED: no receiver has confirmed a message")
    return lines


def dead_letter_lines(data: dict[str, Any]) -> list[str]:
    """Messages that no channel delivered, for a person."""
    return [f"{each['at']}  {each['severity']}  {each['title']}: {each['reason']}" for each in data["dead_letters"]]


def _waiting(notification: dict[str, Any]) -> str:
    return f"{notification['severity']}  {notification['title']}, since {notification['first_seen']}"
