"""A leader notes which jobs it lacks, and the next one tells their missed fires with that reason."""

from datetime import datetime, timedelta
from pathlib import Path

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.admission import Admission
from leaderjob.engine.commands import take_commands
from leaderjob.engine.lacking import note_lacking_jobs, settled_notes
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.job import JobSpec, Timetable
from leaderjob.model.lacking import Lacking
from leaderjob.model.member import Candidate, Lacks
from leaderjob.model.run import Outcome
from leaderjob.records.keys import Kind
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events
from tests.support.hearing import hearing
from tests.support.office import Seat, assigned, going_on, seated, trigger
from tests.support.ranks import member


async def define(seat: Seat, job: str, **fields: object) -> None:
    await seat.outside.put(seat.keys.spec(job), JobSpec(name=job, reference="m:f", **fields).to_bytes())  # type: ignore[arg-type]
    await seat.feed.until(lambda view: view.is_in_force(job) or fields.get("removed") is not None)


def noted(view: View, seat: Seat) -> Lacking | None:
    stored = view.get(Kind.LACKING, str(seat.office.token))
    return stored.record if stored is not None else None


async def test_a_leader_notes_the_jobs_that_it_lacks_and_since_when_another_replica_has_them(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await define(seat, "mine")
        await define(seat, "other")
        await define(seat, "gone", removed=utcnow())
        with hearing() as heard:
            async with going_on(note_lacking_jobs(seat.office, {"mine"})):
                view = await seat.feed.until(lambda view: noted(view, seat) is not None)
                first = noted(view, seat)
                assert first is not None
                assert (first.jobs, first.elsewhere, first.replica) == (("other",), {}, "r1")
                newest = view.specs["gone"].create_revision
                has_all = member("r2").model_copy(update={"lacks": Lacks(revision=newest)})
                await seat.outside.put(seat.keys.member("r2"), has_all.to_bytes())
                view = await seat.feed.until(
                    lambda view: (note := noted(view, seat)) is not None and bool(note.elsewhere)
                )
                second = noted(view, seat)
                assert second is not None
                assert (list(second.elsewhere), second.since) == (["other"], first.since)
                await seat.outside.delete(seat.keys.member("r2"))
                view = await seat.feed.until(
                    lambda view: (note := noted(view, seat)) is not None and len(note.elsewhere["other"]) == 2
                )
            assert heard.all(Events.LEADS_WITHOUT_JOBS) == [
                {"term": seat.office.token, "count": 1, "jobs": "other"}
            ]


def note_of(token: int, since: datetime, seen: datetime) -> Lacking:
    return Lacking(token=token, replica="r0", since=since, seen=seen, jobs=("j",))


async def test_fires_of_a_time_in_which_no_replica_had_the_job_are_told_with_that_reason(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        now = utcnow()
        ago = now - timedelta(hours=2)
        former = Timetable(
            watermark=ago, next_fire=ago + timedelta(minutes=1), schedule=("every 1m",), time_zone="UTC"
        )
        await seat.outside.put(seat.keys.timetable("j"), former.to_bytes())
        await define(seat, "j")
        note = note_of(1, ago + timedelta(minutes=30), ago + timedelta(minutes=60))
        await seat.outside.put(seat.keys.lacking(1), note.to_bytes())
        await seat.feed.until(lambda view: bool(view.records[Kind.LACKING]))
        assert list(settled_notes(seat.feed.view, seat.office.token)) == [], "its fires are still owed"
        admission = Admission(seat.office, assigned("j", "every 1m"))
        await admission.admit_due(None)
        view = await seat.feed.until(lambda view: len(view.runs("j")) == 4)
        missed = [stored.record for stored in view.runs("j") if stored.record.outcome is Outcome.MISSED]
        missed.sort(key=lambda run: run.fire_time or now)
        reasons = [(run.reason or "").partition(",")[0] for run in missed]
        assert reasons == [
            "due while nobody led or the leader was held up",
            "due while no replica had this job",
            "due while nobody led or the leader was held up",
        ]
        during = missed[1].fires
        assert during is not None
        assert timedelta(minutes=29) <= during.last - during.first <= timedelta(minutes=31)
        settled = [stored.record.token for stored in settled_notes(seat.feed.view, seat.office.token)]
        assert settled == [1]


async def test_fires_of_a_former_schedule_are_told_with_that_reason_too(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        ago = utcnow() - timedelta(hours=2)
        former = Timetable(watermark=ago, schedule=("every 10m",), time_zone="UTC")
        await seat.outside.put(seat.keys.timetable("j"), former.to_bytes())
        await seat.outside.put(seat.keys.lacking(1), note_of(1, ago, utcnow()).to_bytes())
        await seat.feed.until(lambda view: bool(view.records[Kind.LACKING]))
        await Admission(seat.office, assigned("j", "every 1h")).open()
        view = await seat.feed.until(lambda view: len(view.runs("j")) == 1)
        assert (
            view.runs("j")[0].record.reason == "due under the former schedule, while no replica had this job"
        )


async def outcome_of(seat: Seat, command: Command) -> str:
    await seat.outside.put(seat.keys.command(command.id), command.to_bytes())
    view = await seat.feed.until(
        lambda view: (
            (found := view.get(Kind.COMMAND, command.id)) is not None and found.record.done is not None
        )
    )
    found = view.get(Kind.COMMAND, command.id)
    assert found is not None
    assert not found.record.accepted
    return str(found.record.outcome)


async def test_a_leader_that_lacks_a_job_says_so_to_whoever_triggers_it(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await define(seat, "j")
        async with going_on(take_commands(seat.office, {})):
            said = await outcome_of(seat, trigger("c", "j"))
        assert said.startswith("the leader, r1, does not have job 'j'")


async def test_a_leader_refuses_a_transfer_to_a_replica_that_lacks_more_jobs(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await define(seat, "j")
        newest = seat.feed.view.specs["j"].create_revision
        for replica, lacks in (
            ("r1", Lacks(revision=newest)),
            ("r2", Lacks(jobs=("j",), count=1, revision=newest)),
        ):
            record = member(replica).model_copy(update={"lacks": lacks})
            await seat.outside.put(seat.keys.member(replica), record.to_bytes())
        candidate = Candidate(replica="r2", incarnation="r2", addresses={}, since=utcnow())
        await seat.outside.put(f"{seat.keys.election}ffff", candidate.to_bytes())
        await seat.feed.until(lambda view: len(view.queue) == 2 and len(view.members) == 2)
        command = trigger("c", "j").model_copy(
            update={"kind": CommandKind.TRANSFER, "to": "r2", "token": seat.office.token}
        )
        async with going_on(take_commands(seat.office, {})):
            said = await outcome_of(seat, command)
        assert said.startswith(
            "r2 lacks 1 job that it could not run as the leader (j), and r1 has more of them"
        )
