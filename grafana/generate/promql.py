"""PromQL that is right for processes that live for years and for those that live for seconds.

A sync started by cron pushes its counters when it ends and is gone: its series is born at its last value. ``rate`` and
``increase`` see no growth in it. :func:`added` counts what a series already had when it was born, and what an old one
gained, without extrapolation. See grafana/README.md.
"""

from __future__ import annotations

from typing import Final

from grafana.generate.names import label, prometheus_name

from otel_resilience.telemetry.contract import Metric

DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"

LOOKBACK: Final = "2h"
RULE_LOOKBACK: Final = "1d"
"""How long a series may be silent without being taken for a new one. An alert for nothing is worse than a bar for
nothing, and a panel asks for it at hundreds of moments. Both are longer than the Collector remembers the sums of jobs
(``max_stale`` in otel-collector/common.yaml): what comes back later is a new series there."""
INTERVAL: Final = "$__interval"
RANGE: Final = "$__range"
ENVIRONMENT: Final = label(DEPLOYMENT_ENVIRONMENT)
"""On every series of ours where it is set. Several environments may write to one Prometheus: no rule mixes them."""
IN_ENVIRONMENT: Final = f"{{{{{ENVIRONMENT}}}}}"
"""For a legend."""
ENVIRONMENT_SCOPE: Final = f'{ENVIRONMENT}=~"$environment|"'
"""Series without one too: the Collector and the stores belong to every environment."""
JOB_SCOPE: Final = f'job=~"$job", {ENVIRONMENT_SCOPE}'
"""For span metrics: the Collector adds up all processes of a service, so they have no ``instance``."""
DASHBOARD_SCOPE: Final = f'{JOB_SCOPE}, instance=~"$instance"'


class Series:
    """Selectors for the metrics of the contract; those of dashboards are limited by their variables."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    def named(self, name: str, *matchers: str) -> str:
        """A selector for a series by its Prometheus name."""
        inside = ", ".join(part for part in (self._scope, *matchers) if part)
        return f"{name}{{{inside}}}" if inside else name

    def of(self, metric: Metric, *matchers: str, suffix: str = "") -> str:
        """A selector for a metric; ``suffix`` is ``_bucket``, ``_sum`` or ``_count`` of a histogram."""
        if (metric.kind == "histogram") is not bool(suffix):
            raise ValueError(f"{metric.name} is a {metric.kind}; the suffix {suffix!r} does not fit")
        return self.named(prometheus_name(metric) + suffix, *matchers)


ON_DASHBOARD: Final = Series(DASHBOARD_SCOPE)
OF_JOB: Final = Series(JOB_SCOPE)
RECORDED: Final = Series(ENVIRONMENT_SCOPE)
"""What recording rules left, which has neither a job nor an instance."""
OF_DEPENDENCY: Final = Series(f'{DASHBOARD_SCOPE}, resilience_dependency=~"$dependency"')
IN_RULE: Final = Series("")


def match(attribute: str, value: str, operator: str = "=") -> str:
    """A matcher on an attribute: ``match("error.type", "401|403", "=~")``."""
    return f'{label(attribute)}{operator}"{value}"'


def added(selector: str, window: str) -> str:
    """What every counter gained within the window, births and restarts included."""
    lookback = LOOKBACK if "$job" in selector else RULE_LOOKBACK
    now, before = f"last_over_time({selector}[{window}])", f"last_over_time({selector}[{lookback}] offset {window})"
    return f"({now} - {before} >= 0 or {now})"


def total(selector: str, window: str, *by: str) -> str:
    """The sum of what was added, by attributes; in a rule also by environment."""
    counted = added(selector, window)
    return f"{_sum(by)}({counted})" if "$job" in selector else f"sum {per(*by)} ({counted})"


def per(*attributes: str) -> str:
    """How a rule aggregates: by these attributes, and by environment."""
    return f"by ({_labels(attributes)})"


def on(*attributes: str) -> str:
    """On what two sides of a rule match: these attributes, and the environment."""
    return f"on ({_labels(attributes)})"


def _labels(attributes: tuple[str, ...]) -> str:
    return ", ".join((*map(label, attributes), ENVIRONMENT))


def quantile(share: float, buckets: str, window: str, *by: str) -> str:
    """A quantile of what a histogram saw within the window."""
    return f"histogram_quantile({share}, {total(buckets, window, 'le', *by)})"


def ratio(part: str, whole: str) -> str:
    """A share: 0 if the whole has no such part, nothing if nothing happened."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def _sum(by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(map(label, by))}) " if by else "sum"
