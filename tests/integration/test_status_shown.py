"""What `leaderjob status` shows to people: records in etcd, and the command on a terminal or in a pipe."""

from datetime import UTC, datetime, timedelta

import pytest

from leaderjob.client import Client
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import NotFound
from leaderjob.etcd import Etcd, Put
from leaderjob.model.job import JobSpec, Policy, Timetable
from leaderjob.model.member import Candidate
from leaderjob.model.record import Record
from leaderjob.model.run import Cause, Outcome, Progress, Run, State
from leaderjob.records.keys import Keys
from tests.support.commands import leaderjob
from tests.support.terminal import Terminal

NOW = datetime.now(UTC)
REASON = "ValueError: the corpus at /srv/documents/of/the/library is not readable for anybody"


def spec(name: str, **more: object) -> JobSpec:
    return JobSpec(name=name, reference=f"jobs.{name}:{name}", policy=Policy(), **more)  # type: ignore[arg-type]


def run_of(job: str, **more: object) -> Run:
    return Run(
        **{"id": "20260101t000000z-abcdef", "job": job, "cause": Cause.TRIGGER, "created": NOW, **more}  # type: ignore[arg-type]
    )


async def put(etcd: EmbeddedEtcd, **records: Record) -> None:
    async with Etcd([etcd.endpoint]) as client:
        await client.txn([], [Put(key, record.to_bytes()) for key, record in records.items()])


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


async def test_schedule_of_another_zone_is_shown_with_it(etcd: EmbeddedEtcd, keys: Keys) -> None:
    await put(
        etcd,
        **{
            keys.spec("nightly"): spec("nightly", schedule=("0 3 * * *",), time_zone="Europe/Berlin"),
            keys.spec("hourly"): spec("hourly", schedule=("@hourly",)),
            keys.timetable("nightly"): Timetable(
                watermark=NOW,
                next_fire=NOW + timedelta(hours=3),
                schedule=("0 3 * * *",),
                time_zone="Europe/Berlin",
            ),
        },
    )
    shown = leaderjob("status", "--etcd", etcd.endpoint, "--namespace", keys.namespace).stdout
    assert "0 3 * * * (Europe/Berlin)" in shown
    assert "@hourly (" not in shown
    async with Client([etcd.endpoint], keys.namespace) as client:
        zones = {job["name"]: job["time_zone"] for job in (await client.status())["jobs"]}
    assert zones == {"nightly": "Europe/Berlin", "hourly": "UTC"}


async def test_progress_is_shown_as_a_share(etcd: EmbeddedEtcd, keys: Keys) -> None:
    run = run_of("build", state=State.ADMITTED).begin(token=1, replica="r1", ttl_s=10, now=NOW)
    await put(
        etcd,
        **{
            keys.spec("build"): spec("build"),
            keys.run("build", run.id): run,
            keys.progress("build", run.id, 1): Progress(done=951_776, total=3e6),
        },
    )
    shown = leaderjob("status", "--etcd", etcd.endpoint, "--namespace", keys.namespace).stdout
    assert "running 32 %" in shown


async def test_leader_with_two_candidate_keys_is_not_next_in_line(etcd: EmbeddedEtcd, keys: Keys) -> None:
    for lease, replica in ((1, "r1"), (2, "r2"), (3, "r1"), (4, "r2")):
        candidate = Candidate(replica=replica, incarnation=f"{lease}", since=NOW, addresses={})
        await put(etcd, **{f"{keys.election}{lease:x}": candidate})
    async with Client([etcd.endpoint], keys.namespace) as client:
        status = await client.status()
    assert (status["leader"]["replica"], status["next"]) == ("r1", ["r2"])


async def test_narrow_terminal_breaks_no_name_and_shows_failures_in_red(
    etcd: EmbeddedEtcd, keys: Keys
) -> None:
    job, schedule = "rebuild-of-the-full-text-index", "15 3 * * MON-FRI"
    failed = run_of(job, state=State.ADMITTED).finish(Outcome.FAILED, now=NOW, reason=REASON)
    await put(etcd, **{keys.spec(job): spec(job, schedule=(schedule,)), keys.run(job, failed.id): failed})
    for command, whole in (("status", [job, schedule]), ("runs", [job, failed.id])):
        with Terminal(command, "--etcd", etcd.endpoint, "--namespace", keys.namespace) as terminal:
            assert terminal.wait() == 0
        for text in (*whole, "/srv/documents/of/the/library", "failed"):
            assert text in terminal.text
        assert "\x1b[31mfailed" in terminal.raw


async def test_waiting_for_a_run_that_is_not_on_record_ends(etcd: EmbeddedEtcd, keys: Keys) -> None:
    async with Client([etcd.endpoint], keys.namespace) as client:
        with pytest.raises(NotFound, match="has no run 'none'"):
            await client.wait_for_run("build", "none")
