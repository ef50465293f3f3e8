"""The pause before a retry is in the run's record, so a change of leader does not cut it short."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import dispatch
from leaderjob.engine.dispatch import Dispatch
from leaderjob.execution.attempt import AttemptEnd
from leaderjob.model.run import Outcome
from tests.support.office import seated
from tests.support.runs import admitted, begun, outcomes, read, stored, with_policy


@pytest.mark.parametrize("asked_s", [3600.0, None], ids=["asked for", "backoff"])
async def test_the_instant_of_a_retry_is_recorded_with_the_end_of_the_attempt(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_s: float | None
) -> None:
    async def attempt(*args: Any, on_gone: Any, **options: Any) -> AttemptEnd:
        on_gone(True)
        return AttemptEnd(Outcome.FAILED, "later", retry_after_s=asked_s)

    monkeypatch.setattr(dispatch, "run_attempt", attempt)
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        run = await stored(seat, admitted())
        await seat.feed.until(lambda view: bool(view.unfinished_runs("j")))
        carrying_out = asyncio.create_task(Dispatch(seat.office, with_policy(retries=1)).carry_out(run))
        await seat.feed.until(lambda view: view.unfinished_runs("j")[0].record.retry_at is not None)
        carrying_out.cancel()
        await asyncio.wait([carrying_out])
        waiting = (await read(seat, "r")).record
        last = waiting.attempts[-1]
        assert (outcomes(waiting), waiting.retry_at) == (
            [Outcome.FAILED],
            last.ended and last.ended + timedelta(seconds=1.0 if asked_s is None else asked_s),
        )


async def test_the_next_leader_waits_for_the_instant_that_the_job_asked_for(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        failed = begun(admitted(), 1).end_attempt(Outcome.FAILED, now=utcnow())
        left = await stored(seat, failed.retry_after(2.0))
        done = await Dispatch(seat.office, with_policy(retries=1)).carry_out(left)
        assert outcomes(done) == [Outcome.FAILED, Outcome.SUCCEEDED]
        assert left.record.retry_at is not None
        assert done.attempts[1].started >= left.record.retry_at
        assert done.retry_at is None
