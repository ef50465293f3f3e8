"""A term with many jobs and records: its calls are bounded, and what is old goes without stalling the event loop."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.retention import retain
from leaderjob.etcd import Put, modified_at
from leaderjob.model.artifact import Staged
from leaderjob.model.ids import fire_id
from leaderjob.model.job import JobSpec
from leaderjob.model.run import Attempt, Cause, Outcome, Run, State
from leaderjob.records.view import View
from tests.support.office import Seat, going_on, seated

CALLS = 200
MOST_AT_ONCE = 32


class Concurrency:
    """How many calls are under way at once, at most."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def counting(self, call: Any) -> Any:
        async def counted(*arguments: Any, **options: Any) -> Any:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await call(*arguments, **options)
            finally:
                self.now -= 1

        return counted


async def test_calls_of_a_term_are_bounded_and_all_are_done(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        calls = Concurrency()
        client = seat.office.leadership.etcd
        monkeypatch.setattr(client, "txn", calls.counting(client.txn))
        monkeypatch.setattr(client, "get", calls.counting(client.get))

        async def write(number: int) -> None:
            key = f"{seat.keys.root}many/{number}"
            assert await seat.writer.read(key) is None
            await seat.writer.commit([modified_at(key, 0)], [Put(key, b"")])

        async with asyncio.TaskGroup() as group:
            for number in range(CALLS):
                group.create_task(write(number))
        assert len((await seat.outside.range(f"{seat.keys.root}many/")).kvs) == CALLS
        assert 1 < calls.most <= MOST_AT_ONCE


def past_run(job: str, at: datetime, outcome: Outcome) -> Run:
    attempt = Attempt(number=1, token=1, replica="r1", ttl_s=10, started=at, ended=at, outcome=outcome)
    return Run(
        id=fire_id(at),
        job=job,
        cause=Cause.SCHEDULE,
        state=State.DONE,
        created=at,
        fire_time=at,
        attempts=() if outcome is Outcome.SKIPPED else (attempt,),
        outcome=outcome,
        ended=at,
    )


async def put_all(seat: Seat, puts: list[Put]) -> None:
    """Returns when the feed shows them."""
    revision = 0
    for start in range(0, len(puts), 100):
        revision = (await seat.outside.txn((), puts[start : start + 100])).revision
    await seat.feed.until(lambda view: view.revision >= revision)


def put_past(seat: Seat, job: str, seconds: int, *, runs_every: int) -> list[Put]:
    """A definition, and a fire each second: one of so many ran, and the others were skipped."""
    start = utcnow().replace(microsecond=0) - timedelta(hours=1)
    puts = [Put(seat.keys.spec(job), JobSpec(name=job, reference="m:f").to_bytes())]
    for second in range(seconds):
        outcome = Outcome.SKIPPED if second % runs_every else Outcome.SUCCEEDED
        run = past_run(job, start + timedelta(seconds=second), outcome)
        puts.append(Put(seat.keys.run(job, run.id), run.to_bytes()))
    return puts


def kept(view: View, job: str) -> tuple[int, int]:
    """How many of its runs are left, and how many of its skipped fires."""
    records = [stored.record for stored in view.runs(job)]
    began = sum(bool(record.attempts) for record in records)
    return began, len(records) - began


async def test_skipped_fires_and_runs_of_each_job_have_budgets_of_their_own(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        limits = seat.office.limits
        await put_all(
            seat, [*put_past(seat, "slow", 300, runs_every=25), *put_past(seat, "quick", 30, runs_every=1)]
        )
        assert (kept(seat.feed.view, "slow"), kept(seat.feed.view, "quick")) == ((12, 288), (30, 0))
        async with going_on(retain(seat.office)):
            view = await seat.feed.until(
                lambda view: kept(view, "slow") == (limits.keep_runs, limits.keep_skipped)
            )
            await seat.feed.until(lambda view: kept(view, "quick") == (limits.keep_runs, 0))
        assert all(run.record.outcome in (Outcome.SUCCEEDED, Outcome.SKIPPED) for run in view.runs("slow"))


async def test_batch_with_a_record_that_changed_does_not_keep_the_others_from_being_removed(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await put_all(seat, put_past(seat, "j", 150, runs_every=1))
        oldest = seat.feed.view.runs("j")[0]
        changed = oldest.record.model_copy(update={"reason": "edited"})

        async def edit() -> None:
            await seat.outside.put(oldest.key, changed.to_bytes())

        seat.writer.before = edit
        async with going_on(retain(seat.office)):
            # The first batch of 50 conflicts; the other 90 that are too many go in this pass.
            await seat.feed.until(lambda view: len(view.runs("j")) == 60)
        assert seat.feed.view.runs("j")[0].record.reason == "edited"


async def test_staged_record_goes_once_its_run_is_over(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        await put_all(seat, put_past(seat, "j", 1, runs_every=1))
        (over,) = seat.feed.view.runs("j")
        begun = over.record.model_copy(update={"id": "begun", "state": State.RUNNING, "outcome": None})
        puts = []
        for run in (over.record, begun):
            staged = Staged(
                job="j",
                run=run.id,
                token=1,
                digest="blake3:" + "0" * 64,
                manifest_bytes=1,
                size_bytes=1,
                file_count=1,
            )
            puts += [
                Put(seat.keys.run("j", run.id), run.to_bytes()),
                Put(seat.keys.staged("j", run.id), staged.to_bytes()),
            ]
        await put_all(seat, puts)
        async with going_on(retain(seat.office)):
            view = await seat.feed.until(lambda view: len(view.staged("j")) == 1)
        assert view.staged("j")[0].record.run == "begun"
