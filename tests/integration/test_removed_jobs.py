"""A job that no replica has any more is removed, comes back by itself, and is forgotten when somebody says so."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import forgetting
from leaderjob.engine.admission import Admission
from leaderjob.engine.commands import take_commands
from leaderjob.engine.publication import publish
from leaderjob.engine.removal import Removal
from leaderjob.model.artifact import Pointer, Version
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.job import JobSpec, Timetable
from leaderjob.model.member import Lacks
from leaderjob.model.record import Record
from leaderjob.model.run import Outcome, Run
from leaderjob.records.keys import Kind
from leaderjob.records.view import View
from leaderjob.scheduling.triggers import parse_schedule
from leaderjob.telemetry.events import Events
from tests.support.hearing import hearing
from tests.support.office import Seat, assigned, going_on, seated, trigger
from tests.support.ranks import member, unfinished
from tests.support.replicas import SHORT_TTL_S, Cluster, told
from tests.support.runs import stored

SPEC = JobSpec(name="old", reference="m:f", schedule=("every 1h",))
OWN = {"mine"}


def removal(seat: Seat, *, all_loaded: bool = True, own: set[str] | None = None) -> Removal:
    """For which no time at all is long enough."""
    limits = replace(seat.office.limits, remove_after_s=0.0)
    office = replace(seat.office, limits=limits, all_loaded=lambda: all_loaded)
    return Removal(office, OWN if own is None else own)


async def put(seat: Seat, records: Mapping[str, Record]) -> None:
    revision = 0
    for key, record in records.items():
        revision = await seat.outside.put(key, record.to_bytes())
    await seat.feed.until(lambda view: view.revision >= revision)


async def put_member(seat: Seat, replica: str, **lacks: Any) -> None:
    counted = Lacks(revision=seat.feed.view.revision, **lacks)
    await put(seat, {seat.keys.member(replica): member(replica).model_copy(update={"lacks": counted})})


def lost(run: str, ttl_s: float) -> Run:
    """A run whose leader went away."""
    return unfinished("old", run).begin(token=1, replica="r0", ttl_s=ttl_s, now=utcnow())


def timetable(hours_ago: float) -> Timetable:
    watermark = utcnow() - timedelta(hours=hours_ago)
    return Timetable(watermark=watermark, next_fire=watermark + timedelta(hours=1), schedule=SPEC.schedule)


def is_removed(view: View) -> bool:
    return view.specs["old"].record.removed is not None


async def test_removed_job_ends_its_unfinished_runs_and_its_fires_and_keeps_its_history(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        keys, former = seat.keys, timetable(hours_ago=3.5)
        await put(
            seat,
            {
                keys.spec("old"): SPEC,
                keys.timetable("old"): former,
                keys.run("old", "waits"): unfinished("old", "waits"),
                keys.run("old", "lost"): lost("lost", ttl_s=0.0),
            },
        )
        removing = removal(seat)
        with hearing() as heard:
            await removing.look()
            await removing.look()
        view = await seat.feed.until(lambda view: len(view.runs("old")) == 3)
        runs = {found.record.id: found.record for found in view.runs("old")}
        for run in ("waits", "lost"):
            assert (runs[run].outcome, runs[run].reason) == (Outcome.ABANDONED, "the job was removed")
        (missed,) = [run for run in runs.values() if run.outcome is Outcome.MISSED]
        due = parse_schedule(SPEC.schedule, job="old").between(former.watermark, missed.created)
        assert missed.fires is not None
        assert (missed.fires.first, missed.fires.last, missed.fires.count) == (due.first, due.last, due.count)
        assert str(missed.reason).startswith("due before the job was removed")
        ended = await seat.feed.until(
            lambda view: (found := view.timetable("old")) is not None and found.record.next_fire is None
        )
        assert is_removed(ended)
        assert len(heard.all(Events.JOB_REMOVED)) == 1


@pytest.mark.parametrize(
    "why_not", ["a module failed", "no jobs at all", "a member has it", "a member says nothing", "too early"]
)
async def test_a_job_that_may_come_back_is_not_removed(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, why_not: str
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await put(seat, {seat.keys.spec("old"): SPEC})
        if why_not == "a member has it":
            await put_member(seat, "r2")
        if why_not == "a member says nothing":
            await put(seat, {seat.keys.member("r2"): member("r2")})
        own = set[str]() if why_not == "no jobs at all" else OWN
        removing = removal(seat, all_loaded=why_not != "a module failed", own=own)
        if why_not == "too early":
            removing = Removal(replace(seat.office, all_loaded=lambda: True), OWN)
        await removing.look()
        await removing.look()
        assert not is_removed(seat.feed.view)


@pytest.mark.parametrize("newer", ["members/r9", "runs/old/later", "results/old/current"])
async def test_a_job_of_which_a_newer_release_may_know_more_is_not_removed(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, newer: str
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await put(seat, {seat.keys.spec("old"): SPEC})
        key = seat.keys.root + newer
        revision = await seat.outside.put(key, b'{"v":99}')
        await seat.feed.until(lambda view: view.revision >= revision)
        await removal(seat).look()
        assert not is_removed(seat.feed.view)
        await seat.outside.delete(key)
        await seat.feed.until(lambda view: not view.newer)
        await removal(seat).look()
        await seat.feed.until(is_removed)


async def test_the_runs_of_a_removed_job_wait_until_its_workers_are_surely_gone(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await put(
            seat,
            {seat.keys.spec("old"): SPEC, seat.keys.run("old", "lost"): lost("lost", ttl_s=3600.0)},
        )
        removing = removal(seat)
        await removing.look()
        await removing.look()
        assert is_removed(seat.feed.view)
        assert len(seat.feed.view.unfinished_runs("old")) == 1


async def test_a_removed_job_is_in_force_again_when_a_replica_has_it_and_starts_with_the_present(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        keys = seat.keys
        await put(seat, {keys.spec("old"): SPEC, keys.timetable("old"): timetable(hours_ago=1.5)})
        removing = removal(seat)
        await removing.look()
        await removing.look()
        await put_member(seat, "r2", returned=("old",))
        with hearing() as heard:
            await removing.look()
        assert heard.all(Events.JOB_RETURNED) == [{"job": "old", "term": seat.office.token}]
        assert not is_removed(seat.feed.view)
        # The leader that has it takes its timetable up: what was due while it was removed is not missed.
        before = len(seat.feed.view.runs("old"))
        await Admission(seat.office, assigned("old", "every 1s")).open()
        view = await seat.feed.until(
            lambda view: (found := view.timetable("old")) is not None and found.record.next_fire is not None
        )
        assert len(view.runs("old")) == before


async def asked(seat: Seat, command: Command) -> Command:
    await put(seat, {seat.keys.command(command.id): command})
    view = await seat.feed.until(
        lambda view: (
            (found := view.get(Kind.COMMAND, command.id)) is not None and found.record.done is not None
        )
    )
    found = view.get(Kind.COMMAND, command.id)
    assert found is not None
    record: Command = found.record
    return record


def forget(command: str = "c") -> Command:
    return trigger(command, "old").model_copy(update={"kind": CommandKind.FORGET})


def pointer(number: int) -> Pointer:
    return Pointer(
        version=number,
        sequence=number + 2,
        run="r",
        token=1,
        digest="blake3:" + "0" * 64,
        manifest_bytes=1,
        size_bytes=1,
        file_count=1,
        published=utcnow(),
    )


async def with_history(seat: Seat, runs: int) -> None:
    keys = seat.keys
    over = unfinished("old", "x").finish(Outcome.FAILED, now=utcnow())
    await put(
        seat,
        {
            keys.spec("old"): SPEC,
            keys.timetable("old"): timetable(0.5),
            keys.pointer("old"): pointer(7),
            keys.version("old", 7): Version(**pointer(7).model_dump()),
            keys.run("old", "waits"): unfinished("old", "waits"),
            **{
                keys.run("old", f"x{number}"): over.model_copy(update={"id": f"x{number}"})
                for number in range(runs)
            },
        },
    )


def left(view: View) -> set[Kind]:
    return {kind for kind, records in view.records.items() if any(names[:1] == ("old",) for names in records)}


async def test_a_job_that_no_replica_has_is_forgotten_with_all_of_its_history(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=120)
        async with going_on(take_commands(seat.office, {})):
            done = await asked(seat, forget())
        assert (done.accepted, done.outcome) == (True, "old was forgotten, with 121 runs and 1 version")
        assert left(seat.feed.view) == {Kind.FORGOTTEN}
        async with going_on(take_commands(seat.office, {})):
            again = await asked(seat, forget("again"))
        assert (again.accepted, "no job is called 'old'" in str(again.outcome)) == (False, True)


async def test_a_forgotten_job_that_comes_back_goes_on_counting_versions(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=0)
        async with going_on(take_commands(seat.office, {})):
            await asked(seat, forget())
        run = unfinished("j", "r").model_copy(update={"job": "old"})
        begun = await stored(seat, run.begin(token=seat.office.token, replica="r1", ttl_s=1.0, now=utcnow()))
        (tmp_path / "artifact").mkdir()
        await publish(seat.office, begun, tmp_path / "artifact", {"answer": 42})
        view = await seat.feed.until(lambda view: view.pointer("old") is not None)
        found = view.pointer("old")
        assert found is not None
        assert (found.record.version, found.record.sequence) == (8, 10)


async def test_forgetting_goes_on_where_a_leader_left_off(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: Any) -> None:
        raise OSError("as made up")

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=10)
        with monkeypatch.context() as patched:
            patched.setattr(forgetting, "_finish", crash)
            await put(seat, {seat.keys.command("c"): forget()})
            with pytest.raises(OSError, match="as made up"):
                await take_commands(seat.office, {})
        assert left(seat.feed.view) == {Kind.SPEC, Kind.FORGOTTEN}
        assert is_removed(seat.feed.view)
        async with going_on(take_commands(seat.office, {})):
            view = await seat.feed.until(lambda view: left(view) == {Kind.FORGOTTEN})
        assert view.get(Kind.FORGOTTEN, "old") is not None


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("the leader has it", "the leader, r1, has the job"),
        ("a member has it", "r2 has the job: stop it"),
        ("a member says nothing", "r2 has not said whether it has the job"),
        ("a worker may live", "a worker of its run lost may still be alive"),
    ],
)
async def test_a_job_that_somebody_has_is_not_forgotten(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, case: str, why: str
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=1)
        before = left(seat.feed.view)
        if case == "a member has it":
            await put_member(seat, "r2")
        if case == "a member says nothing":
            await put(seat, {seat.keys.member("r2"): member("r2")})
        if case == "a worker may live":
            await put(seat, {seat.keys.run("old", "lost"): lost("lost", ttl_s=3600.0)})
        loops: dict[str, Any] = {"old": None} if case == "the leader has it" else {}
        async with going_on(take_commands(seat.office, loops)):
            done = await asked(seat, forget())
        assert done.accepted is False
        assert str(done.outcome).startswith(why)
        assert left(seat.feed.view) == before


def test_a_job_that_was_taken_out_is_removed_forgotten_and_defined_again(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    module = tmp_path / "mine.py"
    both = "from leaderjob import job\n\n@job\ndef kept(ctx):\n    pass\n\n@job(schedule='every 1h')\ndef old(ctx):\n    pass\n"
    one = both.partition("@job(")[0]
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            tmp_path,
            jobs="mine",
            names=("r1",),
            ttl_s=SHORT_TTL_S,
            config='[results]\nremove_after = "500ms"\n',
        ) as cluster,
        told(cluster),
    ):
        module.write_text(both)
        run = cluster.start().trigger("old")
        assert cluster.ended("old", run).outcome is Outcome.SUCCEEDED
        refused = cluster.cli("forget", "old")
        assert (refused.returncode, "the leader, r1, has the job" in refused.stderr) == (1, True)
        cluster["r1"].terminate()

        module.write_text(one)
        cluster.start()
        cluster.until("it is removed", lambda view: is_removed(view) and no_fire(view))
        assert len(cluster.view().runs("old")) == 1, "its history stays"
        shown = cluster.cli("status").stdout
        assert "removed" in next(line for line in shown.splitlines() if line.startswith("old "))
        refused = cluster.cli("trigger", "old")
        assert "job 'old' was removed" in refused.stderr
        cluster["r1"].terminate()

        module.write_text(both)
        cluster.start()
        view = cluster.until("it is in force again", lambda view: not is_removed(view) and not no_fire(view))
        assert [found.record.outcome for found in view.runs("old")] == [Outcome.SUCCEEDED]
        cluster["r1"].terminate()

        module.write_text(one)
        cluster.start()
        forgotten = cluster.cli("forget", "old")
        assert (forgotten.returncode, forgotten.stdout) == (
            0,
            "old was forgotten, with 1 run and 0 versions\n",
        )
        assert left(cluster.view()) == set()
        assert cluster.cli("forget", "old").returncode == 4


def no_fire(view: View) -> bool:
    found = view.timetable("old")
    return found is not None and found.record.next_fire is None
