"""An outcome that cannot be recorded as it is ends its run, once, with the reason; nothing of it is left behind."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import artifact_directory, dispatch
from leaderjob.engine.definition import Assignment
from leaderjob.engine.dispatch import Dispatch
from leaderjob.etcd import PermissionDenied, RequestRefused
from leaderjob.execution.attempt import AttemptEnd
from leaderjob.model.run import Outcome, Progress, Run
from leaderjob.telemetry.events import Events
from tests.support.hearing import hearing
from tests.support.jobs.odd import PUBLISHED, UNRECORDABLE
from tests.support.office import Seat, seated
from tests.support.runs import admitted, outcomes, read, stored, with_policy


@pytest.fixture(autouse=True)
def tidied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A busy machine may take its time. What pytest itself could not remove must not outlive a test that fails."""
    monkeypatch.setattr(artifact_directory, "_TIDY_WITHIN_S", 50.0)
    yield
    subprocess.run(["rm", "-rf", tmp_path / "work"], check=True)


def odd(**policy: Any) -> Assignment:
    assignment = with_policy(**policy)
    spec = assignment.spec.model_copy(update={"reference": "tests.support.jobs.odd:odd"})
    return replace(assignment, spec=spec)


@asynccontextmanager
async def carried_out(
    etcd: EmbeddedEtcd, namespace: str, directory: Path, how: str
) -> AsyncIterator[tuple[Seat, Run]]:
    async with seated(etcd.endpoint, namespace, directory) as seat:
        run = admitted().model_copy(update={"params": {"how": how}})
        done = await Dispatch(seat.office, odd()).carry_out(await stored(seat, run))
        assert (await read(seat, "r")).record == done
        yield seat, done


def left_in_the_attempt(directory: Path) -> list[str]:
    (attempt_dir,) = (directory / "work" / "j").iterdir()
    return [path.name for path in attempt_dir.iterdir()]


@pytest.mark.parametrize("how", UNRECORDABLE)
async def test_what_cannot_be_recorded_fails_its_run_once_with_a_reason_that_can_be_printed(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, how: str
) -> None:
    async with carried_out(etcd, namespace, tmp_path, how) as (seat, done):
        assert (done.outcome, outcomes(done)) == (Outcome.FAILED, [Outcome.FAILED])
        assert done.reason
        assert done.reason.isprintable()
        assert len(done.reason) <= 4096
        assert seat.office.store.objects.root.joinpath("staging").exists()
        assert not list(seat.office.store.objects.root.joinpath("staging").iterdir())
    assert left_in_the_attempt(tmp_path) == ["output.log"]


@pytest.mark.parametrize("how", PUBLISHED)
async def test_files_are_published_whatever_modes_the_job_gave_them(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, how: str
) -> None:
    async with carried_out(etcd, namespace, tmp_path, how) as (_, done):
        assert (done.outcome, done.version, outcomes(done)) == (Outcome.SUCCEEDED, 1, [Outcome.SUCCEEDED])
    assert left_in_the_attempt(tmp_path) == ["output.log"]


def ends(monkeypatch: pytest.MonkeyPatch, *attempts: AttemptEnd) -> None:
    """Let the attempts end like this, the last one again and again, without a worker."""
    left = list(attempts)

    async def attempt(*args: Any, on_gone: Any, **options: Any) -> AttemptEnd:
        on_gone(True)
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(dispatch, "run_attempt", attempt)


@pytest.mark.parametrize(
    "end",
    [
        AttemptEnd(Outcome.FAILED, ["not text"], permanent=True),  # type: ignore[arg-type]
        AttemptEnd(Outcome.FAILED, "later", retry_after_s="soon"),  # type: ignore[arg-type]
        AttemptEnd(Outcome.SUCCEEDED, result=object()),
    ],
    ids=["reason", "delay", "result"],
)
async def test_an_end_that_no_worker_of_ours_tells_fails_its_run_alone(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: AttemptEnd
) -> None:
    ends(monkeypatch, end)
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        with hearing() as heard:
            done = await Dispatch(seat.office, with_policy(retries=3)).carry_out(
                await stored(seat, admitted())
            )
        assert (done.outcome, outcomes(done)[-1], done.leader_losses) == (Outcome.FAILED, Outcome.FAILED, 0)
        assert [told["run"] for told in heard.all(Events.RUN_FAILED)] == ["r"]


