"""A record with the facts that etcd keeps about it, and how bytes become one."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import ValidationError

from leaderjob.errors import LeaderjobError
from leaderjob.etcd import KeyValue
from leaderjob.model.record import Record, is_of_newer_release
from leaderjob.records.keys import Kind

RecordT_co = TypeVar("RecordT_co", bound=Record, covariant=True)


class CorruptRecord(LeaderjobError):
    """A value under our prefix is not what the schema says; it was quarantined."""


class NewerRecord(LeaderjobError):
    """A newer release wrote a value under our prefix: this one cannot read it, leaves it alone and does not act on it."""


@dataclass(frozen=True, slots=True)
class Stored(Generic[RecordT_co]):
    """A record as it stands in etcd. A transition compares ``mod_revision``."""

    key: str
    record: RecordT_co
    create_revision: int
    mod_revision: int
    lease: int = 0


def decode(kind: Kind, kv: KeyValue) -> Stored[Record]:
    """:raises CorruptRecord: the bytes are not a record of that kind, or it is that of another key.
    :raises NewerRecord: it is a record of that kind as only a newer release can read it.
    """
    try:
        record = kind.record.from_bytes(kv.value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if is_of_newer_release(error):
            raise NewerRecord(
                f"a newer release wrote {kv.key}: {where}: {first['msg']}. This one leaves it alone and does not act on "
                "it; upgrade leaderjob here"
            ) from error
        raise CorruptRecord(
            f"the value of {kv.key} is not a {kind.name.lower()} record: {where + ': ' if where else ''}{first['msg']}"
        ) from error
    for field, name in kind.fields_in(kv.key).items():
        found = getattr(record, field)
        if str(found) != name:
            raise CorruptRecord(
                f"the value of {kv.key} is a {kind.name.lower()} record of another key: its {field} is "
                f"{found!r}, the key says {name!r}; write it under the key that it belongs to"
            )
    return Stored(kv.key, record, kv.create_revision, kv.mod_revision, kv.lease)
