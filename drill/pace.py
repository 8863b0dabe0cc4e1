"""Compressed time: which durations are divided by which factor. Pure.

What adds to the time until a message (intervals of scraping, evaluation and export, ``for``, ``group_wait``, waits of
the application) is divided by ``waits``, which is also the factor between wall time and incident time. What only
remembers (windows of queries, ``keep_firing_for``, intervals between messages) is divided by ``memory``, so that the
end of an incident is seen within seconds too. Less memory makes the drill harder, never easier: an alert that would end
between two failures, or a message too many, shows.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

from grafana.generate import notifying
from grafana.generate.rules import all_rules, for_prometheus, recording
from grafana.generate.rules.model import Rule
from grafana.generate.settings import Settings

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION: Final = re.compile(r"(\d+)(ms|[smhdw])")
_DURATIONS: Final = rf"(?:{_DURATION.pattern})+"
_RANGE: Final = re.compile(rf"(?<=\[){_DURATIONS}|(?<=:){_DURATIONS}(?=\])|(?<=\boffset ){_DURATIONS}")
_LITERAL: Final = re.compile(r'"[^"]*"')


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How many times faster the drill is than real time."""

    waits: float = 3.0
    memory: float = 30.0

    def incident(self, wall: float) -> float:
        """Incident time, in seconds, that passes in that many seconds of wall time."""
        return wall * self.waits

    def wall(self, incident: float) -> float:
        """Wall time for that much incident time."""
        return incident / self.waits


DAY: Final = {"no_sync_after": 60.0, "first_sync_grace": 22.5, "stale_after": 240.0}
"""Seconds of incident time that replace thresholds of a day: the drill's job runs all the time, not once a day."""
SILENCE: Final = DAY["no_sync_after"] + DAY["first_sync_grace"]
"""Seconds of incident time without a sync that are not reported."""


ATTEMPT_TIMEOUT: Final = 10.0
"""Seconds of incident time that an attempt may take."""


def settings(pace: Pace) -> Settings:
    """The thresholds of an installation whose job runs all the time, so that they come out as :data:`DAY` says."""
    return dataclasses.replace(
        Settings(),
        no_sync_after=round(pace.wall(DAY["no_sync_after"]) * pace.memory),
        first_sync_grace=round(DAY["first_sync_grace"]),
        stale_after=round(pace.wall(DAY["stale_after"])),
        memory=pace.memory,
    )


def rules(pace: Pace) -> tuple[Rule, ...]:
    """Our rules with the drill's thresholds, before compression."""
    return all_rules(settings(pace))


def rule_files(pace: Pace) -> dict[str, dict[str, Any]]:
    """The rules as the drill's Prometheus loads them, by the name of the file."""
    chosen = settings(pace)
    return {
        "alerts.yml": compressed(for_prometheus.rule_file(all_rules(chosen), chosen), pace),
        "recording.yml": compressed(recording.rule_file(chosen), pace),
    }


def routing(pace: Pace, receiver_base: str) -> dict[str, Any]:
    """Alertmanager's configuration: our routes with compressed times."""
    configuration: dict[str, Any] = compressed(notifying.alertmanager(receiver_base), pace)
    return configuration


def compressed(data: Any, pace: Pace) -> Any:
    """A rule file, or the configuration of Alertmanager or Prometheus, with every duration divided.

    Raises ``ValueError`` for a duration that cannot be read.
    """
    if isinstance(data, list):
        return [compressed(each, pace) for each in data]
    if not isinstance(data, dict):
        return data
    remembers = all("record" in rule for rule in data.get("rules", [{}]))
    return {key: _value(key, value, pace, remembers) for key, value in data.items()}


def _value(key: str, value: Any, pace: Pace, remembers: bool) -> Any:
    if key in {"labels", "annotations"}:
        return value
    if key == "expr":
        return expression(value, pace.memory)
    if key == "interval":
        # A recording rule must look more often than its window is long.
        return divided(value, pace.memory if remembers else pace.waits)
    if key in _WAITS:
        return divided(value, pace.waits)
    if key in _MEMORY:
        return divided(value, pace.memory)
    return compressed(value, pace)


_WAITS: Final = frozenset({"for", "group_wait", "scrape_interval", "evaluation_interval"})
_MEMORY: Final = frozenset({"keep_firing_for", "group_interval", "repeat_interval"})


def expression(query: str, factor: float) -> str:
    """The query with every range and every offset divided; texts in quotes stay as they are."""
    parts, texts = _LITERAL.split(query), _LITERAL.findall(query)
    shorter = [_RANGE.sub(lambda found: divided(found[0], factor), part) for part in parts]
    return "".join(part + text for part, text in zip(shorter, [*texts, ""], strict=True))


def divided(duration: str, factor: float) -> str:
    """A duration of Prometheus divided: ``divided("5m", 30)`` is ``10s``. At least a millisecond; zero stays."""
    found = _DURATION.findall(duration)
    if not found or "".join(number + unit for number, unit in found) != duration:
        raise ValueError(f"not a duration: {duration!r}")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in found)
    if not seconds:
        return "0s"
    milliseconds = max(1, round(seconds * 1000 / factor))
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def application(pace: Pace) -> dict[str, str]:
    """The settings of the application that are times, compressed, and those that go with a small catalogue."""

    def milliseconds(incident: float) -> str:
        return str(round(incident * 1000 / pace.waits))

    def seconds(incident: float, factor: float) -> str:
        return f"{incident / factor:g}"

    return {
        "CATALOG_ATTEMPT_TIMEOUT_MS": milliseconds(ATTEMPT_TIMEOUT),
        "CATALOG_SYNC_DEADLINE_MS": milliseconds(60),
        "CATALOG_SUPPLIER_RATE_PER_S": "0",
        "CATALOG_STALE_AFTER_S": seconds(DAY["stale_after"], pace.waits),
        "ERROR_RETRY_BASE_DELAY": milliseconds(1),
        "ERROR_RETRY_MAX_DELAY": milliseconds(30),
        # An open circuit outlives its run and holds up the end of an incident, not its message. In life its open time
        # is at its limit, a minute, from the first; here it doubles towards that from run to run, so it begins low.
        "ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT": str(round(60_000 / pace.memory / 4)),
        "ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD": milliseconds(60),
        "ERROR_ALERT_GROUP_WAIT_S": seconds(5, pace.waits),
        "ERROR_ALERT_WINDOW_S": seconds(60, pace.waits),
        "ERROR_ALERT_KEEP_FIRING_S": seconds(300, pace.memory),
        "ERROR_ALERT_RATE_LIMIT": str(round(60_000 / pace.memory)),
        "ERROR_ALERT_REPEAT_S": seconds(14_400, pace.memory),
        "OTEL_METRIC_EXPORT_INTERVAL": milliseconds(15),
        "OTEL_BSP_SCHEDULE_DELAY": milliseconds(2),
        "OTEL_BLRP_SCHEDULE_DELAY": milliseconds(2),
    }


def collector(pace: Pace) -> dict[str, str]:
    """The times of the Collector."""
    return {
        "OTELCOL_SPAN_METRICS_INTERVAL": divided("5s", pace.waits),
        "OTELCOL_DECISION_WAIT": divided("30s", pace.waits),
        "OTELCOL_JOBS_FORGET_AFTER": divided("100m", pace.memory),
    }
