"""What is accepted as JSON can be read back by every reader, and what is not says why."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderjob.clock import utcnow
from leaderjob.errors import printable
from leaderjob.json_text import (
    DEPTH_LIMIT,
    INTEGER_LIMIT_DIGITS,
    InvalidJson,
    JsonTooLarge,
    check,
    decode,
    encode,
    is_json,
)
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.query import Answer

LIMIT_BYTES = 1 << 20

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))  # surrogates, too
    | st.sampled_from([10**639, 10**640, -(10**640), float("inf"), "\udc80", object(), b"", 5e-324, -0.0])
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner) | st.tuples(inner)
    ),
    max_leaves=30,
)


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_lists(member) for key, member in value.items()}
    return [as_lists(member) for member in value] if isinstance(value, list | tuple) else value


@given(anything)
def test_whatever_is_accepted_every_reader_reads_back(value: Any) -> None:
    try:
        text = encode(value, LIMIT_BYTES)
    except InvalidJson:
        assert not is_json(value, LIMIT_BYTES)
        return
    expected = as_lists(value)
    assert decode(text, LIMIT_BYTES) == expected
    assert json.loads(text) == expected
    answer = Answer(replica="a", job="b", version=1, value=value)
    assert Answer.from_bytes(answer.to_bytes()).value == expected
    params = {"given": value}
    command = Command(id="a", kind=CommandKind.TRIGGER, created=utcnow(), expires=utcnow(), params=params)
    assert Command.from_bytes(command.to_bytes()).params == {"given": expected}


@given(st.text() | st.binary() | st.sampled_from(["[", "{", '"', "\\u", "1"]).map(lambda part: part * 10_000))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        value = decode(text, LIMIT_BYTES)
    except InvalidJson:
        return
    encode(value, LIMIT_BYTES)


def test_depth_counts_lists_and_objects() -> None:
    assert decode(encode(nested(DEPTH_LIMIT), LIMIT_BYTES), LIMIT_BYTES) == nested(DEPTH_LIMIT)
    with pytest.raises(InvalidJson, match="nested more than 100 levels deep"):
        encode(nested(DEPTH_LIMIT + 1), LIMIT_BYTES)
    with pytest.raises(InvalidJson, match="nested more than 100 levels deep"):
        decode('{"a":' * 101 + "1" + "}" * 101, LIMIT_BYTES)


def test_no_depth_crashes_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    endless: list[Any] = []
    endless.append({"inside": (endless,)})
    former = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        for value in (nested(100_000), endless):
            with pytest.raises(InvalidJson, match="nested more than"):
                encode(value, LIMIT_BYTES)
    finally:
        sys.setrecursionlimit(former)


def test_small_value_with_huge_text_is_refused_before_it_is_written() -> None:
    """Each level holds the one below twice: 2**64 members as text."""
    value: Any = []
    for _ in range(64):
        value = [value, value]
    with pytest.raises(JsonTooLarge, match="at least"):
        check(value, LIMIT_BYTES)


@pytest.mark.parametrize("value", ["é" * 100, "😀" * 50, '"' * 100, ["a"] * 50, {"é": [1, 2.5, None, True]}])
def test_size_is_that_of_the_text_in_utf8(value: Any) -> None:
    size_bytes = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    assert len(encode(value, size_bytes)) == size_bytes
    with pytest.raises(JsonTooLarge, match=f"more than {size_bytes - 1}"):
        encode(value, size_bytes - 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"rows": [0, {"at": object()}]}, "at ['rows'][1]['at']: object is not a JSON type"),
        ({"rows": [0, {1: 2}]}, "at ['rows'][1]: a key is of type int, and keys have to be text"),
        ([1, float("nan")], "at [1]: nan is not a finite number"),
        ("half \udc80", r"the text has an unpaired surrogate (\udc80)"),
        ({"half \udc80": 1}, r"the text has an unpaired surrogate (\udc80)"),
        ([10**INTEGER_LIMIT_DIGITS], "at [0]: an integer has more than 640 digits"),
        ({"a": b"bytes"}, "at ['a']: bytes is not a JSON type"),
    ],
)
def test_refusal_says_where_and_why(value: Any, reason: str) -> None:
    with pytest.raises(InvalidJson) as refused:
        encode(value, LIMIT_BYTES)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' comes twice"),
        ('"\\udc80"', "unpaired surrogate"),
        ("1e999", "inf is not a finite number"),
        ("-Infinity", "-inf is not a finite number"),
        ("1" * 641, "more than 640 digits"),
        ("1" * 5000, "digits"),
        (b"\xff", "it is not JSON"),
        (b'\xff\xfe"\x00a\x00"\x00', "it is not JSON"),
        ("", "it is not JSON"),
        ("[1] [2]", "it is not JSON"),
        ("[" * 100_000, "nested more than"),
        ("0" + " " * LIMIT_BYTES, "more than"),
    ],
)
def test_text_that_is_not_accepted_says_why(text: str | bytes, reason: str) -> None:
    with pytest.raises(InvalidJson, match=reason):
        decode(text, LIMIT_BYTES)


def test_text_for_people_is_made_printable() -> None:
    assert printable("half \udc80, whole 😀") == "half \\udc80, whole 😀"
