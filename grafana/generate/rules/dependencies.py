"""Rules about what the catalogue depends on: the supplier, Redis, and how much failure is left in the budget."""

from __future__ import annotations

from typing import Final

from grafana.generate.logql import FAILED, span_attribute, spans, where, with_trace
from grafana.generate.names import label
from grafana.generate.promql import IN_RULE, match, on, per, ratio, total
from grafana.generate.rules import causes
from grafana.generate.rules.model import Rule, Severity, Trace
from grafana.generate.rules.recording import FAILED_OUTCOMES, LOST_OUTCOMES, syncs
from grafana.generate.settings import Settings, duration

from otel_resilience.telemetry import contract

_BY: Final = contract.DEPENDENCY
_DRIFT_ERRORS: Final = "schema_mismatch|invalid_response"
_CUT_ERRORS: Final = "attempt_timeout|read_timeout|write_timeout|connect_timeout"


def rules(settings: Settings) -> tuple[Rule, ...]:
    """Every rule of this subject."""
    return (
        _breaker_open(settings),
        _authentication(settings),
        _store(settings),
        _drift(settings),
        _budget(settings),
        _throttled(settings),
        _slow(settings),
        *(_burn(settings, *window) for window in _BURN_WINDOWS),
    )


def _errors(*matchers: str) -> str:
    return IN_RULE.of(contract.ERRORS, *matchers)


_OF_DEPENDENCY: Final = where(_BY, "{dependency}")


def _failed_attempts(*conditions: str) -> str:
    """Attempts and not calls: those that opened a circuit belong to calls that were rejected in the end."""
    return spans(f'name = "{contract.ATTEMPT_SPAN}"', span_attribute(_BY, "{dependency}"), FAILED, *conditions)


def _attempt_trace(*conditions: str, traceql: tuple[str, ...] = ()) -> Trace:
    return Trace(
        traceql=_failed_attempts(*traceql),
        logql=with_trace(contract.EVENT_ATTEMPT_FAILED, _OF_DEPENDENCY, *conditions),
    )


def _breaker_open(settings: Settings) -> Rule:
    return Rule(
        name=causes.CIRCUIT_OPEN,
        expr=causes.until_a_sync_works(causes.CIRCUIT_OPEN, settings, _BY),
        operator=">",
        threshold=0,
        severity="critical",
        component="catalogue",
        summary="The circuit to {{ $labels.resilience_dependency }} is open: calls are rejected.",
        dashboard="catalog-breakers",
        panel="State of the circuits",
        meaning="So many calls failed that the breaker now rejects further ones. This gives the dependency time to"
        " recover and keeps our own processes free. The breaker sends a probe when its open time ends. After a failed"
        " sync the alert lasts until a sync succeeds. It does not fire for Redis while StoreFailing fires.",
        look=(
            "The newest trace that the link finds: its red `attempt` span is one of these failures.",
            "Dashboard *Errors*, *Which dependency is it?*: timeouts, 5xx, refused connections?",
            "The dependency's own status page.",
        ),
        act=(
            "Dependency down: wait; the breaker closes by itself. Readers keep the last good catalogue.",
            "Dependency healthy, circuit forced open: someone opened it manually and must close it again.",
        ),
        hold=settings.hold,
        trace=_attempt_trace(),
    )


def _authentication(settings: Settings) -> Rule:
    return Rule(
        name=causes.AUTHENTICATION,
        expr=causes.until_a_sync_works(causes.AUTHENTICATION, settings, _BY),
        operator=">",
        threshold=0,
        severity="critical",
        component="catalogue",
        summary="{{ $labels.resilience_dependency }} refuses our credentials.",
        dashboard="catalog-errors",
        panel="Permanent errors by type",
        meaning="The key was revoked, has expired, or lacks the permission (401, 403, or Redis NOAUTH, WRONGPASS,"
        " NOPERM). Retries do not help, and the breaker does not count these errors.",
        look=("The trace: if all calls are refused, the key is invalid; if only one is, it lacks a permission.",),
        act=(
            "Set a valid ESIM_GO_API_KEY, or the correct password in REDIS_URL, and restart the processes.",
            "Check it with `catalog-sync doctor`.",
        ),
        hold=settings.hold,
        trace=_attempt_trace(
            where(contract.ERROR_TYPE, causes.CREDENTIAL_ERRORS, "=~"),
            traceql=(span_attribute(contract.ERROR_TYPE, causes.CREDENTIAL_ERRORS, "=~"),),
        ),
    )


