"""From bytes under a key to a record: it has to be one of that kind, and that of its key."""

from datetime import UTC, datetime
from typing import Any

import pytest

from leaderjob.etcd import KeyValue
from leaderjob.model.artifact import Pointer, Staged, Version
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.job import JobSpec
from leaderjob.model.member import Member, Role
from leaderjob.model.record import Record
from leaderjob.model.run import Cause, Run, State
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import CorruptRecord, decode

KEYS = Keys("prod")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SIZES: dict[str, Any] = {
    "token": 1,
    "digest": "blake3:" + "0" * 64,
    "manifest_bytes": 1,
    "size_bytes": 1,
    "file_count": 1,
}
RUN = Run(id="1", job="x", cause=Cause.TRIGGER, state=State.ADMITTED, created=NOW)
COMMAND = Command(id="b", kind=CommandKind.TRIGGER, job="x", created=NOW, expires=NOW)
STAGED = Staged(job="x", run="1", **SIZES)
VERSION = Version(version=3, sequence=9, run="1", published=NOW, **SIZES)
MEMBER = Member(
    replica="b",
    incarnation="1",
    role=Role.FOLLOWER,
    release="1",
    host="h",
    pid=1,
    started=NOW,
    addresses={},
)


def kv(key: str, value: bytes) -> KeyValue:
    return KeyValue(key, value, 5, 6, 2, 0)


@pytest.mark.parametrize(
    ("kind", "key", "record"),
    [
        (Kind.COMMAND, KEYS.command("b"), COMMAND),
        (Kind.RUN, KEYS.run("x", "1"), RUN),
        (Kind.STAGED, KEYS.staged("x", "1"), STAGED),
        (Kind.MEMBER, KEYS.member("b"), MEMBER),
        (Kind.SPEC, KEYS.spec("x"), JobSpec(name="x", reference="m:f")),
        (Kind.VERSION, KEYS.version("x", 3), VERSION),
        (Kind.POINTER, KEYS.pointer("x"), Pointer(**VERSION.model_dump())),
    ],
)
def test_a_record_under_its_own_key_is_decoded(kind: Kind, key: str, record: Record) -> None:
    stored = decode(kind, kv(key, record.to_bytes()))
    assert (stored.record, stored.create_revision, stored.mod_revision) == (record, 5, 6)


@pytest.mark.parametrize(
    ("kind", "key", "record", "complaint"),
    [
        (Kind.COMMAND, KEYS.command("a"), COMMAND, "its id is 'b', the key says 'a'"),
        (Kind.RUN, KEYS.run("y", "1"), RUN, "its job is 'x', the key says 'y'"),
        (Kind.RUN, KEYS.run("x", "2"), RUN, "its id is '1', the key says '2'"),
        (Kind.STAGED, KEYS.staged("y", "1"), STAGED, "its job is 'x', the key says 'y'"),
        (Kind.STAGED, KEYS.staged("x", "2"), STAGED, "its run is '1', the key says '2'"),
        (Kind.MEMBER, KEYS.member("a"), MEMBER, "its replica is 'b', the key says 'a'"),
        (
            Kind.SPEC,
            KEYS.spec("y"),
            JobSpec(name="x", reference="m:f"),
            "its name is 'x', the key says 'y'",
        ),
        (Kind.VERSION, KEYS.version("x", 4), VERSION, "its version is 3, the key says '4'"),
        (Kind.VERSION, f"{KEYS.version('x', 0)}3", VERSION, "its version is 3, the key says '03'"),
    ],
)
def test_a_record_of_another_key_is_corrupt_and_the_message_names_both(
    kind: Kind, key: str, record: Record, complaint: str
) -> None:
    with pytest.raises(CorruptRecord, match=complaint) as caught:
        decode(kind, kv(key, record.to_bytes()))
    assert key in str(caught.value)


def test_what_is_no_record_of_the_kind_is_corrupt_and_the_message_names_the_field() -> None:
    spoilt = COMMAND.model_copy(update={"id": "../../x"})
    with pytest.raises(CorruptRecord, match=r"is not a command record: id: .*'../../x' is not a name"):
        decode(Kind.COMMAND, kv(KEYS.command("b"), spoilt.to_bytes()))


@pytest.mark.parametrize("kind", Kind)
def test_what_a_key_says_of_its_record_are_fields_of_the_record(kind: Kind) -> None:
    keys = {
        Kind.MEMBER: (KEYS.member("a"), {"replica"}),
        Kind.SPEC: (KEYS.spec("a"), {"name"}),
        Kind.RUN: (KEYS.run("a", "1"), {"job", "id"}),
        Kind.STAGED: (KEYS.staged("a", "1"), {"job", "run"}),
        Kind.VERSION: (KEYS.version("a", 1), {"version"}),
        Kind.COMMAND: (KEYS.command("a"), {"id"}),
    }
    key, fields = keys.get(kind, ("", set()))
    assert kind.fields_in(key).keys() == fields
    assert fields <= kind.record.model_fields.keys()
