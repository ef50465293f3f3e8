"""What a newer release wrote is recognised in every kind of record, and is neither corrupt nor obeyed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderjob.cluster.schema import why_not_lead
from leaderjob.etcd import KeyValue
from leaderjob.model.artifact import Forgotten, Numbers
from leaderjob.model.history import History
from leaderjob.model.job import JobSpec, Timetable
from leaderjob.model.lacking import Lacking
from leaderjob.model.member import Candidate
from leaderjob.model.record import Record
from leaderjob.model.run import Progress
from leaderjob.model.schema import Schema
from leaderjob.model.transfer import Transfer
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import CorruptRecord, NewerRecord, Stored, decode
from leaderjob.records.view import Quarantined, View
from tests.unit.test_stored import COMMAND, KEYS, MEMBER, NOW, RUN, STAGED, VERSION

_RECORDS: dict[Kind, tuple[str, Record]] = {
    Kind.CANDIDATE: (f"{KEYS.election}1f", Candidate(replica="b", incarnation="1", addresses={}, since=NOW)),
    Kind.MEMBER: (KEYS.member("b"), MEMBER),
    Kind.SPEC: (KEYS.spec("x"), JobSpec(name="x", reference="m:f")),
    Kind.TIMETABLE: (KEYS.timetable("x"), Timetable(watermark=NOW)),
    Kind.RUN: (KEYS.run("x", "1"), RUN),
    Kind.PROGRESS: (KEYS.progress("x", "1", 1), Progress(done=1, total=2)),
    Kind.STAGED: (KEYS.staged("x", "1"), STAGED),
    Kind.POINTER: (KEYS.pointer("x"), VERSION),
    Kind.VERSION: (KEYS.version("x", 3), VERSION),
    Kind.FORGOTTEN: (KEYS.forgotten("x"), Forgotten(version=1, sequence=1, at=NOW)),
    Kind.NUMBERS: (KEYS.numbers("x"), Numbers(version=1, sequence=1)),
    Kind.COMMAND: (KEYS.command("b"), COMMAND),
    Kind.HISTORY: (KEYS.history, History(id="h")),
    Kind.SCHEMA: (KEYS.schema, Schema(number=1)),
    Kind.TRANSFER: (KEYS.transfer, Transfer(to="b", token=1)),
    Kind.LACKING: (KEYS.lacking(7), Lacking(token=7, replica="b", since=NOW, seen=NOW, jobs=("x",))),
}


def read(kind: Kind, value: bytes) -> Stored[Record]:
    return decode(kind, KeyValue(_RECORDS[kind][0], value, 5, 6, 1, 0))


def changed(kind: Kind, /, **fields: object) -> bytes:
    return json.dumps({**json.loads(_RECORDS[kind][1].to_bytes()), **fields}).encode()


@pytest.mark.parametrize("kind", Kind)
def test_a_format_that_is_not_known_is_newer_whatever_else_the_record_says(kind: Kind) -> None:
    for value in (changed(kind, v=99), b'{"v": 2}', b'{"v": 99, "state": 7, "digest": []}'):
        with pytest.raises(NewerRecord, match=r"format (99|2), and this release knows 1"):
            read(kind, value)


@pytest.mark.parametrize("kind", Kind)
def test_a_field_that_is_not_known_is_kept_and_not_used(kind: Kind) -> None:
    stored = read(kind, changed(kind, colour={"of": ["red"]}))
    assert json.loads(stored.record.model_copy().to_bytes())["colour"] == {"of": ["red"]}


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (Kind.MEMBER, "role"),
        (Kind.MEMBER, "priority"),
        (Kind.RUN, "state"),
        (Kind.RUN, "cause"),
        (Kind.RUN, "outcome"),
        (Kind.COMMAND, "kind"),
    ],
)
def test_a_choice_that_is_not_known_is_newer_and_a_value_of_another_type_is_corrupt(
    kind: Kind, field: str
) -> None:
    with pytest.raises(NewerRecord, match=f"{field}: "):
        read(kind, changed(kind, **{field: "levitating"}))
    with pytest.raises(CorruptRecord):
        read(kind, changed(kind, **{field: 7}))


@pytest.mark.parametrize("part", [{"v": 2}, {"on_leader_loss": "resume"}, {"overlap": "queue"}])
def test_a_part_that_only_a_newer_release_can_read_makes_the_record_newer(part: dict[str, object]) -> None:
    with pytest.raises(NewerRecord):
        read(Kind.SPEC, changed(Kind.SPEC, policy=part))


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b'{"v": 0}', b'{"v": "x"}', b'{"v": null}', b'{"v": 1}', b'{"v": 1e400}']
)
def test_what_no_release_writes_is_corrupt(value: bytes) -> None:
    with pytest.raises(CorruptRecord):
        read(Kind.RUN, value)


def view_with_schema(value: bytes) -> View:
    view, key = View(), Keys("prod").schema
    place = KEYS.locate(key)
    assert place is not None
    kv = KeyValue(key, value, 5, 6, 1, 0)
    try:
        view.set(place, decode(Kind.SCHEMA, kv))
    except NewerRecord as error:
        view.newer[key] = Quarantined(kv, place, str(error), newer=True)
    except CorruptRecord as error:
        view.quarantined[key] = Quarantined(kv, place, str(error))
    return view


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b'{"v":1,"schema":2}', "layout 2, and this release reads 1"),
        (b'{"v":9,"schema":1}', "a newer release wrote"),
        (b'{"v":1,"schema":0}', "is not a schema record"),
        (b'{"v":1}', "is not a schema record"),
        (b"two", "is not a schema record"),
    ],
)
def test_nobody_leads_on_keys_whose_layout_is_newer_or_not_known(value: bytes, why: str) -> None:
    assert why in str(why_not_lead(view_with_schema(value)))


def test_the_first_layout_needs_no_record() -> None:
    assert why_not_lead(View()) is None
    assert why_not_lead(view_with_schema(Schema(number=1).to_bytes())) is None
    assert Schema(number=1).to_bytes() == b'{"v":1,"schema":1}'


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    KEYS.spec("x"),
                    KEYS.spec("y"),
                    KEYS.forgotten("x"),
                    KEYS.run("x", "r"),
                    KEYS.progress("x", "r", 1),
                    KEYS.command("x"),
                ]
            ),
            st.sampled_from(["newer", "corrupt", "gone"]),
        )
    )
)
def test_the_records_of_a_job_that_only_a_newer_release_can_read_are_those_that_stand_there(
    events: list[tuple[str, str]],
) -> None:
    view, standing = View(), dict[str, str]()
    for key, what in events:
        place = KEYS.locate(key)
        assert place is not None
        kv = KeyValue(key, b"", 5, 6, 1, 0)
        found = Quarantined(kv, place, what, newer=what == "newer")
        view.set_unreadable(key, place, None if what == "gone" else found)
        standing[key] = what
    newer = {key for key, what in standing.items() if what == "newer"}
    assert set(view.newer) == newer
    assert set(view.quarantined) == {key for key, what in standing.items() if what == "corrupt"}
    for job in ("x", "y"):
        of_job = {key for key in newer if f"/{job}/" in key and "progress" not in key}
        assert {found.kv.key for found in view.newer_of(job)} == of_job
