"""What a worker process says may be anything; its replica reads a message or calls the protocol broken."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leaderjob.execution.messages import QUERY_WORKER, WORKER, ProtocolBroken, read
from leaderjob.execution.process import read_message
from leaderjob.json_text import DEPTH_LIMIT, RESULT_LIMIT_BYTES

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
kinds = st.sampled_from(["progress", "end", "ready", "closed", "answer", "bad", "error"])
ends = st.sampled_from(["returned", "raised", "permanent", "retry_later", "late"])
messages = st.fixed_dictionaries(
    {"type": kinds | values},
    optional={
        "kind": ends | values,
        **dict.fromkeys(
            (
                *("id", "value", "reason", "traceback", "exceptions", "stopping", "delay_s"),
                *("done", "total", "message"),
            ),
            values,
        ),
    },
)


@given(messages | values)
@example({"type": "answer", "id": [1], "value": 0})
@example({"type": ["answer"], "id": 1, "value": 0})
@example({"type": "end", "kind": {}, "stopping": False})
@example({"type": "end", "kind": "raised", "stopping": False, "reason": None})
@example({"type": "end", "kind": "retry_later", "stopping": False, "reason": "", "delay_s": "soon"})
@example({"type": "progress", "done": "1", "total": None, "message": 5})
def test_any_message_is_read_or_breaks_the_protocol(message: Any) -> None:
    line = json.dumps(message).encode()
    for adapter in (WORKER, QUERY_WORKER):
        try:
            read(adapter, read_message(line))
        except ProtocolBroken:
            continue


@given(st.binary() | st.sampled_from([b"[", b'{"a":', b'"']).map(lambda part: part * 5000))
def test_any_line_is_a_message_or_breaks_the_protocol(line: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        read(WORKER, read_message(line))


@pytest.mark.parametrize(
    "value", [[0] * RESULT_LIMIT_BYTES, json.loads("[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1))]
)
def test_result_beyond_the_bounds_breaks_the_protocol(value: Any) -> None:
    message = {"type": "end", "kind": "returned", "stopping": False, "value": value}
    with pytest.raises(ProtocolBroken, match="value"):
        read(WORKER, message)


def test_null_is_a_result_and_an_answer() -> None:
    ended = read(WORKER, {"type": "end", "kind": "returned", "stopping": False, "value": None})
    assert ended.value is None
    assert read(QUERY_WORKER, {"type": "answer", "id": 1, "value": None}).value is None
