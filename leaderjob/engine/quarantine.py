"""Values under our prefix that cannot be read: the leader moves them aside, so that they block nothing.

The bytes are kept under ``quarantine/``. What can be told from elsewhere is written again: the pointer
from the highest version, the definitions of jobs and the store's history from memory. Members and
candidates are left alone: they live on leases of others.
"""

from collections.abc import Iterator, Mapping

from leaderjob.engine.numbers import read_numbers
from leaderjob.engine.office import Office
from leaderjob.etcd import Compare, Delete, Op, Put, modified_at
from leaderjob.model.artifact import Numbers, Pointer
from leaderjob.model.job import JobSpec
from leaderjob.model.schema import READS_SCHEMA, Schema
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.view import Quarantined, View
from leaderjob.telemetry.events import Events, emit

_NOT_OURS = (Kind.MEMBER, Kind.CANDIDATE)


async def move_corrupt_records_aside(office: Office, specs: Mapping[str, JobSpec]) -> None:
    """Until the term ends. :raises NotLeader: it has.

    :param specs: the definitions in force, by the job's name.
    """
    tried: set[tuple[str, int]] = set()

    def untried(view: View) -> Iterator[tuple[str, Quarantined]]:
        for key, found in view.quarantined.items():
            job = found.place.job
            if found.place.kind in _NOT_OURS or (key, found.kv.mod_revision) in tried:
                continue
            # The repair is a decision as any other: a record that cannot be read here may say more about the job.
            if job is None or not view.newer_of(job):
                yield key, found

    while True:
        view = await office.feed.until(lambda view: any(untried(view)))
        tried &= {(key, found.kv.mod_revision) for key, found in view.quarantined.items()}
        for key, found in list(untried(view)):
            # The feed lags behind our own writes: what was moved aside may still look as if it were there.
            tried.add((key, found.kv.mod_revision))
            await _move_aside(office, specs, key, found)


async def _move_aside(office: Office, specs: Mapping[str, JobSpec], key: str, found: Quarantined) -> None:
    aside = office.keys.quarantine(key)
    compares, ops = [modified_at(key, found.kv.mod_revision)], [Put(aside, found.kv.value)]
    try:
        if found.place.kind is Kind.POINTER:
            repair = await _write_pointer_again(office, key, found.place.names[0], compares)
        else:
            repaired = _repair(office, specs, found)
            repair = [Put(key, repaired) if repaired is not None else Delete(key)]
        await office.writer.commit(compares, [*ops, *repair])
    except Conflict:
        return  # it was changed meanwhile; the feed will show what it is now
    emit(Events.RECORD_QUARANTINED, key=key, moved_to=aside, reason=found.reason, term=office.token)


def _repair(office: Office, specs: Mapping[str, JobSpec], found: Quarantined) -> bytes | None:
    if found.place.kind is Kind.HISTORY:
        return office.history.to_bytes()
    if found.place.kind is Kind.SCHEMA:
        return Schema(number=READS_SCHEMA).to_bytes()  # another one could not be led on
    if found.place.kind is Kind.SPEC:
        spec = specs.get(found.place.names[0])
        return spec.to_bytes() if spec is not None else None
    return None


async def _write_pointer_again(office: Office, key: str, job: str, compares: list[Compare]) -> list[Op]:
    """From the highest version that can be read; with a sequence that no pointer has had."""
    versions = office.feed.view.versions(job)
    if not versions:
        return [Delete(key)]
    last, unchanged = await read_numbers(office, job, None)
    compares.append(unchanged)
    numbers = Numbers(version=last.version, sequence=last.sequence + 1)
    pointer = Pointer(**{**versions[-1].record.model_dump(), "sequence": numbers.sequence})
    return [Put(key, pointer.to_bytes()), Put(office.keys.numbers(job), numbers.to_bytes())]
