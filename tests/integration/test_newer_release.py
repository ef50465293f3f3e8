"""What a newer release wrote is left alone and holds up the job that it belongs to; on its layout of keys nobody leads."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.dispatch import Dispatch
from leaderjob.engine.publication import publish
from leaderjob.engine.retention import retain
from leaderjob.engine.term import serve_term
from leaderjob.model.command import Command
from leaderjob.model.job import JobSpec
from leaderjob.model.run import Cause, Outcome, Run, State
from leaderjob.records.keys import Keys
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events
from tests.support.hearing import hearing
from tests.support.office import Seat, assigned, going_on, seated, trigger
from tests.support.replicas import Cluster, Replica, leads, told, wait_for_line
from tests.support.runs import stored

_KEYS = Keys("n")
_OF_A_JOB = [
    key.removeprefix(_KEYS.root)
    for key in (
        _KEYS.spec("j"),
        _KEYS.timetable("j"),
        _KEYS.forgotten("j"),
        _KEYS.run("j", "20260101t000000z"),
        _KEYS.staged("j", "r"),
        _KEYS.pointer("j"),
        _KEYS.version("j", 1),
        _KEYS.numbers("j"),
    )
]


def ready(cluster: Cluster, replica: Replica) -> str:
    """What the replica says once it is ready: for a moment it has no session."""
    view = cluster.until("it is a member again", lambda view: replica.name in view.members)
    address = view.members[replica.name].record.addresses["http"]
    give_up_at = time.monotonic() + 30.0
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=10) as reply:
                return str(reply.read().decode())
        except urllib.error.HTTPError as error:
            assert time.monotonic() < give_up_at, error.read()
            time.sleep(0.05)


async def answered(seat: Seat, command: str, job: str) -> Command:
    """What became of a trigger."""
    key = seat.keys.command(command)
    await seat.outside.put(key, trigger(command, job, value=1).to_bytes())

    def answer(view: View) -> Command | None:
        found = [stored.record for stored in view.commands if stored.record.id == command]
        return found[0] if found and found[0].done is not None else None

    done = answer(await seat.feed.until(lambda view: answer(view) is not None))
    assert done is not None
    return done


@pytest.mark.parametrize("name", _OF_A_JOB)
async def test_a_job_with_a_record_of_a_newer_release_waits_and_the_others_go_on(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, name: str
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        key, value = seat.keys.root + name, b'{"v":99,"what":"nobody here knows"}'
        with hearing() as heard:
            await seat.outside.put(key, value)
            await seat.feed.until(lambda view: key in view.newer)
            async with going_on(serve_term(seat.office, {"j": assigned("j"), "k": assigned("k")})):
                waits = await heard.until(Events.JOB_WAITS_FOR_NEWER)
                assert (waits["job"], waits["keys"]) == ("j", key)
                refused = await answered(seat, "c1", "j")
                assert not refused.accepted
                assert f"only a newer release can read {key}" in str(refused.outcome)
                assert (await answered(seat, "c2", "k")).accepted
                await heard.until(Events.RUN_FINISHED)
                found = (await seat.outside.range(seat.keys.root)).kvs
                assert [kv.value for kv in found if kv.key == key] == [value]
                assert [kv.key for kv in found if "/j/" in kv.key or "quarantine" in kv.key] == [key]

                await seat.outside.delete(key)
                await seat.feed.until(lambda view: "j" in view.specs)
                assert (await answered(seat, "c3", "j")).accepted
                assert (await heard.until(Events.RUN_FINISHED, 2))["outcome"] is Outcome.SUCCEEDED
        assert [fields["key"] for fields in heard.all(Events.RECORD_NEWER)] == [key]


async def test_a_record_that_becomes_newer_stops_its_job_between_two_runs(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        with hearing() as heard:
            async with going_on(serve_term(seat.office, {"j": assigned("j", "every 1s")})):
                await heard.until(Events.RUN_FINISHED)
                key, value = seat.keys.run("j", "later"), b'{"v":2}'
                await seat.outside.put(key, value)
                await heard.until(Events.JOB_WAITS_FOR_NEWER)
                found = await seat.outside.get(key)
                assert found is not None
                assert found.value == value
                runs = len(heard.all(Events.RUN_FINISHED))
                await seat.outside.delete(key)
                await heard.until(Events.RUN_FINISHED, runs + 1)


async def test_a_run_begins_no_attempt_until_every_record_of_its_job_can_be_read(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        key = seat.keys.run("j", "later")
        await seat.outside.put(key, b'{"v":99}')
        await seat.feed.until(lambda view: key in view.newer)
        run = await stored(
            seat, Run(id="r", job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=utcnow())
        )
        with hearing() as heard:
            carrying_out = asyncio.create_task(Dispatch(seat.office, assigned("j")).carry_out(run))
            waits = asyncio.create_task(heard.until(Events.JOB_WAITS_FOR_NEWER))
            await asyncio.wait([waits, carrying_out], return_when=asyncio.FIRST_COMPLETED)
            assert not heard.all(Events.RUN_STARTED)
            await seat.outside.delete(key)
            done = await carrying_out
        assert (await waits)["keys"] == key
        assert done.outcome is not None


async def test_retention_takes_nothing_of_a_job_of_which_a_newer_release_may_need_it(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        keep = seat.office.limits.keep_skipped
        for job in ("j", "k"):
            await seat.outside.put(seat.keys.spec(job), JobSpec(name=job, reference="m:f").to_bytes())
            for number in range(keep + 3):
                admitted = Run(
                    id=f"r{number}", job=job, cause=Cause.TRIGGER, state=State.ADMITTED, created=utcnow()
                )
                over = admitted.finish(Outcome.MISSED, now=utcnow())
                await seat.outside.put(seat.keys.run(job, over.id), over.to_bytes())
        revision = await seat.outside.put(seat.keys.version("j", 7), b'{"v":99}')
        await seat.feed.until(lambda view: view.revision >= revision)
        async with going_on(retain(seat.office)):
            view = await seat.feed.until(lambda view: len(view.runs("k")) == keep)
        assert len(view.runs("j")) == keep + 3


async def test_a_result_is_published_once_every_record_of_its_job_can_be_read(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        key = seat.keys.version("j", 7)
        await seat.outside.put(key, b'{"v":99}')
        await seat.feed.until(lambda view: key in view.newer)
        run = Run(id="r", job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=utcnow())
        begun = await stored(seat, run.begin(token=seat.office.token, replica="r1", ttl_s=1.0, now=utcnow()))
        (tmp_path / "artifact").mkdir()
        with hearing() as heard:
            async with going_on(publish(seat.office, begun, tmp_path / "artifact", {"answer": 42})):
                assert (await heard.until(Events.JOB_WAITS_FOR_NEWER))["keys"] == key
                assert seat.feed.view.pointer("j") is None
                await seat.outside.delete(key)
                view = await seat.feed.until(lambda view: view.pointer("j") is not None)
        assert [found.record.outcome for found in view.runs("j")] == [Outcome.SUCCEEDED]


async def test_a_command_of_a_newer_release_is_neither_obeyed_nor_answered_nor_in_the_way(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        obeyed_today = json.loads(trigger("a", "j", value=1).to_bytes())
        async with going_on(serve_term(seat.office, {"j": assigned("j")})):
            for name, change in (("a", {"v": 99}), ("b", {"id": "b", "kind": "levitate"})):
                value = json.dumps({**obeyed_today, **change}).encode()
                await seat.outside.put(seat.keys.command(name), value)
            assert (await answered(seat, "c", "j")).accepted
            for name in ("a", "b"):
                found = await seat.outside.get(seat.keys.command(name))
                assert found is not None
                assert "done" not in json.loads(found.value)
            assert {key.rpartition("/")[2] for key in seat.feed.view.newer} == {"a", "b"}


@pytest.mark.timeout_s(120)
def test_nobody_leads_on_a_layout_that_is_newer_and_everybody_says_so_and_serves(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    jobs = "tests.support.jobs.witnessed"
    config = '[overrides.ticks]\nschedule = ""\n'
    cluster = Cluster(
        etcd.endpoint, namespace, tmp_path / "r", jobs=jobs, names=("r1", "r2"), config=config, ttl_s=5
    )
    with cluster as two, told(two.start()):
        assert {member["reads_schema"] for member in two.status()["members"]} == {1}
        assert [stored.record.reads_schema for stored in two.view().queue] == [1, 1]
        leader = two.leader()
        two.put(two.keys.schema, b'{"v":1,"schema":2}')
        two.until(
            "nobody stands, and both are members",
            lambda view: not view.candidates and len(view.members) == 2,
        )
        wait_for_line(leader, "stepping_down")
        for replica in two.replicas.values():
            wait_for_line(replica, "schema_too_new")
            assert "layout 2, and this release reads 1" in ready(two, replica)
        status = two.cli("status")
        assert "nobody leads" in status.stdout
        assert "layout 2" in " ".join(status.stderr.split())
        assert "XX  keys" in two.cli("doctor").stdout
        two.put(two.keys.schema, b'{"v":1,"schema":1}')
        two.until("somebody leads again", lambda view: leads(view) is not None)


@pytest.mark.timeout_s(120)
def test_a_history_of_a_newer_release_is_left_alone_by_a_replica_that_serves_and_does_not_stand(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    cluster = Cluster(
        etcd.endpoint, namespace, tmp_path / "r", jobs="tests.support.jobs.ordinary", names=("r1",), ttl_s=5
    )
    with cluster as one, told(one.start()):
        stored = one.view().history()
        assert stored is not None
        assert one["r1"].terminate() == 0
        newer = b'{"v":2,"id":{"of":"a newer release"}}'
        one.put(one.keys.history, newer)
        one["r1"].start()
        view = one.until("it is a member", lambda view: "r1" in view.members)
        wait_for_line(one["r1"], "record_newer")
        assert not view.candidates
        assert view.newer[one.keys.history].kv.value == newer
        one.put(one.keys.history, stored.record.to_bytes())
        one.until("it leads", lambda view: leads(view) == "r1")
