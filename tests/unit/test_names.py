"""What may be a name, and that records take nothing else where a key or a path is made of it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from leaderjob.errors import InvalidName
from leaderjob.model.artifact import Pointer, Staged, Version
from leaderjob.model.command import Command
from leaderjob.model.ids import fire_id
from leaderjob.model.job import JobSpec
from leaderjob.model.member import Candidate, Member
from leaderjob.model.record import Record
from leaderjob.model.run import Outcome, Run
from leaderjob.names import check_name, valid_name

_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_AT = _NOW.isoformat()
_DIGEST = "blake3:" + "0" * 64
_SIZES = {"token": 1, "digest": _DIGEST, "manifest_bytes": 1, "size_bytes": 1, "file_count": 1}
_VERSION = {"version": 1, "sequence": 1, "run": "r", "published": _AT, **_SIZES}
_CANDIDATE = {"replica": "a", "incarnation": "1", "addresses": {}}
_RECORDS: tuple[tuple[type[Record], dict[str, Any], tuple[str, ...]], ...] = (
    (
        Command,
        {"id": "c", "kind": "trigger", "job": "j", "created": _AT, "expires": _AT},
        ("id", "job"),
    ),
    (
        Run,
        {"id": "r", "job": "j", "cause": "trigger", "state": "admitted", "created": _AT},
        ("id", "job"),
    ),
    (
        Member,
        {**_CANDIDATE, "role": "leader", "release": "1", "host": "h", "pid": 1, "started": _AT},
        ("replica",),
    ),
    (Candidate, {**_CANDIDATE, "since": _AT}, ("replica",)),
    (JobSpec, {"name": "j", "reference": "m:f"}, ("name",)),
    (Staged, {"job": "j", "run": "r", **_SIZES}, ("job", "run")),
    (Version, _VERSION, ("run",)),
    (Pointer, _VERSION, ("run",)),
)
_FIELDS = [(record, values, field) for record, values, fields in _RECORDS for field in fields]
_NOT_NAMES = ("", "..", "../../x", "a/b", "UPPER", "-a", ".a", "a\n", "a\0", "ä", "a" * 121)


@pytest.mark.parametrize("name", _NOT_NAMES)
def test_what_is_no_name_is_refused(name: str) -> None:
    assert not valid_name(name)
    with pytest.raises(InvalidName, match="job"):
        check_name("job", name)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "0",
        "a" * 120,
        "a..b",
        "20260102t030405z-3b6d6b",
        *(f"{fire_id(_NOW)}-{outcome}" for outcome in Outcome),
    ],
)
@pytest.mark.parametrize(("record", "values", "field"), _FIELDS)
def test_a_record_takes_names(record: type[Record], values: dict[str, Any], field: str, name: str) -> None:
    assert getattr(record.model_validate(values | {field: name}), field) == name


@pytest.mark.parametrize("name", _NOT_NAMES)
@pytest.mark.parametrize(("record", "values", "field"), _FIELDS)
def test_a_record_takes_nothing_that_is_no_name(
    record: type[Record], values: dict[str, Any], field: str, name: str
) -> None:
    with pytest.raises(ValidationError, match="is not a name") as caught:
        record.model_validate(values | {field: name})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_a_very_long_name_is_not_repeated_in_full() -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec(name="a" * 100_000, reference="m:f")
    assert len(caught.value.errors()[0]["msg"]) < 300
