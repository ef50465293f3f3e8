"""I7: what was said to be done is done, and what was said not to be is not."""

from collections.abc import Iterator

from leaderjob.model.artifact import Version
from leaderjob.model.run import Run, State
from leaderjob.records.keys import Kind
from tests.faults.history.past import History
from tests.faults.history.told import Told
from tests.faults.history.violation import Bounds, Violation

SETTLED = "write_settled"
"""Told by a writer of a test: what became of a write of ``value`` (told apart from all others) to ``key``."""


def claims_agree_with_records(history: History, bounds: Bounds) -> list[Violation]:
    """I7: every ambiguous write resolves to done or not done, and the records agree with what was told of it, and
    with each other."""
    if history.gaps:
        return []  # told as unknown
    return [*_versions_of_runs(history), *_told(history), *_settled(history)]


def _versions_of_runs(history: History) -> Iterator[Violation]:
    made = {
        (change.names[0], record.run, record.version)
        for change in history.of(Kind.VERSION)
        if isinstance(record := change.record, Version)
    }
    for change in history.of(Kind.RUN):
        run = change.record
        if isinstance(run, Run) and run.version is not None and (run.job, run.id, run.version) not in made:
            sentence = f"run {run.id} of {run.job} names version {run.version}, which is not its own"
            yield Violation("I7", sentence, {"revision": change.revision})


def _told(history: History) -> Iterator[Violation]:
    runs: dict[tuple[object, object], list[Run]] = {}
    for change in history.of(Kind.RUN):
        if isinstance(record := change.record, Run):
            runs.setdefault((record.job, record.id), []).append(record)
    versions = {
        (change.names[0], record.run, record.version, record.token)
        for change in history.of(Kind.VERSION)
        if isinstance(record := change.record, Version)
    }
    for told in history.told:
        field = told.fields.get
        written = runs.get((field("job"), field("run")), [])
        if told.event == "published":
            agrees = (field("job"), field("run"), field("version"), field("term")) in versions
        elif told.event == "run_admitted":
            agrees = bool(written)
        elif told.event == "run_started":
            agrees = any(_has_attempt(run, told) for run in written)
        elif told.event == "run_finished":
            agrees = any(run.state is State.DONE and run.outcome == field("outcome") for run in written)
        else:
            continue
        if not agrees:
            sentence = (
                f"{told.replica} told {told.event} of {field('job')}/{field('run')}, and no record says so"
            )
            yield Violation("I7", sentence, {"at": round(told.at, 3), "term": field("term")})


def _has_attempt(run: Run, told: Told) -> bool:
    wanted = (told.fields["attempt"], told.fields["term"])
    return any((attempt.number, attempt.token) == wanted for attempt in run.attempts)


def _settled(history: History) -> Iterator[Violation]:
    written = {(change.key, change.now.value): change for change in history.changes if change.now is not None}
    for told in history.told:
        if told.event != SETTLED:
            continue
        key, value, done = told.fields["key"], told.fields["value"], told.fields["done"]
        change = written.get((key, value.encode()))
        if done is (change is not None):
            continue
        said, is_there = ("done", "is not") if done else ("not done", "is")
        yield Violation(
            "I7",
            f"{told.replica} settled that a write of {key} was {said}, and it {is_there} in the history",
            {
                "value": value,
                "settled_at": round(told.at, 3),
                "revision": change.revision if change else None,
            },
        )
