"""A run is carried out by a term on a real etcd: what the end of an attempt leads to."""

import time
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import boottime, utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import dispatch
from leaderjob.engine.dispatch import Dispatch
from leaderjob.execution.attempt import AttemptEnd
from leaderjob.model.run import Cause, Outcome, Run, State
from leaderjob.records.stored import Stored
from tests.support.office import Seat, assigned, seated
from tests.support.streams import run_with_streams


def admitted(run: str = "r") -> Run:
    return Run(
        id=run, job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=utcnow(), params={"value": 1}
    )


async def stored(seat: Seat, run: Run) -> Stored[Run]:
    key = seat.keys.run(run.job, run.id)
    revision = await seat.outside.put(key, run.to_bytes())
    return Stored(key, run, revision, revision)


def outcomes(run: Run) -> list[Outcome | None]:
    return [attempt.outcome for attempt in run.attempts]


def test_a_work_directory_that_cannot_be_made_is_a_failure_of_the_run_and_no_lost_leader(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "work").write_text("where a directory should be")

    async def main() -> None:
        async with seated(etcd.endpoint, namespace, tmp_path) as seat:
            done = await Dispatch(seat.office, assigned("j")).carry_out(await stored(seat, admitted()))
            assert (done.outcome, outcomes(done)) == (Outcome.FAILED, [Outcome.FAILED])
            assert done.reason is not None
            assert str(tmp_path / "work") in done.reason
            assert "cannot be made: Not a directory" in done.reason

    run_with_streams(main())


def test_an_attempt_that_this_very_term_left_unfinished_is_not_said_to_have_lost_another_leader(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with seated(etcd.endpoint, namespace, tmp_path) as seat:
            begun = admitted().begin(token=seat.office.token, replica="r1", ttl_s=10.0, now=utcnow())
            began_at = time.monotonic()
            done = await Dispatch(seat.office, assigned("j")).carry_out(await stored(seat, begun))
            assert time.monotonic() - began_at < 5.0, "there is nobody to wait for"
            assert outcomes(done) == [Outcome.ABANDONED, Outcome.SUCCEEDED]
            assert done.attempts[0].reason == "the leader could not go on with it: its log says why"

    run_with_streams(main())


@pytest.mark.parametrize("same_run", [True, False], ids=["retry", "next run"])
def test_where_processes_were_left_the_next_attempt_waits_for_longer_than_the_ttl(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_run: bool
) -> None:
    """No process can be made that outlives SIGKILL, so the end of the first attempt is made up."""
    started: list[float] = []

    async def attempt(*args: Any, on_gone: Any, **options: Any) -> AttemptEnd:
        started.append(boottime())
        reaped = len(started) > 1
        on_gone(reaped)
        return AttemptEnd(
            Outcome.SUCCEEDED if reaped else Outcome.FAILED,
            "as made up",
            retry_after_s=0.0,
            permanent=not same_run,
            reaped=reaped,
        )

    monkeypatch.setattr(dispatch, "run_attempt", attempt)

    async def main() -> None:
        async with seated(etcd.endpoint, namespace, tmp_path) as seat:
            assignment = assigned("j")
            policy = assignment.spec.policy.model_copy(update={"retries": 1})
            object.__setattr__(assignment, "spec", assignment.spec.model_copy(update={"policy": policy}))
            dispatching = Dispatch(seat.office, assignment)
            done = await dispatching.carry_out(await stored(seat, admitted()))
            assert done.attempts[0].workers_gone is False
            if not same_run:
                done = await dispatching.carry_out(await stored(seat, admitted("next")))
            assert done.outcome is Outcome.SUCCEEDED
            ttl_s = seat.office.leadership.session.ttl_s
            assert started[1] - started[0] >= ttl_s * 1.01

    run_with_streams(main())
