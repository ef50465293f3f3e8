"""Tracebacks as text and as frames."""

from typing import Any

import pytest

from leaderjob.telemetry.raised import describe
from leaderjob.telemetry.trace import Trace


def fail(depth: int) -> None:
    if depth:
        fail(depth - 1)
    raise ValueError("deep")


def wrapped() -> None:
    try:
        fail(1)
    except ValueError as error:
        raise RuntimeError("outside") from error


def caught(function: Any, *arguments: Any) -> Exception:
    with pytest.raises((ValueError, RuntimeError, KeyError)) as error:
        function(*arguments)
    return error.value


def test_it_is_the_text_and_knows_the_exceptions_the_last_one_last() -> None:
    trace = Trace.of(caught(wrapped))
    assert trace.startswith("Traceback (most recent call last)")
    assert [(raised.type, raised.message) for raised in trace.exceptions] == [
        ("ValueError", "deep"),
        ("RuntimeError", "outside"),
    ]
    inner, _ = trace.exceptions
    assert [frame.function for frame in inner.frames] == ["wrapped", "fail", "fail"]
    assert inner.frames[-1].code.strip() == 'raise ValueError("deep")'
    assert inner.frames[-1].file == __file__


def test_a_suppressed_context_is_not_told() -> None:
    def suppressing() -> None:
        try:
            fail(0)
        except ValueError:
            raise KeyError("plain") from None

    assert [raised.type for raised in Trace.of(caught(suppressing)).exceptions] == ["KeyError"]


def test_a_group_of_one_is_told_as_that_one_and_a_group_of_several_as_a_group() -> None:
    one, other = caught(fail, 0), ValueError("other")
    (described,) = Trace.of(ExceptionGroup("outer", [ExceptionGroup("inner", [one])])).exceptions
    assert (described.type, described.message) == ("ValueError", "deep")
    assert described.frames[-1].function == "fail"
    assert [raised.type for raised in Trace.of(ExceptionGroup("g", [one, other])).exceptions] == [
        "ExceptionGroup"
    ]


def test_exceptions_that_cause_each_other_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert len(describe(first, None)) == 2


def test_a_deep_recursion_keeps_its_first_and_its_last_frames() -> None:
    error = caught(fail, 200)
    (described,) = describe(error, error.__traceback__)
    assert len(described["frames"]) == 50
    assert described["frames"][0]["function"] == "caught"
    assert described["frames"][-1]["code"].strip() == 'raise ValueError("deep")'


@pytest.mark.parametrize(
    "exceptions", [None, 5, [{"type": 1}], [{"no": "type"}], "x", [{"type": "E", "frames": [{}]}]]
)
def test_what_is_told_wrongly_costs_the_frames_only(exceptions: Any) -> None:
    trace = Trace.told("text", exceptions)
    assert trace == "text"
    assert trace.exceptions == ()


def test_without_a_text_there_is_none() -> None:
    assert Trace.told(None, []) is None
