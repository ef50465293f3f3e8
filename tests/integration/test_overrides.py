"""Overrides of jobs: taken up during a term, without a fire that is lost or repeated."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.definition import overridden
from leaderjob.engine.jobloop import JobLoop
from leaderjob.engine.overrides import overrides_in
from leaderjob.engine.reassignment import take_up_overrides
from leaderjob.engine.term import serve_term
from leaderjob.model.job import Parameter, Timetable
from leaderjob.model.run import Outcome
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, listen
from tests.support.cuttable import Cuttable
from tests.support.hearing import hearing
from tests.support.office import Seat, assigned, going_on, seated, trigger
from tests.support.replicas import Cluster, told


def every_fire(view: View, job: str) -> list[datetime]:
    """That the ledger accounts for by itself, in the order of time."""
    return sorted(
        run.record.fire_time for run in view.runs(job) if run.record.fire_time and not run.record.fires
    )


async def settled(seat: Seat, loop: JobLoop) -> None:
    """No run is under way, nor tidied up after."""
    await seat.feed.until(lambda view: not view.unfinished_runs("j"))
    await loop.idle()


async def trigger_obedient(seat: Seat, loop: JobLoop, *, effects: Path, gate: Path) -> None:
    """Trigger a job that works until there is a file ``gate``."""
    asked, key = trigger("r", "j", effects=str(effects), gate=str(gate)), seat.keys.command("r")
    revision = await seat.outside.put(key, asked.to_bytes())
    await loop.trigger(Stored(key, asked, revision, revision))


async def run_obediently(seat: Seat, loop: JobLoop, *, effects: Path, gate: Path) -> None:
    """The same; returns once it works."""
    await trigger_obedient(seat, loop, effects=effects, gate=gate)
    while not effects.exists():
        await asyncio.sleep(0.01)


async def until_timetable(seat: Seat, wanted: Callable[[Timetable], bool]) -> Timetable:
    def is_there(view: View) -> bool:
        found = view.timetable("j")
        return found is not None and wanted(found.record)

    found = (await seat.feed.until(is_there)).timetable("j")
    assert found is not None
    return found.record


@pytest.mark.timeout_s(20)
async def test_what_was_due_of_the_former_schedule_is_admitted_in_the_write_that_begins_the_new_one(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        assignment = assigned("j", "every 1s")
        loop = JobLoop(seat.office, assignment)
        async with going_on(loop.run()):
            begun = await until_timetable(seat, lambda one: True)
            assert begun.next_fire is not None
            # Nobody sounds the alarm here, so that what is due then waits for the change.
            await asyncio.sleep((begun.next_fire - utcnow()).total_seconds() + 0.01)
            loop.assign(overridden(assignment, {"schedule": ("every 3650d",)})[0])
            changed = await until_timetable(seat, lambda one: one.schedule == ("every 3650d",))
            view = seat.feed.view
            run = max(view.runs("j"), key=lambda run: run.record.fire_time or begun.watermark)
            timetable = view.timetable("j")
            await settled(seat, loop)
        assert run.record.fire_time is not None
        assert timetable is not None
        assert run.create_revision == timetable.mod_revision
        assert run.record.outcome is not Outcome.MISSED
        assert begun.next_fire <= run.record.fire_time <= changed.watermark
        assert changed.watermark < run.record.fire_time + timedelta(seconds=1)


@pytest.mark.timeout_s(25)
async def test_a_schedule_that_is_changed_again_and_again_loses_no_fire_and_repeats_none(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """Both schedules have a fire each second: so the ledger has to have each second once."""

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        assignment = assigned("j", "every 1s")
        both, _ = overridden(assignment, {"schedule": ("every 1s", "every 2s")})
        loop = JobLoop(seat.office, assignment)
        async with going_on(loop.run()):
            for wanted in cycle((both, assignment)):
                loop.assign(wanted)
                await until_timetable(seat, lambda one, w=wanted: one.schedule == w.spec.schedule)  # type: ignore[misc]
                await asyncio.sleep(0.02)
                if len(every_fire(seat.feed.view, "j")) >= 3:
                    break
            await settled(seat, loop)
        fires = every_fire(seat.feed.view, "j")
        assert fires == [fires[0] + timedelta(seconds=n) for n in range(len(fires))]


@pytest.mark.timeout_s(20)
async def test_a_new_schedule_begins_with_the_present(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        assignment = assigned("j")
        loop = JobLoop(seat.office, assignment)
        async with going_on(loop.run()):
            await until_timetable(seat, lambda one: True)
            await asyncio.sleep(1.05)
            changed_at = utcnow()
            loop.assign(overridden(assignment, {"schedule": ("every 1s",)})[0])
            changed = await until_timetable(seat, lambda one: one.schedule == ("every 1s",))
            assert changed.watermark >= changed_at
            await settled(seat, loop)
            assert all(fire > changed_at for fire in every_fire(seat.feed.view, "j"))


@pytest.mark.timeout_s(20)
async def test_a_timeout_holds_from_the_next_attempt_on(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        base = assigned("j")
        spec = base.spec.model_copy(update={"reference": "tests.support.jobs.witnessed:obedient"})
        assignment = replace(base, spec=spec)
        loop = JobLoop(seat.office, assignment)
        async with going_on(loop.run()):
            await until_timetable(seat, lambda one: True)
            loop.assign(overridden(assignment, {"timeout": 0.5})[0])
            await seat.feed.until(lambda view: view.specs["j"].record.overridden == ("timeout",))
            await trigger_obedient(seat, loop, effects=tmp_path / "e", gate=tmp_path / "never")
            view = await seat.feed.until(lambda view: any(run.record.outcome for run in view.runs("j")))
            assert view.runs("j")[0].record.outcome is Outcome.TIMED_OUT
            await settled(seat, loop)


@pytest.mark.timeout_s(20)
async def test_a_new_term_begins_with_the_overrides_and_does_not_end_the_schedule_that_they_set(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await overrides_in(seat.outside, namespace).set("jobs.j.schedule", "every 3650d")
        former = Timetable(watermark=utcnow(), schedule=("every 3650d",))
        revision = await seat.outside.put(seat.keys.timetable("j"), former.to_bytes())
        await seat.feed.until(lambda view: view.revision >= revision)
        async with going_on(serve_term(seat.office, {"j": assigned("j")})):
            found = await until_timetable(seat, lambda one: one.next_fire is not None)
        assert (found.watermark, found.schedule) == (former.watermark, former.schedule)


@pytest.mark.timeout_s(15)
async def test_a_loop_that_breaks_on_a_change_takes_it_up_when_it_begins_again(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        assignment = assigned("j", "every 3650d")
        loop = JobLoop(seat.office, assignment)

        async def fail() -> None:
            raise OSError("made up")

        async with going_on(loop.run()):
            await until_timetable(seat, lambda one: True)
            await loop.idle()
        seat.writer.before = fail
        loop.assign(overridden(assignment, {"enabled": False})[0])
        with pytest.raises(OSError, match="made up"):
            await loop.run()
        async with going_on(loop.run()):
            await until_timetable(seat, lambda one: one.schedule == ())
        assert (loop.spec.enabled, loop.spec.overridden) == (False, ("enabled",))


@pytest.mark.timeout_s(25)
async def test_a_change_that_etcd_is_away_for_waits_and_leaves_the_run_under_way_alone(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        seated(etcd.endpoint, namespace, tmp_path, through=proxy.endpoint) as seat,
    ):
        base = assigned("j", "every 3650d")
        spec = base.spec.model_copy(update={"reference": "tests.support.jobs.witnessed:obedient"})
        assignment, gate = replace(base, spec=spec), tmp_path / "gate"
        loop = JobLoop(seat.office, assignment)
        async with going_on(loop.run()):
            await until_timetable(seat, lambda one: True)
            await run_obediently(seat, loop, effects=tmp_path / "effects", gate=gate)
            for override in (
                {"timeout": 3600.0},  # is only announced
                {"schedule": ("every 3649d",)},  # has a timetable to read first
            ):
                with hearing() as heard:
                    await proxy.refuse()
                    loop.assign(overridden(assignment, override)[0])
                    await heard.until(Events.CONNECTION_TROUBLE)
                    await proxy.accept()
                    await heard.until(Events.JOB_CHANGED)
            gate.touch()
            view = await seat.feed.until(lambda view: any(run.record.outcome for run in view.runs("j")))
            (run,) = view.runs("j")
            assert [attempt.outcome for attempt in run.record.attempts] == [Outcome.SUCCEEDED]
            await settled(seat, loop)


@pytest.mark.timeout_s(15)
async def test_loops_begin_only_when_the_overrides_are_known_and_follow_them(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    refused: list[Any] = []

    def hear(event: Events, fields: Any) -> None:
        if event is Events.JOB_OVERRIDE_REFUSED:
            refused.append((fields["job"], fields["reason"]))

    stop = listen(hear)
    try:
        async with seated(etcd.endpoint, namespace, tmp_path) as seat:
            store = overrides_in(seat.outside, namespace)
            await store.set("jobs.j.params", {"value": 5})
            base = assigned("j", "every 3650d")
            parameters = (Parameter("value", "int", required=True),)
            strict = replace(base, spec=base.spec.model_copy(update={"parameters": parameters}))
            loop, known = JobLoop(seat.office, strict), asyncio.Event()
            async with going_on(take_up_overrides(seat.office, {"j": loop}, {"j": strict}, known)):
                await known.wait()
                async with going_on(loop.run()):
                    await seat.feed.until(lambda view: "j" in view.specs)
                    assert seat.feed.view.specs["j"].record.params == {"value": 5}
                    await store.update({"jobs.j.params": {"value": "five"}, "jobs.k.enabled": False})
                    await store.update({"jobs.j.params": {"value": 6}})
                    await seat.feed.until(lambda view: view.specs["j"].record.params == {"value": 6})
                    await store.rollback(0)
                    await seat.feed.until(lambda view: view.specs["j"].record.overridden == ())
                    assert loop.spec.params == {}
            assert ("k", "no job is called that") in refused
            assert any(job == "j" and "has to be of type int" in reason for job, reason in refused)
    finally:
        stop()


@pytest.mark.timeout_s(15)
async def test_overrides_that_etcd_is_away_for_are_waited_for(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        seated(etcd.endpoint, namespace, tmp_path, through=proxy.endpoint) as seat,
    ):
        base, known = assigned("j"), asyncio.Event()
        loop = JobLoop(seat.office, base)
        await proxy.refuse()
        with hearing() as heard:
            async with going_on(take_up_overrides(seat.office, {"j": loop}, {"j": base}, known)):
                await heard.until(Events.CONNECTION_TROUBLE)
                assert not known.is_set()
                await proxy.accept()
                await known.wait()


def test_an_override_changes_what_it_names_and_nothing_else() -> None:
    base = assigned("j", "every 1s")
    changed, refused = overridden(base, {"timeout": "5m", "params": {"value": 1}})
    assert refused == []
    assert (changed.spec.policy.timeout_s, changed.spec.params) == (300.0, {"value": 1})
    assert (changed.spec.schedule, changed.trigger) == (base.spec.schedule, base.trigger)
    assert changed.spec.overridden == ("params", "timeout")
    off, _ = overridden(base, {"enabled": False})
    assert (off.spec.schedule, off.trigger.rules, off.spec.enabled) == ((), (), False)
    assert overridden(base, None) == (base, [])


def test_what_does_not_fit_is_left_out_and_the_rest_of_an_override_counts() -> None:
    base = assigned("j", "every 1s")
    zoned = replace(base, spec=base.spec.model_copy(update={"time_zone": "Europe/Berlin"}))
    as_it_was, (reason,) = overridden(zoned, {"schedule": ("2030-03-31T02:30",), "timeout": 5.0})
    assert "skips that time" in reason
    assert (as_it_was.spec.schedule, as_it_was.trigger) == (base.spec.schedule, base.trigger)
    assert (as_it_was.spec.policy.timeout_s, as_it_was.spec.overridden) == (5.0, ("timeout",))
    strict = replace(base, spec=base.spec.model_copy(update={"parameters": ()}))
    off, (reason,) = overridden(strict, {"enabled": False, "params": {"typo": 1}})
    assert "typo" in reason
    assert (off.trigger.rules, off.spec.enabled, off.spec.params) == ((), False, base.spec.params)
    assert off.spec.overridden == ("enabled",)


@pytest.mark.slow
def test_replicas_take_an_override_up_without_a_restart_and_keep_it_across_leaders(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    effects = tmp_path / "ticks"
    config = f'[overrides.ticks]\nschedule = ""\nparams = {{effects = "{effects}"}}\n'
    jobs = "tests.support.jobs.witnessed"
    with (
        Cluster(etcd.endpoint, namespace, tmp_path, jobs=jobs, names=("r1", "r2"), config=config) as cluster,
        told(cluster),
    ):
        cluster.start()
        assert cluster.cli("config", "set", "jobs.tick.enabled", "false").returncode == 4
        assert cluster.cli("config", "set", "jobs.ticks.schedule", "every 1s").returncode == 0
        cluster.until("two fires", lambda view: len(every_fire(view, "ticks")) >= 2)
        (job,) = (job for job in cluster.status()["jobs"] if job["name"] == "ticks")
        assert (job["schedule"], job["overridden"], job["enabled"]) == (["every 1s"], ["schedule"], True)
        assert "note: ticks is overridden (schedule)" in cluster.cli("runs", "ticks").stderr
        former = cluster.leader()
        former.terminate()
        cluster.next_leader(former.name)
        count = len(every_fire(cluster.view(), "ticks"))
        view = cluster.until("more fires", lambda view: len(every_fire(view, "ticks")) >= count + 2)
        fires = every_fire(view, "ticks")
        assert len(set(fires)) == len(fires)
        assert cluster.cli("config", "set", "jobs.ticks.enabled", "false").returncode == 0
        cluster.until("disabled", lambda view: not view.specs["ticks"].record.enabled)
        assert "disabled (leaderjob config)" in cluster.cli("status").stdout
