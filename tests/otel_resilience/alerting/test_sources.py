"""What the primitives report becomes alerts: errors by their thresholds, open circuits, credentials, contract drift."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from otel_resilience import (
    BreakerEffect,
    CircuitBreakerConfig,
    CircuitOpenError,
    Classification,
    ErrorClass,
    Policy,
    RetryConfig,
    Severity,
)
from otel_resilience.alerting import AlertConfig, ResilienceSource, SourceConfig, Thresholds
from otel_resilience.redaction import register_secret
from otel_resilience.telemetry import hooks
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.alerting import EPOCH, World
from support.resilience import Fault, Script, make_policy

LOWEST = AlertConfig(escalation=(), min_severity=Severity.LOW)


def fault(severity: Severity, error_type: str = "503", message: str = "down") -> Fault:
    error = Fault.__new__(Fault)
    Exception.__init__(error, message)
    error.classification = Classification(ErrorClass.PERMANENT, severity, error_type, BreakerEffect.NEUTRAL)
    return error


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(EPOCH)


@contextlib.contextmanager
def watched(clock: FakeClock, config: AlertConfig | None = None, source: SourceConfig | None = None) -> Iterator[World]:
    world = World(config=config, clock=clock)
    with ResilienceSource(world.service, source):
        yield world


def fail(world: World, error: Exception, times: int = 1, dependency: str = "supplier", name: str = "list") -> None:
    policy = make_policy(world.clock, dependency=dependency, breaker=None, retry=None, deadline=None)
    for _ in range(times):
        with contextlib.suppress(type(error)):
            policy.execute(Script(error).play, name=name)


class TestErrors:
    @pytest.mark.parametrize(("severity", "threshold"), [(Severity.HIGH, 5), (Severity.MEDIUM, 50)])
    def test_alert_from_the_threshold_of_their_severity_on(
        self, clock: FakeClock, severity: Severity, threshold: int
    ) -> None:
        with watched(clock, LOWEST) as world:
            fail(world, fault(severity), threshold - 1)
            world.run(30)
            assert world.messages() == []
            fail(world, fault(severity))
            world.run(10)
            (message,) = world.messages()
        assert (message.kind, message.severity, message.count) == ("errors", severity, threshold)
        assert message.error_types == {"503": threshold}
        assert message.context == {"operation": "list"}

    def test_an_error_without_a_readable_text_alerts_as_well(self, clock: FakeClock) -> None:
        class UnreadableFault(Fault):
            verdict = Classification(ErrorClass.PERMANENT, Severity.HIGH, "503", BreakerEffect.NEUTRAL)

            def __str__(self) -> str:
                raise RuntimeError("no text")

        with watched(clock, LOWEST) as world:
            fail(world, UnreadableFault(), 5)
            world.run(30)
            (message,) = world.messages()
        assert "UnreadableFault" in message.summary

    def test_low_ones_never_do(self, clock: FakeClock) -> None:
        with watched(clock, LOWEST) as world:
            fail(world, fault(Severity.LOW), 200)
            world.run(100)
            assert world.messages() == []

    def test_their_incident_ends_by_itself(self, clock: FakeClock) -> None:
        with watched(clock) as world:
            fail(world, fault(Severity.HIGH), 10)
            world.run(400)
            assert [m.status.value for m in world.messages()] == ["firing", "resolved"]

    def test_thresholds_are_configuration(self, clock: FakeClock) -> None:
        source = SourceConfig(thresholds=Thresholds(window=10.0, by_severity={Severity.HIGH: 2}))
        with watched(clock, LOWEST, source) as world:
            fail(world, fault(Severity.MEDIUM), 100)
            fail(world, fault(Severity.HIGH))
            world.run(11)
            fail(world, fault(Severity.HIGH))
            world.run(9)
            fail(world, fault(Severity.HIGH))
            world.run(10)
            assert [(m.severity, m.count) for m in world.messages()] == [(Severity.HIGH, 2)]

    def test_a_critical_one_does_at_once_once_per_type(self, clock: FakeClock) -> None:
        with watched(clock) as world:
            fail(world, fault(Severity.CRITICAL, "tls_certificate"), 3)
            fail(world, fault(Severity.CRITICAL, "dns"), 3)
            world.run()
            assert [(m.kind, m.error_type, m.count) for m in world.messages()] == [
                ("critical_error", "tls_certificate", 3),
                ("critical_error", "dns", 3),
            ]

    def test_one_that_a_retry_cured_counts(self, clock: FakeClock) -> None:
        policy = Policy("supplier", retry=RetryConfig(base_delay=0), clock=clock, sleep=clock.sleep)
        error = fault(Severity.HIGH)
        error.classification = error.classification.replace(error_class=ErrorClass.TRANSIENT)
        with watched(clock) as world:
            for _ in range(5):
                policy.execute(Script(error, "value").play)
            world.run(10)
            assert [m.count for m in world.messages()] == [5]

    def test_what_the_application_judges_itself_is_left_to_it(self, clock: FakeClock) -> None:
        source = SourceConfig(ignored_error_types={"supplier": frozenset({"401"})})
        with watched(clock, source=source) as world:
            fail(world, fault(Severity.CRITICAL, "401"))
            fail(world, fault(Severity.CRITICAL, "401"), dependency="redis")
            world.run()
            assert [m.dependency for m in world.messages()] == ["redis"]

    def test_below_the_least_severity_they_are_counted_as_suppressed(self, clock: FakeClock) -> None:
        with RecordedTelemetry().recording() as recorded, watched(clock) as world:
            fail(world, fault(Severity.MEDIUM), 3)
            points = recorded.points("resilience.alert.suppressed")
        assert [(p.attributes, p.value) for p in points] == [({"resilience.reason": "below_severity"}, 3)]


class TestCredentials:
    @pytest.mark.parametrize("error_type", ["401", "403", "redis_auth"])
    def test_that_are_refused_are_notified_at_once_and_once(self, clock: FakeClock, error_type: str) -> None:
        with watched(clock) as world:
            fail(world, fault(Severity.CRITICAL, error_type), 20)
            world.run()
            fail(world, fault(Severity.CRITICAL, error_type), 20)
            world.run(50)
            (message,) = world.messages()
        assert (message.kind, message.severity, message.count) == ("authentication", Severity.CRITICAL, 20)

    def test_make_one_incident_each(self, clock: FakeClock) -> None:
        names = {"supplier": "key-1"}
        with watched(clock, source=SourceConfig(credentials=names)) as world:
            fail(world, fault(Severity.CRITICAL, "401"))
            names["supplier"] = "key-2"
            fail(world, fault(Severity.CRITICAL, "403"))
            fail(world, fault(Severity.CRITICAL, "401"))
            world.run()
            told = world.messages()
        assert [(m.context["identity"], m.count) for m in told] == [("key-1", 1), ("key-2", 2)]
        assert len({m.fingerprint for m in told}) == 2


class TestContractDrift:
    def test_is_notified_once_per_operation_whatever_its_severity(self, clock: FakeClock) -> None:
        with watched(clock) as world:
            for operation in ("list bundles", "list bundles", "show bundle"):
                fail(world, fault(Severity.HIGH, "schema_mismatch"), name=operation)
            world.run(10)
            told = world.messages()
        assert [(m.kind, m.severity, m.count) for m in told] == [
            ("contract_drift", Severity.HIGH, 2),
            ("contract_drift", Severity.HIGH, 1),
        ]

    def test_even_if_a_single_one_is_of_little_weight(self, clock: FakeClock) -> None:
        with watched(clock) as world:
            fail(world, fault(Severity.MEDIUM, "schema_mismatch"))
            world.run(10)
            assert [(m.kind, m.severity) for m in world.messages()] == [("contract_drift", Severity.HIGH)]


class TestCircuits:
    @pytest.fixture
    def policy(self, clock: FakeClock) -> Policy:
        return make_policy(
            clock, breaker=CircuitBreakerConfig(consecutive_failures=2, reset_timeout=10.0), retry=None, deadline=None
        )

    def trip(self, policy: Policy) -> None:
        for _ in range(2):
            with contextlib.suppress(ConnectionRefusedError, CircuitOpenError):
                policy.execute(Script(ConnectionRefusedError("no")).play)

    def test_one_that_opens_is_an_incident_until_it_was_closed_for_a_while(
        self, clock: FakeClock, policy: Policy
    ) -> None:
        with watched(clock) as world:
            self.trip(policy)
            world.run(10)
            (message,) = world.messages()
            assert (message.kind, message.severity) == ("circuit_breaker", Severity.HIGH)
            assert (message.context["from"], message.context["to"]) == ("closed", "open")
            world.run(10)
            policy.execute(lambda: None)
            closed = clock.now
            world.run(299)
            assert world.messages() == []
            world.run(1)
            (message,) = world.messages()
        assert (message.status.value, message.ended_at) == ("resolved", closed)

    @pytest.mark.fault("F22", "F55")
    def test_one_that_flaps_is_one_incident(self, clock: FakeClock, policy: Policy) -> None:
        """F55."""
        with watched(clock) as world:
            for _ in range(10):
                self.trip(policy)
                world.run(40)
                policy.execute(lambda: None)
                world.run(20)
            assert [m.status.value for m in world.messages()] == ["firing"]
            world.run(400)
            assert [m.status.value for m in world.messages()] == ["resolved"]

    @pytest.mark.fault("F56")
    def test_one_that_closes_within_the_group_wait_is_not_notified(self, clock: FakeClock, policy: Policy) -> None:
        """F56."""
        with watched(clock, AlertConfig(group_wait=30.0)) as world:
            self.trip(policy)
            world.run(29)
            policy.execute(lambda: None)
            world.run(2000)
            assert world.messages() == []

    def test_errors_of_a_dependency_that_is_known_to_be_down_are_not_notified(
        self, clock: FakeClock, policy: Policy
    ) -> None:
        with watched(clock) as world:
            self.trip(policy)
            fail(world, fault(Severity.HIGH), 50)
            world.run(100)
            assert [m.kind for m in world.messages()] == ["circuit_breaker"]

    def test_a_call_that_an_open_one_rejects_is_not_an_error(self, clock: FakeClock, policy: Policy) -> None:
        outer = make_policy(clock, dependency="outer", breaker=None, retry=None, deadline=None)
        with watched(clock) as world:
            self.trip(policy)
            for _ in range(20):
                with contextlib.suppress(CircuitOpenError):
                    outer.execute(lambda: policy.execute(lambda: None))
            world.run(100)
            assert {m.dependency for m in world.messages()} == {"supplier"}


class TestOurOwnChannels:
    def test_do_not_alert_through_themselves(self, clock: FakeClock) -> None:
        with watched(clock) as world:
            world.inbox.fails = ConnectionRefusedError("nobody")
            world.report(severity=Severity.CRITICAL)
            world.run(3000)
            assert [each.kind for each in world.service.incidents()] == ["trouble"]

    def test_not_even_where_their_errors_are_critical(self, clock: FakeClock) -> None:
        with watched(clock) as world:
            world.inbox.fails = fault(Severity.CRITICAL, "tls_certificate")
            world.report(severity=Severity.CRITICAL)
            world.run(3000)
            assert [each.kind for each in world.service.incidents()] == ["trouble"]


class TestObservers:
    def test_only_within_the_block(self, clock: FakeClock) -> None:
        with watched(clock) as world:
            assert len(hooks.subscribed) == 1
        fail(world, fault(Severity.CRITICAL))
        world.run(10)
        assert world.messages() == []
        assert not hooks.subscribed

    def test_one_that_breaks_does_not_change_the_call(self, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
        class Broken:
            def on_error(self, *_: object) -> None:
                raise RuntimeError("token=abcdef")

            on_transition = on_error

        register_secret("abcdef")
        broken = Broken()
        hooks.subscribe(broken)
        hooks.subscribe(broken)
        assert len(hooks.subscribed) == 1
        try:
            policy = make_policy(clock, breaker=CircuitBreakerConfig(consecutive_failures=1), retry=None)
            with pytest.raises(ConnectionRefusedError):
                policy.execute(Script(ConnectionRefusedError()).play)
        finally:
            hooks.unsubscribe(broken)
        assert "an observer of errors failed" in caplog.text
        assert "an observer of transitions failed" in caplog.text
        assert "abcdef" not in caplog.text

    def test_a_cancelled_call_is_not_an_error(self, clock: FakeClock) -> None:
        with watched(clock, LOWEST) as world:
            policy = make_policy(clock, breaker=None)
            with pytest.raises(KeyboardInterrupt):
                policy.execute(Script(KeyboardInterrupt()).play)
            assert len(world.book) == 0