def _store(settings: Settings) -> Rule:
    return Rule(
        name=causes.STORE,
        expr=causes.until_a_sync_works(causes.STORE, settings, _BY),
        operator=">",
        threshold=0,
        severity="critical",
        component="catalogue",
        summary="Redis is failing: nothing can be published, and readers use the snapshot.",
        dashboard="catalog-errors",
        panel="Errors by type",
        meaning="Commands fail repeatedly: with connection_error or a timeout if Redis is down, redis_oom if it is"
        " full, and redis_readonly or redis_misconf if it accepts no writes.",
        look=("The trace: which command fails?", "`redis-cli INFO memory persistence replication`."),
        act=(
            "Down: start it. Until then the catalogue is read from the snapshot.",
            "Full: raise maxmemory, or remove keys of other programs. Each sync removes old versions by itself.",
            "Read-only: REDIS_URL names a replica, or the disk is full.",
        ),
        hold=settings.hold,
        trace=_attempt_trace(),
    )


def _drift(settings: Settings) -> Rule:
    return Rule(
        name="ContractDrift",
        expr=total(_errors(match(contract.ERROR_TYPE, _DRIFT_ERRORS, "=~")), duration(settings.recent), _BY),
        operator=">",
        threshold=0,
        severity="warning",
        component="catalogue",
        summary="{{ $labels.resilience_dependency }} sends responses in an unexpected format.",
        dashboard="catalog-errors",
        panel="Permanent errors by type",
        meaning="A response with status 200 was not JSON, or its rows lacked fields that the sync needs. Either the"
        " supplier has changed its format, or a proxy in between responds in its place.",
        look=(
            "The trace: the event of the `attempt` span names the field or the content type.",
            "Panel *Rows set aside*.",
        ),
        act=(
            "Compare a response with the supplier's documentation; adapt the parser of rows, or contact the supplier.",
        ),
        hold=settings.hold,
        trace=_attempt_trace(
            where(contract.ERROR_TYPE, _DRIFT_ERRORS, "=~"),
            traceql=(span_attribute(contract.ERROR_TYPE, _DRIFT_ERRORS, "=~"),),
        ),
    )


def _budget(settings: Settings) -> Rule:
    suppressed = IN_RULE.of(contract.SUPPRESSED, match(contract.SUPPRESS_REASON, "budget"))
    return Rule(
        name="RetryBudgetExhausted",
        expr=total(suppressed, duration(settings.recent), _BY),
        operator=">",
        threshold=0,
        severity="warning",
        component="catalogue",
        summary="The retry budget of {{ $labels.resilience_dependency }} is exhausted: failed calls are not retried.",
        dashboard="catalog-retries",
        panel="Suppressed retries",
        meaning="Too many calls needed retries, so no further retries are made: they would only add load to a"
        " dependency that is already failing.",
        look=("Dashboard *Retries*, row *What do they cost?*", "Dashboard *Errors*: why do the calls fail?"),
        act=("Fix the cause. Raise the budget only if the dependency can handle the load.",),
        hold=settings.hold,
        trace=Trace(
            logql=with_trace(contract.EVENT_BUDGET_EXHAUSTED, _OF_DEPENDENCY),
            traceql=_failed_attempts(),
        ),
    )


def _reported_to_slow_down(settings: Settings) -> str:
    return total(_errors(match(contract.ERROR_TYPE, "429")), duration(settings.recent), _BY)


def _throttled(settings: Settings) -> Rule:
    return Rule(
        name="Throttled",
        expr=_reported_to_slow_down(settings),
        operator=">",
        threshold=settings.throttled,
        severity="warning",
        component="catalogue",
        summary="{{ $labels.resilience_dependency }} asks us to slow down.",
        dashboard="catalog-errors",
        panel="Errors by type",
        meaning="Many responses had status 429. The client waits as requested, so syncs become slow and may reach their"
        " deadline.",
        look=(
            "Dashboard *Retries*, panel *Waits before retries*: how long are we asked to wait?",
            "Does another program use the same key?",
        ),
        act=("Lower CATALOG_SUPPLIER_RATE_PER_S, or ask the supplier for a higher limit.",),
        hold=settings.hold,
        trace=_attempt_trace(where(contract.ERROR_TYPE, "429"), traceql=(span_attribute(contract.ERROR_TYPE, "429"),)),
    )


_TIMES_USUAL: Final = 4
"""A dependency is slow when its share of slow calls is this many times that of the last day."""


def _slow_calls(settings: Settings, window: str) -> str:
    def at_most(bound: str) -> str:
        selector = IN_RULE.of(contract.OPERATION_DURATION, match("le", bound), suffix="_bucket")
        return total(selector, window, _BY)

    every = at_most("+Inf")
    return f"({every} - ({at_most(f'{settings.slow_call:g}')} or 0 * {every}))"


def _usual_share_of_slow(settings: Settings) -> str:
    """That of the last day without the last minutes; a little longer, so that a daily job finds its run of the day
    before."""
    now, day = duration(settings.recent), duration(settings.watched)
    counted = IN_RULE.of(contract.OPERATION_DURATION, suffix="_count")
    calls = f"({total(counted, day, _BY)} - {total(counted, now, _BY)} > 0)"
    return f"(({_slow_calls(settings, day)} - {_slow_calls(settings, now)}) / {calls})"


