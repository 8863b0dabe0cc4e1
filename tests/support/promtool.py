"""Alert rules in promtool's own time: series in, alerts out."""

from __future__ import annotations

import dataclasses
import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from support.programs import require_program

FOLDER = Path(__file__).parents[2] / "grafana/prometheus/rules"
RULES, RECORDING = FOLDER / "alerts.yml", FOLDER / "recording.yml"
STEP = 15
"""Seconds between two samples."""

Series = dict[str, str]
_IF_SET = re.compile(r"\{\{ with \$labels\.(\w+) \}\}(.*?)\{\{ end \}\}")
_VALUE = re.compile(r"\{\{ \.(?: \| urlquery)? \}\}")


def process(series: str, *runs: tuple[float, int]) -> Series:
    """A process that keeps running: each run is a value and the number of samples with it."""
    return {"series": series, "values": " ".join(f"{value}x{count - 1}" for value, count in runs)}


def job(series: str, ends: int, value: float, samples: int = 1) -> Series:
    """A short process: it reports its final value when it ends (seconds from the start), and nothing after that."""
    silent = f"_x{ends // STEP} " if ends else ""
    return {"series": series, "values": f"{silent}{value}x{samples - 1}"}


@dataclasses.dataclass(frozen=True, slots=True)
class Reported:
    """One firing alert, as it must look at a given time."""

    alert: str
    summary: str
    labels: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class Timeline:
    """Series, and what must fire when; ``check`` runs promtool. ``Watchdog`` always fires and is left out.

    Samples come every ``step`` seconds, rules are evaluated every ``evaluate_every`` seconds.
    """

    folder: Path
    series: list[Series]
    step: int = STEP
    evaluate_every: int = 60
    _expected: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    _reported: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def at(self, seconds: int, *alerts: str) -> Timeline:
        """Exactly these alerts must fire at this time; one name for each alert."""
        counts = {name: alerts.count(name) for name in alerts}
        samples = [{"labels": f'{{alertname="{name}"}}', "value": count} for name, count in counts.items()]
        query = 'count by (alertname) (ALERTS{alertstate="firing", alertname!="Watchdog"})'
        self._expected.append({"expr": query, "eval_time": f"{seconds}s", "exp_samples": samples})
        return self

    def shows(self, seconds: int, expression: str, total: float | None) -> Timeline:
        """The series of an expression must add up to ``total`` at this time; ``None``: there must be none."""
        samples = [] if total is None else [{"labels": "{}", "value": total}]
        self._expected.append({"expr": f"sum({expression})", "eval_time": f"{seconds}s", "exp_samples": samples})
        return self

    def reports(self, seconds: int, reported: Reported) -> Timeline:
        """The only alert of its rule must fire at this time with these labels and this text."""
        rule = rules()[reported.alert]
        annotations = {key: filled_in(text, reported.labels) for key, text in rule["annotations"].items()}
        self._reported.append({
            "eval_time": f"{seconds}s",
            "alertname": reported.alert,
            "exp_alerts": [{
                "exp_labels": rule["labels"] | reported.labels,
                "exp_annotations": annotations | {"summary": reported.summary},
            }],
        })  # fmt: skip
        return self

    def check(self) -> None:
        """Fails with promtool's output."""
        test: dict[str, Any] = {
            "interval": f"{self.step}s",
            "input_series": self.series,
            "promql_expr_test": self._expected,
            "alert_rule_test": self._reported,
        }
        file = self.folder / "case.yml"
        about_alerts = self._reported or any("ALERTS" in each["expr"] for each in self._expected)
        # The rules of alerts take three quarters of the time, and record nothing.
        files = [RECORDING, RULES] if about_alerts else [RECORDING]
        how = {
            "rule_files": [str(path) for path in files],
            "evaluation_interval": f"{self.evaluate_every}s",
            # Without an order it is random: an alert may be evaluated before what it needs is recorded.
            "group_eval_order": [group["name"] for group in groups(*files)],
        }
        file.write_text(yaml.safe_dump({**how, "tests": [test]}))
        answer = subprocess.run(
            [require_program("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr


@functools.cache
def groups(*files: Path) -> list[dict[str, Any]]:
    """The committed groups of rules."""
    return [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]


def rules() -> dict[str, dict[str, Any]]:
    """The committed rules by name."""
    return {rule["alert"]: rule for group in groups(RULES) for rule in group["rules"]}


def filled_in(text: str, labels: dict[str, str]) -> str:
    """Fills in a template that only contains labels; URL encoding does not change any of our values."""
    text = _IF_SET.sub(lambda found: _VALUE.sub(labels[found[1]], found[2]) if labels.get(found[1]) else "", text)
    for name, value in labels.items():
        text = text.replace(f"{{{{ $labels.{name} }}}}", value).replace(f"{{{{ $labels.{name} | urlquery }}}}", value)
    return text
