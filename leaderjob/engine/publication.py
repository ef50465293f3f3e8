"""Publishing a run's result: stage it, let followers copy it, then switch the pointer.

Pointer, version and the run's success are ONE transaction, under the fence and under a compare of the
pointer as it was read just before. A pointer to bytes that only a dead leader had would help nobody, so
followers fetch from the staged key first.
"""

import asyncio
from pathlib import Path
from typing import Any

from leaderjob.clock import utcnow
from leaderjob.engine.newer import until_readable
from leaderjob.engine.numbers import read_numbers
from leaderjob.engine.office import Office
from leaderjob.etcd import Delete, Put, absent, modified_at
from leaderjob.json_text import RESULT_LIMIT_BYTES, InvalidJson, check
from leaderjob.model.artifact import Numbers, Pointer, Staged, Version
from leaderjob.model.run import Outcome, Run
from leaderjob.offload import run_in_thread
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import CorruptRecord, NewerRecord, Stored, decode
from leaderjob.records.view import View
from leaderjob.results.errors import Unpublishable
from leaderjob.telemetry.events import Events, emit

_PAUSE_AFTER_CONFLICT_S = 0.2


async def publish(office: Office, run: Stored[Run], artifact_dir: Path, result: Any) -> Run:
    """Publish what the run's attempt left in ``artifact_dir`` and what it returned; ends the run.

    :raises Unpublishable: the directory holds something that cannot be published, or the result cannot be stored.
    :raises NotLeader: the term is over; nothing was published.
    """
    _check_result(result)
    job = run.record.job
    artifact = await run_in_thread(
        lambda cancelled: office.store.add(job, run.record.id, artifact_dir, cancelled=cancelled),
        undo=lambda added: office.store.settle(added.digest),
    )
    staged = Staged(
        job=job,
        run=run.record.id,
        token=office.token,
        digest=artifact.digest,
        manifest_bytes=artifact.manifest_bytes,
        size_bytes=artifact.manifest.size_bytes,
        file_count=len(artifact.manifest.files),
    )
    staged_key = office.keys.staged(job, run.record.id)
    try:
        await office.writer.commit(
            [modified_at(run.key, run.mod_revision), absent(staged_key)],
            [Put(staged_key, staged.to_bytes())],
        )
    except BaseException:
        office.store.settle(artifact.digest)  # nobody will ever ask for it
        raise
    if staged.file_count:
        await _wait_for_copies(office, staged)
    while True:
        try:
            return await _switch(office, run, staged, result)
        except Conflict:
            # Only this term writes pointers and versions, so somebody's hand was in it: if it is not the
            # run itself that changed, look at what is there now, and go on from there.
            found = await office.writer.read(run.key)
            if found is None or found.mod_revision != run.mod_revision:
                raise
            await asyncio.sleep(_PAUSE_AFTER_CONFLICT_S)


def _check_result(result: Any) -> None:
    """The worker has checked it; a pointer that nobody can read would leave the job without a result."""
    try:
        check(result, RESULT_LIMIT_BYTES)
    except InvalidJson as error:
        raise Unpublishable(f"what the job returned cannot be stored: {error}") from error


async def _switch(office: Office, run: Stored[Run], staged: Staged, result: Any) -> Run:
    keys, job = office.keys, run.record.job
    await until_readable(office, job)
    found = await office.writer.read(keys.pointer(job))
    try:
        before = decode(Kind.POINTER, found).record if found else None
    except (CorruptRecord, NewerRecord) as error:
        raise Conflict(f"{error}; it is read again once the view shows it") from error
    assert before is None or isinstance(before, Pointer)
    if _is_superseded(run.record, before):
        return await _supersede(office, run)
    last, unchanged = await read_numbers(office, job, before)
    number = last.version + 1
    now = utcnow()
    pointer = Pointer(
        version=number,
        sequence=last.sequence + 1,
        run=run.record.id,
        token=office.token,
        digest=staged.digest,
        manifest_bytes=staged.manifest_bytes,
        size_bytes=staged.size_bytes,
        file_count=staged.file_count,
        published=now,
        fire_time=run.record.fire_time,
        result=result,
    )
    done = run.record.finish(Outcome.SUCCEEDED, now=now, version=number)
    await office.writer.commit(
        [
            modified_at(keys.pointer(job), found.mod_revision if found else 0),
            modified_at(run.key, run.mod_revision),
            absent(keys.version(job, number)),
            unchanged,
        ],
        [
            Put(keys.pointer(job), pointer.to_bytes()),
            Put(keys.version(job, number), Version(**pointer.model_dump()).to_bytes()),
            Put(keys.numbers(job), Numbers(version=number, sequence=pointer.sequence).to_bytes()),
            Put(run.key, done.to_bytes()),
            Delete(keys.staged(job, run.record.id)),
            Delete(keys.progress(job, run.record.id, done.attempt_count)),
        ],
    )
    emit(
        Events.PUBLISHED,
        job=job,
        run=run.record.id,
        version=number,
        size_bytes=staged.size_bytes,
        term=office.token,
    )
    return done


async def _supersede(office: Office, run: Stored[Run]) -> Run:
    done = run.record.finish(
        Outcome.SUPERSEDED, now=utcnow(), reason="a run of a newer fire has published already"
    )
    await office.writer.commit(
        [modified_at(run.key, run.mod_revision)],
        [
            Put(run.key, done.to_bytes()),
            Delete(office.keys.staged(done.job, done.id)),
            Delete(office.keys.progress(done.job, done.id, done.attempt_count)),
        ],
    )
    return done


def _is_superseded(run: Run, pointer: Pointer | None) -> bool:
    return (
        pointer is not None
        and pointer.fire_time is not None
        and run.fire_time is not None
        and run.fire_time < pointer.fire_time
    )


async def _wait_for_copies(office: Office, staged: Staged) -> None:
    """Return when enough followers hold a verified copy, or when it has taken too long."""

    def followers(view: View) -> int:
        return sum(replica != office.replica for replica in view.members)

    def copies(view: View) -> int:
        return sum(
            staged.digest in holding.manifests
            for replica, member in view.members.items()
            if replica != office.replica and (holding := member.record.holds.get(staged.job))
        )

    def enough(view: View) -> bool:
        return copies(view) >= min(office.limits.publish_after, followers(view))

    try:
        async with asyncio.timeout(office.limits.publish_timeout_s):
            await office.feed.until(enough)
    except TimeoutError:
        emit(
            Events.PUBLISHED_DEGRADED,
            job=staged.job,
            run=staged.run,
            copies=copies(office.feed.view),
            wanted=office.limits.publish_after,
            term=office.token,
        )