def _slow(settings: Settings) -> Rule:
    window = duration(settings.recent)
    by = on(_BY)
    calls = total(IN_RULE.of(contract.OPERATION_DURATION, suffix="_count"), window, _BY)
    cut = total(_errors(match(contract.ERROR_TYPE, _CUT_ERRORS, "=~")), window, _BY)
    share_cut = f"(({ratio(cut, calls)}) >= {settings.cut_share:g} and {by} ({cut} >= {settings.least_cut}))"
    usual = f"({_TIMES_USUAL} * ({_usual_share_of_slow(settings)} or 0 * {calls}))"
    share = ratio(_slow_calls(settings, window), calls)
    share_slow = f"(({share}) >= {settings.slow_share:g} and {by} ({calls} >= {settings.least_calls}))"
    waits_as_reported = f"{by} ({_reported_to_slow_down(settings)} > {settings.throttled})"
    return Rule(
        name="DependencySlow",
        expr=f"({share_cut} or {share_slow} > {usual}) unless {waits_as_reported}",
        operator=">",
        threshold=0,
        severity="warning",
        component="catalogue",
        summary="{{ $labels.resilience_dependency }} is slow: {{ $value | humanizePercentage }} of calls are slow or"
        " cut off by a time limit.",
        dashboard="catalog-errors",
        panel="Duration of calls by dependency",
        meaning="This is a brownout: calls still succeed, but time limits cut off attempts"
        f" ({settings.cut_share:.0%} of calls or more), or more calls than usual take longer than"
        f" {settings.slow_call:g} s ({settings.slow_share:.0%} or more, and four times the share of the last day). Both"
        " conditions use shares, so many fast calls cannot hide the slow ones. It does not fire while Throttled"
        " reports the cause.",
        look=("Dots on the panel open slow traces: is there one long attempt, or many with waits between them?",),
        act=("Slow attempts: check the dependency and the network. Many attempts: look at their errors.",),
        hold=settings.hold,
        trace=Trace(
            traceql=spans(span_attribute(_BY, "{dependency}"), f"duration > {settings.slow_call:g}s"),
            logql=with_trace(contract.EVENT_RETRY_SCHEDULED, _OF_DEPENDENCY),
        ),
    )


_BURN_WINDOWS: Final[tuple[tuple[str, float, int, int, int, Severity], ...]] = (
    ("ErrorBudgetBurnFast", 14.4, 3600, 300, 30, "critical"),
    ("ErrorBudgetBurn", 6, 21600, 1800, 30, "critical"),
    ("ErrorBudgetBurnSlow", 1, 259200, 21600, 300, "warning"),
)
"""Name, burn rate, long and short window, interval of evaluation, severity. Rates and windows are those of the SRE
Workbook, chapter 5, table 5-8: 2 % of 30 days' budget spent in an hour, 5 % in six hours, 10 % in three days."""


def _burn(settings: Settings, name: str, rate: float, long: int, short: int, every: int, severity: Severity) -> Rule:
    calls = IN_RULE.of(contract.OPERATION_DURATION, suffix="_count")
    lost = IN_RULE.of(contract.OPERATION_DURATION, match(contract.OUTCOME, LOST_OUTCOMES, "=~"), suffix="_count")
    budget = 1 - settings.objective
    by = on(_BY)

    def burning(window: int) -> str:
        share = ratio(total(lost, duration(window), _BY), total(calls, duration(window), _BY))
        return f"({share}) / {budget:g}"

    enough = f"({total(calls, duration(short), _BY)} >= {settings.least_calls})"
    reported_already = f"({total(syncs(FAILED_OUTCOMES), duration(short))} > 0)"
    seen = IN_RULE.named(causes.CAUSE_SEEN_AT, f'{label(_BY)}!=""')
    caused = f"(max {per(_BY)} ({seen}) > time() - {settings.remembered(short)})"
    return Rule(
        name=name,
        expr=f"{burning(long)} and {by} ({burning(short)} > {rate:g}) and {by} {enough}"
        f" unless {on()} {reported_already} unless {by} {caused}",
        operator=">",
        threshold=rate,
        severity=severity,
        component="catalogue",
        summary="Calls to {{ $labels.resilience_dependency }} fail {{ $value | humanize }} times as often as the"
        " objective allows.",
        dashboard="catalog-errors",
        panel="Share of failed calls by dependency",
        meaning=f"The objective is that {settings.objective:.0%} of protected calls succeed, after retries, over 30"
        f" days. Failures now occur at {rate:g} times the allowed rate or more, over {duration(long)} and still over"
        f" {duration(short)}; at this rate the error budget is spent in {30 * 24 / rate:.0f} hours. The alert does not"
        " fire while a failed sync within the shorter window, or a critical alert about the same dependency, reports"
        " the cause.",
        look=("Dashboard *Errors*, row *What does one look like?*: the top fingerprint and its traces.",),
        act=("Fix the top fingerprint: follow the rule for its error, or ask the owner of the dependency.",),
        hold=settings.hold,
        every=every,
        trace=_attempt_trace(),
    )  # fmt: skip
