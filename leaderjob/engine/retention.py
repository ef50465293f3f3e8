"""Old records go: done commands after an hour, the oldest runs, versions that nobody keeps any more."""

import asyncio
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from leaderjob.clock import utcnow
from leaderjob.engine.artifact_directory import remove_quietly
from leaderjob.engine.lacking import settled_notes
from leaderjob.engine.office import Office
from leaderjob.etcd import Compare, Delete, modified_at
from leaderjob.model.artifact import Staged, Version
from leaderjob.model.command import Command
from leaderjob.model.run import Outcome, Run, State
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from leaderjob.records.view import View

_EVERY_S = 60.0
_TOMBSTONE_AGE = timedelta(hours=1)
_BATCH = 50
_YOUNG_S = 600.0


async def retain(office: Office) -> None:
    """Until the term ends. :raises NotLeader: it has."""
    while True:
        stale = await _stale_records(office)
        for start in range(0, len(stale), _BATCH):
            batch = stale[start : start + _BATCH]
            compares: list[Compare] = [modified_at(stored.key, stored.mod_revision) for stored in batch]
            # One of them may have changed meanwhile: this batch is looked at again next time.
            with suppress(Conflict):
                await office.writer.commit(compares, [Delete(stored.key) for stored in batch])
        view = office.feed.view
        held = {found.place.job for found in view.newer.values()}
        await asyncio.to_thread(remove_old_logs, office.work_dir, view.run_names, held)
        await asyncio.sleep(_EVERY_S)


async def _stale_records(office: Office) -> list[Stored[Any]]:
    """What may go by now; a job that waits for a newer release keeps all it has.

    The event loop turns after each job: there may be a hundred thousand records.
    """
    view, limits = office.feed.view, office.limits
    stale: list[Stored[Any]] = [*_done_commands(view), *settled_notes(view, office.token)]
    for job in view.specs:
        if view.newer_of(job):
            continue
        stale.extend(stale_runs(view.runs(job), keep=limits.keep_runs, keep_skipped=limits.keep_skipped))
        stale.extend(_former_versions(view, job, limits.keep_versions))
        stale.extend(staged for staged in view.staged(job) if _is_over(view, staged.record))
        await asyncio.sleep(0)
    return stale


def stale_runs(runs: Sequence[Stored[Run]], *, keep: int, keep_skipped: int) -> list[Stored[Run]]:
    """The runs of one job that may go, given all of them, oldest first.

    A run that began and a fire that never did (it was skipped, or missed) do not push each other out: a job that
    takes longer than its period skips many fires for each run. The last success stays, however many runs failed
    since.
    """
    over = [run for run in runs if run.record.state is State.DONE]
    began = [run for run in over if run.record.attempts]
    skipped = [run for run in over if not run.record.attempts]
    last_success = next((run for run in reversed(began) if run.record.outcome is Outcome.SUCCEEDED), None)
    return [
        *(run for run in began[: max(0, len(began) - keep)] if run is not last_success),
        *skipped[: max(0, len(skipped) - keep_skipped)],
    ]


def _done_commands(view: View) -> Iterator[Stored[Command]]:
    now = utcnow()
    for command in view.commands:
        done = command.record.done
        if done is not None and now - done > _TOMBSTONE_AGE:
            yield command


def _former_versions(view: View, job: str, keep: int) -> list[Stored[Version]]:
    """Versions before the current one that are beyond the number to keep."""
    pointer = view.pointer(job)
    if pointer is None:
        return []
    older = [version for version in view.versions(job) if version.record.version < pointer.record.version]
    return older[: max(0, len(older) - keep)]


def _is_over(view: View, staged: Staged) -> bool:
    """Whether the run that staged it is over, so nobody will publish it."""
    run = view.get(Kind.RUN, staged.job, staged.run)
    return run is not None and run.record.state is State.DONE


def remove_old_logs(work_dir: Path, kept: Set[tuple[str, ...]], held: Set[str | None] = frozenset()) -> None:
    """The directory of an attempt goes with the record of its run.

    A young one stays in any case: the view may not show its run yet.

    :param held: jobs of which some record cannot be read: all of theirs stay.
    """
    too_young = time.time() - _YOUNG_S
    for job_dir in _entries(work_dir):
        if job_dir.name in held:
            continue
        for attempt_dir in _entries(job_dir):
            run = attempt_dir.name.rpartition("-")[0]
            with suppress(OSError):
                if (job_dir.name, run) not in kept and attempt_dir.stat().st_mtime < too_young:
                    remove_quietly(attempt_dir)


def _entries(directory: Path) -> list[Path]:
    """What is in it by now; nothing if it is not a directory that can be read. Operators tidy up too: any may vanish."""
    with suppress(OSError):
        if directory.is_dir():
            return list(directory.iterdir())
    return []
