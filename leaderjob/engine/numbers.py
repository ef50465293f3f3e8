"""The highest numbers that a job's results ever had: a version's number, and the sequence of its pointer.

They are kept in a record of their own, which is written with each pointer and never lowered. A number must not come
twice, whatever becomes of the other records: replicas know a version by its number, and keep what they have fetched.
"""

import re

from leaderjob.engine.office import Office
from leaderjob.etcd import Compare, modified_at
from leaderjob.model.artifact import Numbers, Pointer, Version
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import CorruptRecord, NewerRecord, decode

_VERSION = re.compile(r".*/versions/([0-9]+)", re.DOTALL)


async def read_numbers(office: Office, job: str, pointer: Pointer | None) -> tuple[Numbers, Compare]:
    """The highest numbers so far, and the compare under which the next ones may be written.

    :param pointer: as it was read just before.
    :raises Conflict: the record cannot be read, and was not moved aside yet.
    """
    key = office.keys.numbers(job)
    found = await office.writer.read(key)
    view = office.feed.view
    known: list[Numbers | Version] = [stored.record for stored in view.versions(job)]
    if pointer is not None:
        known.append(pointer)
    if found is not None:
        try:
            record = decode(Kind.NUMBERS, found).record
        except (CorruptRecord, NewerRecord) as error:
            raise Conflict(f"{error}; it is read again once the view shows it") from error
        assert isinstance(record, Numbers)
        known.append(record)
    forgotten = view.get(Kind.FORGOTTEN, job)
    if forgotten is not None:
        known.append(Numbers(version=forgotten.record.version, sequence=forgotten.record.sequence))
    if found is None:
        known += await _in_quarantine(office, job)
    highest = Numbers(
        version=max((one.version for one in known), default=0),
        sequence=max((one.sequence for one in known), default=0),
    )
    return highest, modified_at(key, found.mod_revision if found else 0)


async def _in_quarantine(office: Office, job: str) -> list[Numbers]:
    """What the keys of unreadable values tell, where nothing else does.

    Their values may have had any sequence, but each write of a pointer took a revision of the store.
    """
    keys = office.keys
    moved = (await office.leadership.etcd.range(keys.quarantine(keys.results(job)), keys_only=True)).kvs
    names = [kv.key for kv in moved] + [
        key for key in office.feed.view.quarantined if key.startswith(keys.results(job))
    ]
    versions = [int(match[1]) for name in names if (match := _VERSION.fullmatch(name))]
    if not names:
        return []
    return [Numbers(version=max(versions, default=0), sequence=office.feed.view.revision)]
