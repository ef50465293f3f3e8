"""An override that is wrong costs its job that override: no other job, no leader, and not the part that reads them."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.definition import Assignment, assign, overridden
from leaderjob.engine.jobloop import JobLoop
from leaderjob.engine.overrides import overrides_in
from leaderjob.engine.reassignment import take_up_overrides
from leaderjob.etcd import Etcd
from leaderjob.model.job import JobSpec, Parameter
from leaderjob.records.keys import Keys
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events
from leaderjob.telemetry.trace import Trace
from tests.support.commands import Said, said
from tests.support.hearing import Heard, hearing
from tests.support.office import Seat, assigned, going_on, seated
from tests.support.streams import run_with_streams


def defined(
    name: str, *schedule: str, time_zone: str = "UTC", parameters: tuple[Parameter, ...] = ()
) -> Assignment:
    spec = assigned(name).spec
    changes = {"schedule": schedule, "time_zone": time_zone, "parameters": parameters}
    return assign(spec.model_copy(update=changes))


@asynccontextmanager
async def followed(seat: Seat, *jobs: Assignment) -> AsyncIterator[tuple[Mapping[str, JobLoop], Heard]]:
    """Loops that do not run, and follow the overrides."""
    loops = {job.spec.name: JobLoop(seat.office, job) for job in jobs}
    known, bases = asyncio.Event(), {job.spec.name: job for job in jobs}
    with hearing() as heard:
        async with going_on(take_up_overrides(seat.office, loops, bases, known)):
            await known.wait()
            yield loops, heard


async def write(seat: Seat, number: int, jobs: object) -> None:
    """Past the command, as ``etcdctl put`` does."""
    document = {"v": 1, "number": number, "by": "me", "at": utcnow().isoformat(), "values": {"jobs": jobs}}
    await seat.outside.put(f"{seat.keys.root}config/leaderjob/current", json.dumps(document).encode())


async def until_timeout(loop: JobLoop, seconds: float) -> None:
    while loop.assigned.spec.policy.timeout_s != seconds:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "9999-12-31T23:59:59"},
        {"schedule": "every 99999999999999999999d"},
        {"schedule": f"{'1' * 5000} * * * *"},
        {"schedule": ["* * * * *"] * 10_000},
        {"timeout": 1e308},
        {"enabled": "perhaps"},
        {"params": {"typo": 1}},
        {"of a newer release": 1},
        5,
        None,
    ],
    ids=lambda wrong: json.dumps(wrong)[:40],
)
async def test_overrides_of_other_jobs_apply_beside_one_that_is_wrong(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, wrong: object
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        jobs = (defined("bad", "@daily", time_zone="America/New_York"), defined("good", "@daily"))
        async with followed(seat, *jobs) as (loops, heard):
            await write(seat, 1, {"bad": wrong, "good": {"timeout": 5}})
            await until_timeout(loops["good"], 5)
            await write(seat, 2, {"bad": {"timeout": 7}, "good": {"timeout": 6}})
            await until_timeout(loops["good"], 6)
            await until_timeout(loops["bad"], 7)
            refused = heard.all(Events.JOB_OVERRIDE_REFUSED)
            assert [fields["job"] for fields in refused] == ([] if wrong is None else ["bad"])
            assert loops["bad"].assigned.trigger == jobs[0].trigger


async def test_a_defect_in_reading_one_override_stops_that_job_alone_and_is_reported(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defective(assignment: Assignment, override: object) -> tuple[Assignment, list[str]]:
        if override == {"timeout": 13}:
            raise RecursionError
        return overridden(assignment, override)

    monkeypatch.setattr("leaderjob.engine.reassignment.overridden", defective)
    async with (
        seated(etcd.endpoint, namespace, tmp_path) as seat,
        followed(seat, defined("bad", "@daily"), defined("good", "@daily")) as (loops, heard),
    ):
        await write(seat, 1, {"bad": {"timeout": 13}, "good": {"timeout": 5}})
        await until_timeout(loops["good"], 5)
        fields = await heard.until(Events.JOB_OVERRIDE_REFUSED)
        assert (fields["job"], isinstance(fields["trace"], Trace)) == ("bad", True)
        assert loops["bad"].assigned.trigger.rules == ()
        assert "RecursionError" in str(loops["bad"].assigned.spec.schedule_error)
        await write(seat, 2, {"bad": {"timeout": 7}})
        await until_timeout(loops["bad"], 7)
        assert loops["bad"].assigned.trigger.rules


async def test_a_job_that_lacks_a_parameter_fires_from_when_it_gets_it_and_has_missed_nothing(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        job = defined("j", "every 3650d", parameters=(Parameter("value", "int", required=True),))
        async with followed(seat, job) as (loops, heard), going_on(loops["j"].run()):
            view = await seat.feed.until(lambda view: view.timetable("j") is not None)
            assert "needs the parameter 'value'" in str(view.specs["j"].record.schedule_error)
            assert timetable_of(view) == ((), False)
            await overrides_in(seat.outside, namespace).set("jobs.j.params", {"value": 1})
            view = await seat.feed.until(lambda view: timetable_of(view)[1])
            assert timetable_of(view) == (("every 3650d",), True)
            view = await seat.feed.until(lambda view: view.specs["j"].record.schedule_error is None)
            assert not view.runs("j")
            await overrides_in(seat.outside, namespace).rollback(0)
            await seat.feed.until(lambda view: timetable_of(view) == ((), False))
            told = await heard.until(Events.JOB_SCHEDULE_INVALID)
            assert "needs the parameter 'value'" in str(told["reason"])


def timetable_of(view: View) -> tuple[tuple[str, ...], bool]:
    """The schedule that is accounted for, and whether a fire of it is to come."""
    found = view.timetable("j")
    assert found is not None
    return found.record.schedule, found.record.next_fire is not None


@pytest.fixture
def command(etcd: EmbeddedEtcd, namespace: str) -> "Command":
    """Of a namespace where a leader has announced jobs: ``index`` is in Berlin and wants a corpus."""
    parameters = (Parameter("corpus", "str", required=True), Parameter("size", "int"))
    spec = JobSpec(name="index", reference="m:f", parameters=parameters, time_zone="Europe/Berlin")
    others = [
        JobSpec(name="plain", reference="m:f", schedule=("@daily",), parameters=()),
        JobSpec(name="old", reference="m:f"),
        JobSpec(name="gone", reference="m:f", removed=utcnow()),
    ]

    async def announce() -> None:
        async with Etcd([etcd.endpoint]) as client:
            for one in (spec, *others):
                await client.put(Keys(namespace).spec(one.name), one.to_bytes())
            await client.put(Keys(namespace).spec("newer"), b'{"v": 1, "name": 5}')

    run_with_streams(announce())
    return Command(etcd.endpoint, namespace)


class Command:
    def __init__(self, endpoint: str, namespace: str) -> None:
        self.target = ["--etcd", endpoint, "--namespace", namespace]

    def __call__(self, line: str) -> Said:
        return said(["config", *shlex.split(line), *self.target])


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        ("set jobs.index.params.typo 1", 2, "job 'index' has no parameter 'typo': it has corpus, size"),
        ("set jobs.index.params.sise 1", 2, "did you mean 'size'?"),
        ("set jobs.index.params.size big", 2, "has to be of type int"),
        ("set jobs.plain.params.x 1", 2, "it takes none"),
        ("set jobs.index.schedule @daily", 2, "job 'index' needs the parameter 'corpus' (str)"),
        ("set jobs.index.schedule 2030-03-31T02:30", 2, "the clock of Europe/Berlin skips that time"),
        ("set jobs.index.schedule 9999-12-31T23:59:59", 2, "it is out of range"),
        ("set jobs.index.schedule '@every 5m'", 2, "use 'every 5m'"),
        ("""set jobs '{"plain": {"timeout": "5m"}, "index": {"params": {"typo": 1}}}'""", 2, "'typo'"),
        ("set jobs.gone.enabled false", 4, "no job is called 'gone'"),
        ("set jobs.nobody.enabled false", 4, "known are index, newer, old, plain"),
        ("set jobs.newer.enabled false", 2, "cannot be read by this release"),
    ],
)
def test_what_the_leader_would_refuse_is_refused_by_the_command(
    command: Command, line: str, code: int, reason: str
) -> None:
    done = command(line)
    assert (done.returncode, done.stdout) == (code, "")
    assert reason in done.stderr
    assert "nothing was changed. --force sets it all the same" in done.stderr
    assert json.loads(command("get --json").stdout) == {}
    assert command(f"{line} --force").returncode == 0


def test_what_fits_the_definition_in_force_is_set(command: Command) -> None:
    for line in (
        "set jobs.index.params.corpus /srv",
        "set jobs.index.schedule @daily",
        "set jobs.index.params.size 5",
        "set jobs.old.params.anything 5",  # announced by a release that does not name parameters
        "set jobs.plain.enabled false",
    ):
        assert command(line).returncode == 0, line


def test_every_command_that_writes_overrides_checks_them(command: Command) -> None:
    assert command("set jobs.index.params.corpus /srv").returncode == 0
    assert command("set jobs.index.schedule @daily").returncode == 0
    refused = command("unset jobs.index.params.corpus")
    assert (refused.returncode, "needs the parameter 'corpus'" in refused.stderr) == (2, True)
    assert command("set jobs.gone.timeout 5m --force").returncode == 0
    assert command("unset jobs.index.schedule").returncode == 0, "what others have is not looked at"
    assert command("unset jobs.gone").returncode == 0
    refused = command("rollback 3")
    assert (refused.returncode, "no job is called 'gone'" in refused.stderr) == (4, True)
    assert command("rollback 3 --force").returncode == 0
    assert command("rollback 0").returncode == 0
