"""The helpers that the library offers for its users' tests."""

from __future__ import annotations

import asyncio
import time
import weakref

import pytest

from otel_resilience import Policy, RetryConfig, RetryService, retry
from otel_resilience.telemetry import listener
from otel_resilience.testing import FakeClock, FakeTimeLoop, Point, RecordedTelemetry, no_waits
from support.resilience import Script, TransientFault


class TestFakeClock:
    def test_it_moves_only_on_request(self) -> None:
        clock = FakeClock(start=5.0)
        assert clock() == clock() == 5.0
        clock.advance(2.5)
        assert clock() == 7.5

    def test_it_does_not_go_back(self) -> None:
        with pytest.raises(ValueError, match="does not go back"):
            FakeClock().advance(-1)

    async def test_sleeping_on_it_moves_it(self) -> None:
        clock = FakeClock(start=0.0)
        clock.sleep(1.5)
        await clock.async_sleep(2.0)
        assert clock() == 3.5
        assert clock.sleeps == [1.5, 2.0]

    async def test_its_async_sleep_lets_others_run(self) -> None:
        clock = FakeClock()
        seen: list[str] = []

        async def other() -> None:
            seen.append("other")

        task = asyncio.ensure_future(other())
        await clock.async_sleep(1)
        assert seen == ["other"]
        await task


class TestFakeTimeLoop:
    def test_it_jumps_to_the_next_timer(self) -> None:
        loop = FakeTimeLoop()

        async def main() -> list[str]:
            order: list[str] = []

            async def later(delay: float) -> None:
                await asyncio.sleep(delay)
                order.append(f"{loop.time() - 1000:g}")

            await asyncio.gather(later(3600), later(1), later(86_400))
            return order

        started = time.monotonic()
        try:
            assert loop.run_until_complete(main()) == ["1", "3600", "86400"]
        finally:
            loop.close()
        assert time.monotonic() - started < 60

    def test_timeouts_work_on_it(self) -> None:
        clock = FakeClock()

        async def main() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(30):
                    await asyncio.Event().wait()

        with asyncio.Runner(loop_factory=lambda: FakeTimeLoop(clock)) as runner:
            runner.run(main())
        assert clock() == pytest.approx(1030)

    @pytest.mark.parametrize("start", [1_800_000_000.0, 1e12])
    def test_a_clock_on_the_time_of_day_fires_every_timer(self, start: float) -> None:
        """Such a number is coarser than the time within which asyncio takes a timer for due."""

        class Watched(FakeTimeLoop):
            looks = 0

            def time(self) -> float:
                self.looks += 1
                assert self.looks < 1000, "it stands still"
                return super().time()

        clock = FakeClock(start)

        async def main() -> None:
            for seconds in (0.1, 0.7, 3.3):
                await asyncio.sleep(seconds)

        with asyncio.Runner(loop_factory=lambda: Watched(clock)) as runner:
            runner.run(main())
        assert clock() == pytest.approx(start + 4.1, abs=0.01)

    def test_threads_can_still_call_in(self) -> None:
        async def main() -> str:
            return await asyncio.to_thread(lambda: "from a thread")

        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            assert runner.run(main()) == "from a thread"


class TestNoWaits:
    def test_it_skips_the_waits_of_these_policies_and_lists_them(self) -> None:
        policy = Policy("supplier", retry=RetryConfig(base_delay=3600, max_delay=7200), rng=lambda: 1.0)
        with no_waits(policy) as waits:
            assert policy.execute(Script(TransientFault(), TransientFault(), "value").play) == "value"
        assert waits == [3600, 7200]

    async def test_for_async_operations_too(self) -> None:
        policy = Policy("supplier", retry=RetryConfig(base_delay=3600, max_delay=7200), rng=lambda: 1.0)
        script = Script(TransientFault(), "value")

        async def operation() -> object:
            return script.play()

        with no_waits(policy) as waits:
            assert await policy.execute(operation) == "value"
        assert waits == [3600]

    def test_it_puts_the_sleeps_back_also_after_an_error(self) -> None:
        policy = Policy("supplier")
        before = (policy.sleep, policy.async_sleep)
        with pytest.raises(KeyError), no_waits(policy):
            raise KeyError
        assert (policy.sleep, policy.async_sleep) == before

    def test_without_arguments_it_holds_for_all_policies(self) -> None:
        hour = RetryConfig(base_delay=3600, max_delay=3600, jitter=False)
        before = Policy("supplier", retry=hour)
        service = RetryService("supplier")
        clock = FakeClock()
        own = Policy("supplier", retry=hour, clock=clock, sleep=clock.sleep)
        with no_waits() as waits:
            made = Policy("other", retry=hour)
            decorated = retry(hour, on=None)(Script(TransientFault(), "value").play)
            for policy in (before, made, own):
                assert policy.execute(Script(TransientFault(), "value").play) == "value"
            assert service.execute_with_retry(Script(TransientFault(), "value").play, hour) == "value"
            assert decorated() == "value"
        assert waits == [3600] * 4
        assert clock.sleeps == [3600]
        assert (before.sleep, made.sleep, own.sleep) == (time.sleep, time.sleep, clock.sleep)
        assert Policy("after").sleep is time.sleep

    def test_it_keeps_no_policy_alive(self) -> None:
        with no_waits():
            policy = weakref.ref(Policy("supplier"))
            assert policy() is None

    def test_blocks_nest(self) -> None:
        policy = Policy("supplier", retry=RetryConfig(base_delay=3600, max_delay=3600, jitter=False))
        with no_waits() as outer:
            with no_waits(policy) as inner:
                policy.execute(Script(TransientFault(), "value").play)
            policy.execute(Script(TransientFault(), "value").play)
        assert (outer, inner) == ([3600], [3600])
        assert policy.sleep is time.sleep


class TestRecordedTelemetry:
    def test_it_records_spans_events_and_points(self) -> None:
        policy = Policy("supplier", retry=RetryConfig(base_delay=0))
        with RecordedTelemetry().recording() as recorded:
            policy.execute(Script(TransientFault(), "value").play, name="list")
        assert [span.name for span in recorded.spans] == ["attempt", "attempt", "supplier list"]
        assert recorded.event_names() == [
            "resilience.error.classified",
            "resilience.attempt.failed",
            "resilience.retry.scheduled",
        ]
        assert recorded.points("resilience.operation.attempts") == [
            Point(
                "resilience.operation.attempts",
                {
                    "resilience.dependency": "supplier",
                    "resilience.operation": "list",
                    "resilience.outcome": "ok_after_retry",
                },
                2,
                1,
            )
        ]
        assert {point.metric for point in recorded.points()} >= {"resilience.operation.duration", "resilience.errors"}

    def test_it_records_only_within_the_block_and_recordings_nest(self) -> None:
        policy = Policy("supplier")
        outer, inner = RecordedTelemetry(), RecordedTelemetry()
        policy.execute(lambda: None)
        with outer.recording():
            with inner.recording():
                policy.execute(lambda: None)
            policy.execute(lambda: None)
        policy.execute(lambda: None)
        assert (len(outer.spans), len(inner.spans)) == (2, 2)
        assert listener.override is None

    def test_the_block_ends_also_with_an_error(self) -> None:
        with pytest.raises(KeyError), RecordedTelemetry().recording():
            raise KeyError
        assert listener.override is None