async def test_a_broken_disk_below_the_store_fails_the_run_whose_result_it_refuses(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends(monkeypatch, AttemptEnd(Outcome.SUCCEEDED, result=1))

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:

        def refuse(*args: Any, **options: Any) -> None:
            raise OSError(5, "Input/output error", str(tmp_path))

        monkeypatch.setattr(type(seat.office.store), "add", refuse)
        done = await Dispatch(seat.office, with_policy()).carry_out(await stored(seat, admitted()))
        assert (done.outcome, outcomes(done)) == (Outcome.FAILED, [Outcome.FAILED])
        assert "Input/output error" in str(done.reason)


async def test_a_record_that_etcd_finds_too_large_ends_its_run_without_the_parameters(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """It was admitted just below the limit; the attempt makes it larger."""
    run = admitted()
    room = 1_500_000 - len(run.to_bytes()) - 250
    run = run.model_copy(update={"params": {"value": "x" * room}})
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        done = await Dispatch(seat.office, with_policy()).carry_out(await stored(seat, run))
        assert (done.outcome, done.params) == (Outcome.FAILED, {})
        assert "1500000 bytes" in str(done.reason)
        assert (await read(seat, "r")).record == done


async def test_a_refusal_that_means_the_writer_and_not_the_record_is_no_failure_of_the_run(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends(monkeypatch, AttemptEnd(Outcome.FAILED, "as made up"))
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:

        async def deny() -> None:
            seat.writer.before = refuse

        async def refuse() -> None:
            raise PermissionDenied("u", "write")

        seat.writer.after = deny  # the first write begins the attempt
        with pytest.raises(RequestRefused):
            await Dispatch(seat.office, with_policy()).carry_out(await stored(seat, admitted()))
        assert (await read(seat, "r")).record.outcome is None


async def test_a_run_that_is_tried_without_end_keeps_a_small_record_and_writes_little(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(**facts: Any) -> float:
        pauses.append(real(**facts))
        return 0.0

    real = dispatch.retry_pause_s
    monkeypatch.setattr(dispatch, "retry_pause_s", pause)
    ends(monkeypatch, AttemptEnd(Outcome.FAILED, "x" * 4000, retry_after_s=0.0))
    monkeypatch.setattr(dispatch, "WorkerAhead", _NoWorker)
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        done = await Dispatch(seat.office, with_policy(retries=39)).carry_out(await stored(seat, admitted()))
    assert (done.outcome, done.attempt_count, done.failed_attempts) == (Outcome.FAILED, 40, 40)
    assert [attempt.number for attempt in done.attempts] == [1, *range(31, 41)]
    assert done.omitted is not None
    assert done.omitted.count == 29
    assert len(done.to_bytes()) < 20_000
    assert pauses[:9] == [0.0] * 9
    assert min(pauses[9:]) >= 1.0


class _NoWorker:
    def __init__(self, **options: Any) -> None:
        pass

    async def __aenter__(self) -> "_NoWorker":
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def replace_dead(self) -> None:
        pass


async def test_progress_that_cannot_be_written_costs_itself_and_not_what_comes_later(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Progress.model_construct(done=1.0, total=2.0, message="\udc80")

    async def attempt(*args: Any, on_gone: Any, on_progress: Any, **options: Any) -> AttemptEnd:
        on_progress(bad)
        await heard.until(Events.PROGRESS_LOST)
        on_progress(Progress(done=2, total=2, message="later"))
        await seat.feed.until(lambda view: (found := view.progress("j", "r")) is not None and found.done == 2)
        on_gone(True)
        return AttemptEnd(Outcome.SUCCEEDED)

    monkeypatch.setattr(dispatch, "run_attempt", attempt)
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        with hearing() as heard:
            done = await Dispatch(seat.office, with_policy()).carry_out(await stored(seat, admitted()))
    assert done.outcome is Outcome.SUCCEEDED
