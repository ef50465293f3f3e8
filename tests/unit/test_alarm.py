"""An alarm rings once, when it is due and not before, and never after the clock was left."""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import pytest

from leaderjob.clock import utcnow
from leaderjob.model.fire import Fire
from leaderjob.scheduling.alarm import Alarm, AlarmNotRunning

PAST = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(bounded())


async def settle() -> None:
    """Let the event loop do all that is ready, and what becomes ready by it."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_an_alarm_in_the_past_rings_at_once() -> None:
    async def test() -> None:
        async with Alarm() as alarm:
            alarm.set("index", PAST)
            assert await alarm.fires.get() == Fire("index", PAST)

    run(test())


def test_an_alarm_does_not_ring_early() -> None:
    async def test() -> None:
        async with Alarm() as alarm:
            at = utcnow() + timedelta(milliseconds=60)
            alarm.set("index", at)
            assert await alarm.fires.get() == Fire("index", at)
            assert utcnow() >= at

    run(test())


def test_setting_an_alarm_again_replaces_it() -> None:
    async def test() -> None:
        async with Alarm() as alarm:
            alarm.set("index", PAST)
            alarm.set("index", PAST + HOUR)
            assert await alarm.fires.get() == Fire("index", PAST + HOUR)
            await settle()
            assert alarm.fires.empty()

    run(test())


def test_an_alarm_that_rang_can_be_set_again_at_once() -> None:
    async def test() -> None:
        async with Alarm() as alarm:
            for number in range(50):
                alarm.set("index", PAST + number * HOUR)
                assert await alarm.fires.get() == Fire("index", PAST + number * HOUR)
            alarm.clear("index")  # nothing is set any more, and that is no error

    run(test())


def test_alarms_of_many_jobs_at_one_instant_all_ring() -> None:
    async def test() -> None:
        jobs = {f"job-{number}" for number in range(100)}
        async with Alarm() as alarm:
            for job in jobs:
                alarm.set(job, PAST)
            assert {(await alarm.fires.get()).job for _ in jobs} == jobs

    run(test())


def test_a_cleared_alarm_does_not_ring() -> None:
    async def test() -> None:
        async with Alarm() as alarm:
            alarm.set("index", PAST)
            alarm.clear("index")
            alarm.clear("never set")
            alarm.set("backup", PAST)
            assert (await alarm.fires.get()).job == "backup"
            await settle()
            assert alarm.fires.empty()

    run(test())


def test_nothing_rings_after_the_exit() -> None:
    async def test() -> None:
        async with Alarm() as alarm:
            alarm.set("index", PAST)
        await settle()
        assert alarm.fires.empty()

    run(test())


def test_the_exit_leaves_no_task_behind() -> None:
    async def test() -> None:
        async with Alarm():
            assert len(asyncio.all_tasks()) == 2
        assert len(asyncio.all_tasks()) == 1

    run(test())


def test_an_error_in_the_body_comes_out_as_it_is() -> None:
    async def test() -> None:
        async with Alarm() as alarm:
            alarm.set("index", PAST)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(test())


def test_an_alarm_cannot_be_set_when_the_clock_is_not_running() -> None:
    async def test() -> None:
        alarm = Alarm()
        with pytest.raises(AlarmNotRunning, match="'index'"):
            alarm.set("index", PAST)
        async with alarm:
            pass
        with pytest.raises(AlarmNotRunning, match="'index'"):
            alarm.set("index", PAST)

    run(test())


def test_a_clock_set_forward_is_noticed_at_the_next_recheck(monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoHoursLater(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + 2 * HOUR

    async def test() -> None:
        async with Alarm(recheck_s=0.02) as alarm:
            at = utcnow() + HOUR
            alarm.set("index", at)
            await settle()
            assert alarm.fires.empty()
            monkeypatch.setattr("apscheduler.schedulers.base.datetime", TwoHoursLater)
            assert await alarm.fires.get() == Fire("index", at)

    run(test())


def test_the_scheduler_logs_no_line_per_alarm(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Alarm() as alarm:
            alarm.set("index", PAST)
            await alarm.fires.get()

    with caplog.at_level(logging.DEBUG):
        run(test())
    assert [record for record in caplog.records if record.name.startswith("apscheduler")] == []
