"""A removed job that comes back, or is ended, while it is being forgotten; and what a look at removed jobs costs."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.cluster.lacking import count_lacks
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import removal as removals
from leaderjob.engine.admission import Admission
from leaderjob.engine.commands import take_commands
from leaderjob.etcd import Delete, Op
from leaderjob.model.job import Timetable
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from tests.integration.test_removed_jobs import (
    SPEC,
    asked,
    forget,
    left,
    put,
    removal,
    timetable,
    with_history,
)
from tests.support.office import Interrupted, Seat, going_on, seated
from tests.support.ranks import member


def before_deleting(
    seat: Seat, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]
) -> None:
    """Do something once, right before the first write that deletes records of the timetable's batch."""
    commit, key = seat.writer.commit_nested, seat.keys.timetable("old")
    acted: list[bool] = []

    async def interrupted(_: Interrupted, compares: Any, ops: list[Op]) -> Any:
        if not acted and any(isinstance(op, Delete) and op.key == key for op in ops):
            acted.append(True)
            await act()
        return await commit(compares, ops)

    monkeypatch.setattr(Interrupted, "commit_nested", interrupted)


async def test_a_job_that_comes_back_while_it_is_being_forgotten_keeps_what_it_has(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=3)
        loops: dict[str, Any] = {}

        async def come_back() -> None:
            loops["old"] = None
            await seat.outside.put(seat.keys.spec("old"), SPEC.to_bytes())

        before_deleting(seat, monkeypatch, come_back)
        async with going_on(take_commands(seat.office, loops)):
            done = await asked(seat, forget())
        assert (done.accepted, "the leader, r1, has the job" in str(done.outcome)) == (False, True)
        assert {Kind.SPEC, Kind.TIMETABLE, Kind.RUN, Kind.POINTER, Kind.VERSION} <= left(seat.feed.view)


async def test_forgetting_that_stops_after_any_of_its_writes_is_gone_on_with_and_numbers_never_fall(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        stopped = 0

        async def crash(last: int) -> None:
            """Right after the write with that number."""
            if seat.writer.writes == last:
                raise OSError("as made up")
            seat.writer.after = partial(crash, last)

        while True:
            await with_history(seat, runs=60)
            last = seat.writer.writes + stopped + 1
            seat.writer.after = partial(crash, last)
            await put(seat, {seat.keys.command("c"): forget()})
            try:
                async with going_on(take_commands(seat.office, {})):
                    await seat.feed.until(lambda view: view.commands[0].record.done is not None)
            except* OSError:
                seat.writer.after = None
            else:
                break
            async with going_on(take_commands(seat.office, {})):
                await asyncio.sleep(0)  # let it begin: after the last write there is nothing left to do
                view = await seat.feed.until(
                    lambda view: view.commands[0].record.done is not None and left(view) == {Kind.FORGOTTEN}
                )
            found = view.get(Kind.FORGOTTEN, "old")
            assert found is not None
            assert (found.record.version, found.record.sequence) == (7, 9)
            stopped += 1
        assert stopped >= 5, "marked, ended, remembered, deleted, answered"


async def test_whoever_forgets_a_job_whose_records_change_all_the_time_is_told_so(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=0)
        commit = seat.writer.commit_nested

        async def interrupted(_: Interrupted, compares: Any, ops: list[Op]) -> Any:
            if any(isinstance(op, Delete) for op in ops):
                await put(seat, {seat.keys.timetable("old"): timetable(0.5)})
            return await commit(compares, ops)

        monkeypatch.setattr(Interrupted, "commit_nested", interrupted)
        async with going_on(take_commands(seat.office, {})):
            done = await asked(seat, forget())
        assert (done.accepted, "changed by somebody else all the time" in str(done.outcome)) == (False, True)


async def test_a_removed_job_that_is_being_ended_is_forgotten_afterwards_and_leaves_no_timetable(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=0)
        await put(seat, {seat.keys.spec("old"): SPEC.model_copy(update={"removed": utcnow()})})
        forgetting: list[asyncio.Task[Any]] = []
        read = Admission._read

        async def read_late(admission: Admission) -> Stored[Timetable] | None:
            if not forgetting:
                forgetting.append(asyncio.create_task(asked(seat, forget())))
                # As long as it would take if nothing kept it from deleting the timetable meanwhile.
                await asyncio.wait(forgetting, timeout=0.5)
            return await read(admission)

        monkeypatch.setattr(Admission, "_read", read_late)
        async with going_on(take_commands(seat.office, {})):
            await removal(seat).look()
            assert (await forgetting[0]).accepted
        assert left(seat.feed.view) == {Kind.FORGOTTEN}


async def test_a_replica_whose_record_only_a_newer_release_can_read_may_have_the_job(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=1)
        key = seat.keys.member("r9")
        await seat.outside.put(key, b'{"v":99}')
        await seat.feed.until(lambda view: key in view.newer)
        before = left(seat.feed.view)
        async with going_on(take_commands(seat.office, {})):
            done = await asked(seat, forget())
            assert (done.accepted, f"only a newer release can read {key}" in str(done.outcome)) == (
                False,
                True,
            )
            assert left(seat.feed.view) == before
            await seat.outside.delete(key)
            await seat.feed.until(lambda view: not view.newer)
            assert (await asked(seat, forget("again"))).accepted


async def test_a_removed_job_of_which_nothing_is_left_to_end_costs_no_look_at_its_history(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=3)
        removing = removal(seat)
        await removing.look()
        await removing.look()
        await seat.feed.until(
            lambda view: (found := view.timetable("old")) is not None and found.record.next_fire is None
        )
        looked: list[str] = []
        monkeypatch.setattr(removals, "workers_may_live", lambda _, job: looked.append(job))
        await removing.look()
        assert not looked
        assert not seat.feed.view.unfinished_runs("old")


async def test_a_job_without_a_definition_is_not_forgotten_while_a_member_has_it(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """Somebody has deleted it, or it was damaged and moved aside."""
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await with_history(seat, runs=1)
        await seat.outside.delete(seat.keys.spec("old"))
        await seat.feed.until(lambda view: "old" not in view.specs)
        before = left(seat.feed.view)
        counted = count_lacks(seat.feed.view, {"old"})
        await put(seat, {seat.keys.member("r2"): member("r2").model_copy(update={"lacks": counted})})
        async with going_on(take_commands(seat.office, {})):
            done = await asked(seat, forget())
            assert (done.accepted, "r2 has the job" in str(done.outcome)) == (False, True)
            assert left(seat.feed.view) == before
            counted = count_lacks(seat.feed.view, {"mine"})
            await put(seat, {seat.keys.member("r2"): member("r2").model_copy(update={"lacks": counted})})
            assert (await asked(seat, forget("again"))).accepted
