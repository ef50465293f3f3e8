"""What calendars and clocks do to a leader by themselves: summer time begins and ends, a second is put in or left out."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.ids import fire_id
from leaderjob.model.run import Outcome, Run
from leaderjob.records.keys import Kind
from leaderjob.records.view import View
from tests.faults.harness.wall_clock import WallClock, needs_faketime
from tests.support.replicas import Cluster, told

pytestmark = needs_faketime

_SECOND = timedelta(seconds=1)
_MIDNIGHT = datetime(2027, 1, 1, tzinfo=UTC)

# A leader whose clock was set learns of it when it is to look at what is due: each second, with a job that fires so.
_JOBS = """
from pathlib import Path
from leaderjob import job

def began(ctx, effects):
    with Path(effects).open("a") as file:
        file.write(f"{{ctx.job}}:{{ctx.run_id}}\\n")

@job(schedule="every 1s", misfire_grace="1h")
def each_second(ctx, effects: str = {effects!r}) -> None:
    began(ctx, effects)

@job(schedule="30 2 * * *", time_zone="Europe/Berlin")
def at_half_past_two(ctx, effects: str = {effects!r}) -> None:
    began(ctx, effects)

@job(schedule="30 * * * *", time_zone="Europe/Berlin")
def at_each_half_past(ctx, effects: str = {effects!r}) -> None:
    began(ctx, effects)
