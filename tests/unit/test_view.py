"""The view's indexes by job agree with its records, and spare a question about one job the records of the others."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leaderjob.model.artifact import Staged, Version
from leaderjob.model.record import Record
from leaderjob.model.run import Cause, Outcome, Progress, Run, State
from leaderjob.records.keys import Kind, Place
from leaderjob.records.stored import Stored
from leaderjob.records.view import View

JOBS = ("a", "b", "c")
DIGEST = "blake3:" + "0" * 64
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Names(tuple[str, ...]):
    """The names in a key. Taking them apart is an error while :attr:`sealed`."""

    sealed = False

    def __getitem__(self, index: Any) -> Any:
        assert not Names.sealed, f"the record of {tuple(self)} was looked at"
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[str]:
        assert not Names.sealed, f"the record of {tuple(self)} was looked at"
        return super().__iter__()


def run(job: str, number: int, *, done: bool) -> Run:
    return Run(
        id=f"r{number}",
        job=job,
        cause=Cause.SCHEDULE,
        state=State.DONE if done else State.ADMITTED,
        created=NOON + timedelta(seconds=number),
        outcome=Outcome.SUCCEEDED if done else None,
    )


def version(job: str, number: int) -> Version:
    return Version(
        version=number,
        sequence=number,
        run=f"r{number}",
        token=1,
        digest=DIGEST,
        manifest_bytes=1,
        size_bytes=1,
        file_count=1,
        published=NOON,
    )


def staged(job: str, number: int) -> Staged:
    return Staged(
        job=job, run=f"r{number}", token=1, digest=DIGEST, manifest_bytes=1, size_bytes=1, file_count=1
    )


def stored(kind: Kind, names: tuple[str, ...], record: Record) -> tuple[Place, Stored[Any]]:
    return Place(kind, names), Stored("/".join(names), record, create_revision=1, mod_revision=1)


def entry(kind: Kind, job: str, number: int, *, done: bool = True) -> tuple[Place, Stored[Any]]:
    if kind is Kind.RUN:
        return stored(kind, (job, f"r{number}"), run(job, number, done=done))
    if kind is Kind.PROGRESS:
        return stored(kind, (job, f"r{number % 2}", str(number)), Progress(done=number, total=9))
    if kind is Kind.STAGED:
        return stored(kind, (job, f"r{number}"), staged(job, number))
    return stored(Kind.VERSION, (job, str(number)), version(job, number))


KINDS = (Kind.RUN, Kind.PROGRESS, Kind.STAGED, Kind.VERSION)
changes = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(JOBS), st.integers(1, 4), st.booleans(), st.booleans()),
    max_size=40,
)


@given(changes)
def test_an_answer_about_one_job_is_what_the_records_show(history: list[Any]) -> None:
    view = View()
    for kind, job, number, done, present in history:
        place, record = entry(kind, job, number, done=done)
        view.set(place, record if present else None)
    for job in JOBS:
        runs, progress, staging, versions = (
            {names: found for names, found in view.records[kind].items() if names[0] == job} for kind in KINDS
        )
        by_age = sorted(runs.values(), key=lambda found: found.record.created)
        assert view.runs(job) == by_age
        assert view.unfinished_runs(job) == [found for found in by_age if found.record.outcome is None]
        assert view.versions(job) == sorted(versions.values(), key=lambda found: found.record.version)
        assert view.staged(job) == list(staging.values())
        for of_run in ("r0", "r1"):
            attempts = [int(names[2]) for names in progress if names[1] == of_run]
            latest = progress[job, of_run, str(max(attempts))].record if attempts else None
            assert view.progress(job, of_run) == latest
    assert view.jobs_with_unfinished_runs == {job for job in JOBS if view.unfinished_runs(job)}
    assert sorted(found.key for found in view.staged()) == sorted(
        found.key for found in view.records[Kind.STAGED].values()
    )


def test_an_answer_about_one_job_looks_at_no_record_of_another() -> None:
    view = View()
    for kind in KINDS:
        for number in (1, 2):
            view.set(*entry(kind, "a", number, done=number == 1))
            place, record = entry(kind, "b", number, done=number == 1)
            view.set(Place(place.kind, Names(place.names)), record)
    Names.sealed = True
    try:
        assert [found.record.id for found in view.runs("a")] == ["r1", "r2"]
        assert [found.record.id for found in view.unfinished_runs("a")] == ["r2"]
        assert [found.record.version for found in view.versions("a")] == [1, 2]
        assert [found.record.run for found in view.staged("a")] == ["r1", "r2"]
        assert view.progress("a", "r1") == Progress(done=1, total=9)
    finally:
        Names.sealed = False
