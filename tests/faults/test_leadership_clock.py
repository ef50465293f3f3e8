"""The wall clock of the leader's machine is set by an hour: office and runs go by seconds that pass."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.model.run import Outcome, Run
from leaderjob.records.view import View
from leaderjob.scheduling.alarm import RECHECK_S
from tests.faults.harness.beating import lives, never_two, whole
from tests.faults.harness.replicas import Fleet, MachineReplica, fleet
from tests.faults.harness.wall_clock import needs_faketime
from tests.support.replicas import leads, told

HOUR_S = 3600

pytestmark = [needs_faketime, pytest.mark.slow]


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "ticks"


@pytest.fixture
def two(tmp_path: Path, effects: Path) -> Iterator[Fleet]:
    with (
        fleet(
            tmp_path,
            jobs="tests.faults.harness.beating",
            names=("r1", "r2"),
            config=f'[overrides.ticks]\nparams = {{effects = "{effects}"}}\n',
            clocks=True,
        ) as pair,
        told(pair),
    ):
        for replica in pair.every():
            replica.settings["LEADERJOB_LOG_LEVEL"] = "debug"
        pair.start()
        yield pair


def succeeded(view: View, *, ahead_s: int) -> list[Run]:
    """The fires that ran to their end, and were due about so far ahead of our clock."""
    wanted = utcnow() + timedelta(seconds=ahead_s)
    return [
        run
        for stored in view.runs("ticks")
        if (run := stored.record).outcome is Outcome.SUCCEEDED
        and run.fire_time is not None
        and abs((run.fire_time - wanted).total_seconds()) < HOUR_S / 2
    ]


def watermark(view: View) -> float:
    timetable = view.timetable("ticks")
    assert timetable is not None
    return float(timetable.record.watermark.timestamp())


def wait_for_confirmations(leader: MachineReplica, number: int) -> None:
    """Return when its trust was extended so many more times."""
    before = len(leader.said("trust_extended"))
    give_up_at = time.monotonic() + 10.0
    while len(leader.said("trust_extended")) < before + number:
        assert time.monotonic() < give_up_at, leader.log()
        time.sleep(0.05)


@pytest.mark.parametrize(
    "first", [pytest.param(HOUR_S, id="ahead"), pytest.param(-HOUR_S, id="behind", marks=pytest.mark.slow)]
)
def test_a_clock_that_is_set_by_an_hour_costs_no_office_and_runs_no_fire_twice(
    two: Fleet, effects: Path, first: int
) -> None:
    two.until("it ticks", lambda view: len(succeeded(view, ahead_s=0)) >= 2)
    leader, token = two.leader(), two.token()
    leader.clock.set(first)
    if first > 0:
        two.until("it ticks an hour ahead", lambda view: len(succeeded(view, ahead_s=first)) >= 2)
    wait_for_confirmations(leader, 3)
    before = watermark(two.view())
    leader.clock.set(0)
    run = two.trigger("beats", effects=str(effects.with_name("beats")), gate=str(effects))
    assert two.ended("beats", run).outcome is Outcome.SUCCEEDED
    if first < 0:
        two.until("it ticks again", lambda view: watermark(view) >= before + 2, timeout_s=RECHECK_S + 10)
    view = two.view()
    assert (leads(view), two.token()) == (leader.name, token)
    assert watermark(view) >= before, "fires that were accounted for are due again"
    began = Counter(line["run"] for line in whole(effects))
    assert set(began.values()) == {1}
    assert never_two(lives(effects))
