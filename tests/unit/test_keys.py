"""The key schema: what is made is recognised, and nothing else is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderjob.errors import InvalidName
from leaderjob.records.keys import Keys, Kind, Place

KEYS = Keys("prod")
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)


@given(names, names, st.integers(1, 10**6))
@settings(max_examples=30)
def test_every_key_that_is_made_is_located_with_its_names(job: str, run: str, number: int) -> None:
    made = {
        KEYS.member(job): Place(Kind.MEMBER, (job,)),
        KEYS.spec(job): Place(Kind.SPEC, (job,)),
        KEYS.timetable(job): Place(Kind.TIMETABLE, (job,)),
        KEYS.forgotten(job): Place(Kind.FORGOTTEN, (job,)),
        KEYS.run(job, run): Place(Kind.RUN, (job, run)),
        KEYS.progress(job, run, number): Place(Kind.PROGRESS, (job, run, str(number))),
        KEYS.staged(job, run): Place(Kind.STAGED, (job, run)),
        KEYS.pointer(job): Place(Kind.POINTER, (job,)),
        KEYS.version(job, number): Place(Kind.VERSION, (job, str(number))),
        KEYS.numbers(job): Place(Kind.NUMBERS, (job,)),
        KEYS.command(run): Place(Kind.COMMAND, (run,)),
        KEYS.history: Place(Kind.HISTORY, ()),
        KEYS.schema: Place(Kind.SCHEMA, ()),
        KEYS.transfer: Place(Kind.TRANSFER, ()),
        KEYS.lacking(number): Place(Kind.LACKING, (str(number),)),
        f"{KEYS.election}{number:x}": Place(Kind.CANDIDATE, (f"{number:x}",)),
    }
    assert {key: KEYS.locate(key) for key in made} == made
    assert {place.kind for place in made.values()} == set(Kind)
    assert KEYS.run(job, run).startswith(KEYS.runs(job))


@pytest.mark.parametrize(
    "key",
    [
        "/leaderjob/prod/",
        "/leaderjob/prod/members/",
        "/leaderjob/prod/members/A",
        "/leaderjob/prod/members/a/b",
        "/leaderjob/prod/members/a\n",
        "/leaderjob/prod/election/xyz",
        "/leaderjob/prod/runs/job",
        "/leaderjob/prod/progress/job/run/first",
        "/leaderjob/prod/meta/history2",
        "/leaderjob/other/members/a",
        "/leaderjob/production/members/a",
        "/somebody/else",
        "/leaderjob/prod/members/\udcff",
    ],
)
def test_a_key_that_is_not_in_the_schema_has_no_place(key: str) -> None:
    assert KEYS.locate(key) is None


@given(names)
def test_a_value_in_quarantine_is_not_found_as_what_it_was_meant_to_be(job: str) -> None:
    quarantined = KEYS.quarantine(KEYS.spec(job))
    assert quarantined.endswith(f"/jobs/{job}/spec")
    assert KEYS.locate(quarantined) is None


def test_the_keys_of_a_job_are_not_among_those_of_a_job_whose_name_begins_alike() -> None:
    assert not KEYS.run("index-2", "r").startswith(KEYS.runs("index"))


@pytest.mark.parametrize("namespace", ["", "Prod", "a/b", "-a", "a" * 121])
def test_a_namespace_that_is_no_name_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidName, match="namespace"):
        Keys(namespace)
