"""Which runs may go, and that the directories of old attempts go, whoever else tidies up at the same time."""

import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from leaderjob.engine.retention import remove_old_logs, stale_runs
from leaderjob.model.run import Attempt, Cause, Outcome, Run, State
from leaderjob.records.stored import Stored

_LONG_AGO = 1e9
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def attempt(work_dir: Path, job: str, name: str, *, old: bool = True) -> Path:
    directory = work_dir / job / name
    directory.mkdir(parents=True)
    (directory / "output.log").write_text("said")
    if old:
        os.utime(directory, (_LONG_AGO, _LONG_AGO))
    return directory


def test_the_directory_of_an_attempt_goes_with_the_record_of_its_run_unless_it_is_young(
    tmp_path: Path,
) -> None:
    listed = attempt(tmp_path, "index", "a-run-1")
    forgotten = attempt(tmp_path, "index", "b-run-1")
    young = attempt(tmp_path, "index", "c-run-1", old=False)
    remove_old_logs(tmp_path, {("index", "a-run")})
    assert (listed.exists(), forgotten.exists(), young.exists()) == (True, False, True)


def test_what_vanishes_meanwhile_keeps_nothing_else_from_being_removed(tmp_path: Path) -> None:
    """An entry that leads nowhere is listed, and not there when it is looked at, as one that just vanished."""
    forgotten = [attempt(tmp_path, job, "run-1") for job in ("index", "report")]
    for job in ("index", "report"):
        (tmp_path / job / "gone-1").symlink_to(tmp_path / "nowhere")
    (tmp_path / "vanished").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("of an operator")
    remove_old_logs(tmp_path, set())
    assert not any(directory.exists() for directory in forgotten)
    assert (tmp_path / "notes.txt").exists()


def test_without_a_work_directory_there_is_nothing_to_remove(tmp_path: Path) -> None:
    remove_old_logs(tmp_path / "work", set())
    assert list(tmp_path.iterdir()) == []


def run(number: int, outcome: Outcome | None) -> Stored[Run]:
    """The run of that second; without an attempt if its fire was skipped or missed, unfinished without an outcome."""
    created = NOON + timedelta(seconds=number)
    began = Attempt(number=1, token=1, replica="r1", ttl_s=10, started=created)
    record = Run(
        id=f"r{number}",
        job="j",
        cause=Cause.SCHEDULE,
        state=State.RUNNING if outcome is None else State.DONE,
        created=created,
        attempts=() if outcome in (Outcome.SKIPPED, Outcome.MISSED) else (began,),
        outcome=outcome,
    )
    return Stored(f"runs/j/r{number}", record, create_revision=number + 1, mod_revision=number + 1)


def kept(runs: list[Stored[Run]], *, keep: int, keep_skipped: int) -> list[Stored[Run]]:
    stale = stale_runs(runs, keep=keep, keep_skipped=keep_skipped)
    return [run for run in runs if run not in stale]


def outcomes(runs: list[Stored[Run]]) -> dict[Outcome | None, int]:
    return dict(Counter(run.record.outcome for run in runs))


def test_fires_that_never_began_push_no_run_out() -> None:
    """A job that fires each second and takes 25 s skips 24 fires for each run."""
    runs = [run(second, Outcome.SKIPPED if second % 25 else Outcome.SUCCEEDED) for second in range(500)]
    left = kept(runs, keep=6, keep_skipped=10)
    assert outcomes(left) == {Outcome.SUCCEEDED: 6, Outcome.SKIPPED: 10}
    assert [run.record.id for run in left if run.record.attempts] == [
        f"r{second}" for second in range(350, 500, 25)
    ]
    assert [run.record.id for run in left if not run.record.attempts] == [
        f"r{second}" for second in range(490, 500)
    ]


def test_runs_push_no_missed_range_out() -> None:
    runs = [run(0, Outcome.MISSED), *(run(second, Outcome.SUCCEEDED) for second in range(1, 50))]
    assert outcomes(kept(runs, keep=3, keep_skipped=1)) == {Outcome.MISSED: 1, Outcome.SUCCEEDED: 3}


def test_last_success_stays_however_many_runs_failed_since() -> None:
    runs = [run(0, Outcome.SUCCEEDED), run(1, Outcome.SUCCEEDED)]
    runs += [run(second, Outcome.FAILED) for second in range(2, 50)]
    left = kept(runs, keep=3, keep_skipped=1)
    assert [run.record.id for run in left] == ["r1", "r47", "r48", "r49"]


def test_unfinished_run_stays_and_takes_no_place() -> None:
    runs = [run(0, None), *(run(second, Outcome.SUCCEEDED) for second in range(1, 50))]
    assert outcomes(kept(runs, keep=2, keep_skipped=1)) == {None: 1, Outcome.SUCCEEDED: 2}


def test_nothing_goes_while_there_are_few() -> None:
    runs = [run(0, Outcome.SKIPPED), run(1, Outcome.SUCCEEDED), run(2, Outcome.FAILED)]
    assert stale_runs(runs, keep=2, keep_skipped=1) == []


def test_the_directories_of_a_job_stay_while_some_record_of_it_cannot_be_read(tmp_path: Path) -> None:
    waiting, other = attempt(tmp_path, "index", "a-run-1"), attempt(tmp_path, "report", "a-run-1")
    remove_old_logs(tmp_path, set(), {"index"})
    assert (waiting.exists(), other.exists()) == (True, False)
