"""What a term has under way when it is to step down, and what it begins no more."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import dispatch
from leaderjob.engine.dispatch import Dispatch
from leaderjob.engine.office import Assignment
from leaderjob.execution.attempt import AttemptEnd
from leaderjob.model.run import Cause, Outcome, Run, State
from leaderjob.records.stored import Stored
from leaderjob.telemetry.events import Events
from tests.support.hearing import hearing
from tests.support.office import Seat, assigned, seated
from tests.support.streams import run_with_streams


def admitted() -> Run:
    return Run(
        id="r", job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=utcnow(), params={"value": 1}
    )


async def stored(seat: Seat, run: Run) -> Stored[Run]:
    key = seat.keys.run(run.job, run.id)
    revision = await seat.outside.put(key, run.to_bytes())
    return Stored(key, run, revision, revision)


def with_retries(retries: int) -> Assignment:
    assignment = assigned("j")
    policy = assignment.spec.policy.model_copy(update={"retries": retries})
    return replace(assignment, spec=assignment.spec.model_copy(update={"policy": policy}))


def outcomes(run: Run) -> list[Outcome | None]:
    return [attempt.outcome for attempt in run.attempts]


def failing(monkeypatch: pytest.MonkeyPatch, *, retry_after_s: float, meanwhile: Callable[[], None]) -> None:
    """Let each attempt fail, and ask to be tried again."""

    async def attempt(*args: Any, on_gone: Any, **options: Any) -> AttemptEnd:
        meanwhile()
        on_gone(True)
        return AttemptEnd(Outcome.FAILED, "as made up", retry_after_s=retry_after_s)

    monkeypatch.setattr(dispatch, "run_attempt", attempt)


def test_a_run_that_waits_for_its_retry_is_not_under_way(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with seated(etcd.endpoint, namespace, tmp_path) as seat:
            dispatching = Dispatch(seat.office, with_retries(9))
            busy: list[bool] = []
            failing(monkeypatch, retry_after_s=3600.0, meanwhile=lambda: busy.append(dispatching.busy))
            with hearing() as heard:
                carrying = asyncio.create_task(dispatching.carry_out(await stored(seat, admitted())))
                await heard.until(Events.ATTEMPT_FAILED)
                await dispatching.idle()
            assert (busy, dispatching.busy, carrying.done()) == ([True], False, False)
            carrying.cancel()
            await asyncio.wait([carrying])

    run_with_streams(main(), timeout_s=15)


def test_no_retry_begins_when_the_term_is_to_step_down(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with seated(etcd.endpoint, namespace, tmp_path) as seat:
            failing(monkeypatch, retry_after_s=0.0, meanwhile=lambda: seat.office.stepdown.ask("the test"))
            left = await Dispatch(seat.office, with_retries(9)).carry_out(await stored(seat, admitted()))
            assert (left.outcome, outcomes(left)) == (None, [Outcome.FAILED])

    run_with_streams(main())


def test_a_run_that_is_held_back_is_not_under_way_nor_begins_when_the_term_is_to_step_down(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with seated(etcd.endpoint, namespace, tmp_path) as seat:
            held = admitted().begin(token=1, replica="r0", ttl_s=3.0, now=utcnow())
            dispatching = Dispatch(seat.office, assigned("j"))
            with hearing() as heard:
                carrying = asyncio.create_task(dispatching.carry_out(await stored(seat, held)))
                await heard.until(Events.HOLDING_BACK)
            assert not dispatching.busy
            seat.office.stepdown.ask("the test")
            left = await carrying
            assert (left.outcome, outcomes(left)) == (None, [Outcome.ABANDONED])

    run_with_streams(main())