"""


class Setting:
    """Two replicas that have one clock, which is set; one of them leads."""

    def __init__(self, cluster: Cluster, clock: WallClock) -> None:
        self.cluster = cluster
        self._clock = clock
        self._ahead_s = 0

    def it_is(self, moment: datetime) -> None:
        self.step(round((moment - utcnow()).total_seconds()) - self._ahead_s)

    def step(self, seconds: int) -> None:
        self._ahead_s += seconds
        self._clock.set(self._ahead_s)

    def until_succeeded(self, job: str, fire: datetime) -> View:
        """What the feed shows once that fire has run to its end."""

        def is_over(view: View) -> bool:
            found = view.get(Kind.RUN, job, fire_id(fire))
            return found is not None and found.record.outcome is Outcome.SUCCEEDED

        return self.cluster.until(f"{job} of {fire} has succeeded", is_over)


@contextmanager
def beginning_at(moment: datetime, etcd: EmbeddedEtcd, namespace: str, directory: Path) -> Iterator[Setting]:
    """At the end, who leads is the one that did at the beginning, and nothing has begun twice."""
    clock, effects = WallClock(directory / "clock"), directory / "effects"
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            directory / "replicas",
            jobs="calendar_jobs",
            names=("r1", "r2"),
            ttl_s=10,
        ) as two,
        told(two),
    ):
        (two.directory / "calendar_jobs.py").write_text(_JOBS.format(effects=str(effects)))
        for replica in two.replicas.values():
            replica.settings.update(word.split("=", 1) for word in clock.within[1:])
        setting = Setting(two, clock)
        setting.it_is(moment)
        leader = two.start().leader()
        token = two.status()["leader"]["token"]
        yield setting
        assert two.status()["leader"]["token"] == token
        assert "term_ended" not in leader.log()
        assert "its key is occupied" not in leader.log(), "a fire was to be admitted twice"
        assert set(Counter(effects.read_text().split()).values()) == {1}


@dataclass(frozen=True, slots=True)
class Night:
    """In UTC. :param before: anything was due. :param next_half_past_two: on the day after."""

    before: datetime
    each_half_past: tuple[datetime, datetime]
    half_past_two: datetime
    next_half_past_two: datetime


_TO_SUMMER = Night(
    # After 02:00 it is 03:00: what was due at 02:30 fires then.
    before=datetime(2027, 3, 28, 0, 20, tzinfo=UTC),
    each_half_past=(datetime(2027, 3, 28, 0, 30, tzinfo=UTC), datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),
    half_past_two=datetime(2027, 3, 28, 1, 0, tzinfo=UTC),
    next_half_past_two=datetime(2027, 3, 29, 0, 30, tzinfo=UTC),
)
_TO_WINTER = Night(
    # After 03:00 it is 02:00 again: 02:30 comes twice, and fires the first time.
    before=datetime(2027, 10, 31, 0, 20, tzinfo=UTC),
    each_half_past=(datetime(2027, 10, 31, 0, 30, tzinfo=UTC), datetime(2027, 10, 31, 1, 30, tzinfo=UTC)),
    half_past_two=datetime(2027, 10, 31, 0, 30, tzinfo=UTC),
    next_half_past_two=datetime(2027, 11, 1, 1, 30, tzinfo=UTC),
)


@pytest.mark.slow
@pytest.mark.parametrize("night", [_TO_SUMMER, _TO_WINTER], ids=["to summer", "to winter"])
def test_in_a_night_in_which_clocks_are_changed_each_fire_comes_once(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, night: Night
) -> None:
    """What is due at a time of day fires once; what is due each hour fires as the hours pass."""
    with beginning_at(night.before, etcd, namespace, tmp_path) as setting:
        due = {("at_each_half_past", fire) for fire in night.each_half_past}
        due.add(("at_half_past_two", night.half_past_two))
        for moment in sorted({fire for _, fire in due}):
            setting.it_is(moment - 2 * _SECOND)
            for job, fire in due:
                if fire == moment:
                    view = setting.until_succeeded(job, fire)
        ledger = [stored.record for job in view.specs for stored in view.runs(job)]
        assert {(run.job, run.fire_time) for run in ledger if run.job != "each_second"} == due
        timetable = view.timetable("at_half_past_two")
        assert timetable is not None
        assert timetable.record.next_fire == night.next_half_past_two


@pytest.mark.parametrize(
    "seconds", [pytest.param(-1, id="put in"), pytest.param(1, id="left out", marks=pytest.mark.slow)]
)
def test_no_fire_is_lost_or_runs_twice_where_a_leap_second_is(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, seconds: int
) -> None:
    """The clock shows the last second of the day again, though its end had been seen; or it does not show the first."""
    with beginning_at(_MIDNIGHT - timedelta(minutes=1), etcd, namespace, tmp_path) as setting:
        setting.it_is(_MIDNIGHT - 4 * _SECOND)
        accounted_for(setting, _MIDNIGHT)
        if seconds < 0:
            setting.it_is(_MIDNIGHT - _SECOND)  # however long it took to see that it was over
        else:
            setting.step(seconds)
        # Changed now, the job is looked at now, and not when the next fire is due.
        done = setting.cluster.cli("config", "set", "jobs.each_second.timeout", "100s")
        assert done.returncode == 0, done.stderr
        view = accounted_for(setting, _MIDNIGHT + 6 * _SECOND)
        fires = [fire for stored in view.runs("each_second") for fire in fires_of(stored.record)]
        around = [fire for fire in fires if abs(fire - _MIDNIGHT) <= 3 * _SECOND]
        assert sorted(around) == each_of(_MIDNIGHT - 3 * _SECOND, _MIDNIGHT + 3 * _SECOND)


def accounted_for(setting: Setting, fire: datetime) -> View:
    """What the feed shows once the ledger says what became of that fire."""

    def is_so(view: View) -> bool:
        timetable = view.timetable("each_second")
        return timetable is not None and timetable.record.watermark >= fire

    return setting.cluster.until(f"{fire} was accounted for", is_so)


def fires_of(run: Run) -> list[datetime]:
    """What the record accounts for: one fire, or a range of them."""
    if run.fires is not None:
        return each_of(run.fires.first, run.fires.last)
    assert run.fire_time is not None
    return [run.fire_time]


def each_of(first: datetime, last: datetime) -> list[datetime]:
    """All seconds from the first to the last."""
    return [first + number * _SECOND for number in range((last - first) // _SECOND + 1)]
