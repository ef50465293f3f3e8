"""Old records go: done commands after an hour, the oldest runs, versions that nobody keeps any more."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from leaderjob.clock import utcnow
from leaderjob.engine.artifact_directory import remove_quietly
from leaderjob.engine.office import Office
from leaderjob.etcd import Compare, Delete, modified_at
from leaderjob.model.record import Record
from leaderjob.model.run import State
from leaderjob.records.fenced import Conflict
from leaderjob.records.stored import Stored
from leaderjob.records.view import View

_EVERY_S = 60.0
_TOMBSTONE_AGE = timedelta(hours=1)
_BATCH = 50
_YOUNG_S = 600.0


async def retain(office: Office) -> None:
    """Until the term ends. :raises NotLeader: it has."""
    while True:
        view = office.feed.view
        stale = list(stale_records(view, office))
        for start in range(0, len(stale), _BATCH):
            batch = stale[start : start + _BATCH]
            compares: list[Compare] = [modified_at(stored.key, stored.mod_revision) for stored in batch]
            try:
                await office.writer.commit(compares, [Delete(stored.key) for stored in batch])
            except Conflict:
                break  # one of them changed meanwhile: look again next time
        kept = {(run.record.job, run.record.id) for job in view.specs for run in view.runs(job)}
        await asyncio.to_thread(remove_old_logs, office.work_dir, kept)
        await asyncio.sleep(_EVERY_S)


def stale_records(view: View, office: Office) -> Iterator[Stored[Record]]:
    """What may go by now."""
    now = utcnow()
    for command in view.commands:
        done = command.record.done
        if done is not None and now - done > _TOMBSTONE_AGE:
            yield command
    for job in view.specs:
        finished = [run for run in view.runs(job) if run.record.state is State.DONE]
        yield from finished[: max(0, len(finished) - office.limits.keep_runs)]
        pointer = view.pointer(job)
        if pointer is not None:
            older = [
                version for version in view.versions(job) if version.record.version < pointer.record.version
            ]
            yield from older[: max(0, len(older) - office.limits.keep_versions)]
    over = {
        (run.record.job, run.record.id)
        for job in view.specs
        for run in view.runs(job)
        if run.record.state is State.DONE
    }
    yield from (staged for staged in view.staged() if (staged.record.job, staged.record.run) in over)


def remove_old_logs(work_dir: Path, kept: set[tuple[str, str]]) -> None:
    """The directory of an attempt goes with the record of its run.

    A young one stays in any case: the view may not show its run yet.
    """
    too_young = time.time() - _YOUNG_S
    for job_dir in _entries(work_dir):
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
