"""The long-lived tasks of a replica: none takes another one with it, and all end when that is asked."""

import asyncio
import logging
from functools import partial
from pathlib import Path

import pytest

from leaderjob.app import Parts, run_replica, run_until_asked
from leaderjob.errors import LeaderjobError, SettingsError
from leaderjob.keep_running import keep_running
from leaderjob.settings import load_settings
from leaderjob.shutdown import STOP_WITHIN_S, AskedToStop, Shutdown
from leaderjob.telemetry.redaction import Redaction
from tests.support.loop import run_async
from tests.support.settings import file, leave_alone


@pytest.fixture
def shutdown(monkeypatch: pytest.MonkeyPatch) -> Shutdown:
    """Without the thread that ends the process if it does not stop in time: here that is pytest's."""
    monkeypatch.setattr("leaderjob.shutdown._give_up_after", lambda seconds: None)
    return Shutdown(kill_grace_s=0.0)


async def never() -> LeaderjobError:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@pytest.mark.parametrize("broken", ["feed", "followers", "election"])
def test_a_task_that_breaks_begins_again_and_the_others_do_not_notice(
    shutdown: Shutdown, broken: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.app.keep_running", partial(keep_running, first_pause_s=0.001))
    caplog.set_level(logging.INFO, logger="leaderjob")
    begun = dict.fromkeys(
        ("feed", "followers", "election", "reachability", "lacks", "late jobs", "service manager"), 0
    )
    ended: list[str] = []
    told: list[str] = []

    async def part(name: str) -> None:
        begun[name] += 1
        if name == broken and begun[name] == 1:
            raise OSError("disk")
        if name == broken:
            shutdown.ask()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def out_of_office() -> None:
        assert ended == []
        told.append("out of office")

    parts = Parts(
        feed=lambda: part("feed"),
        followers=lambda: part("followers"),
        election=lambda: part("election"),
        reachability=lambda: part("reachability"),
        lacks=lambda: part("lacks"),
        late_jobs=lambda: part("late jobs"),
        service_manager=lambda: part("service manager"),
        refused=never,
        leave=lambda: told.append("gives up office"),
        stopping=lambda: told.append("stopping"),
        out_of_office=out_of_office,
    )
    run_async(run_until_asked(shutdown, parts), timeout_s=10)
    assert begun == {name: 2 if name == broken else 1 for name in begun}
    assert told == ["gives up office", "stopping", "out of office"]
    assert ended[0] == "election", "office is given up while everything that it needs is there"
    assert sorted(ended) == sorted(begun)


def test_a_replica_that_may_not_go_on_leaves_in_order_and_says_why(shutdown: Shutdown) -> None:
    told: list[str] = []

    async def refused() -> LeaderjobError:
        return SettingsError("another one has this id")

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append("ended")

    async def out_of_office() -> None:
        told.append("out of office")

    parts = Parts(
        feed=forever,
        followers=forever,
        election=forever,
        reachability=forever,
        lacks=forever,
        late_jobs=forever,
        service_manager=forever,
        refused=refused,
        leave=lambda: told.append("gives up office"),
        stopping=lambda: told.append("stopping"),
        out_of_office=out_of_office,
    )
    with pytest.raises(SettingsError, match="another one has this id"):
        run_async(run_until_asked(shutdown, parts), timeout_s=10)
    assert told == ["gives up office", "stopping", "out of office", *["ended"] * 7]


def test_whoever_asks_twice_has_asked_once(shutdown: Shutdown, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="leaderjob")
    shutdown.ask()
    shutdown.ask()
    assert [record.getMessage() for record in caplog.records] == ["replica_stopping"]


def test_a_worker_has_its_grace_within_the_time_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    class Limit:
        def __init__(self, seconds: float) -> None:
            limits.append(seconds)

        def cancel(self) -> None:
            """It never rings."""

    monkeypatch.setattr("leaderjob.shutdown._give_up_after", Limit)
    asked_twice = Shutdown(kill_grace_s=12.0, drain_s=600.0)
    asked_twice.ask()
    asked_twice.ask()
    assert limits == [STOP_WITHIN_S + 12.0 + 600.0, STOP_WITHIN_S + 12.0]


async def test_the_time_to_stop_is_that_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, float] = {}

    def asked_at_once(**times_s: float) -> Shutdown:
        told.update(times_s)
        raise AskedToStop

    monkeypatch.setattr(Shutdown, "on_signals", asked_at_once)
    leave_alone(tmp_path, monkeypatch)
    config = file(
        'etcd.endpoints = ["127.0.0.1:1"]\n[election]\nttl = 60\nmargin = 20\nkill_grace = 12\ndrain = 600'
    )
    with pytest.raises(AskedToStop):
        await run_replica(load_settings(config, {}), Redaction())
    assert told == {"kill_grace_s": 12.0, "drain_s": 600.0}


@pytest.mark.timeout_s(10)
async def test_a_start_is_cut_short_when_it_is_asked_to_stop(shutdown: Shutdown) -> None:
    asyncio.get_running_loop().call_soon(shutdown.ask)
    with pytest.raises(AskedToStop):
        async with shutdown.cutting_short():
            await asyncio.Event().wait()


@pytest.mark.timeout_s(10)
async def test_a_start_that_fails_by_itself_says_so_and_one_that_is_over_is_not_cut_short(
    shutdown: Shutdown,
) -> None:
    with pytest.raises(TimeoutError, match="its own"):
        async with shutdown.cutting_short():
            raise TimeoutError("its own")
    async with shutdown.cutting_short():
        pass
    shutdown.ask()
    await asyncio.sleep(0)
