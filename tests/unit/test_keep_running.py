"""Parts that break are reported and begin again; what was asked to stop stops."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest

from leaderjob.keep_running import keep_running
from tests.support.loop import run_async


def reported(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The fields of each ``part_broken``."""
    records = [record for record in caplog.records if record.getMessage() == "part_broken"]
    return [record.__dict__["fields"] for record in records]


@pytest.fixture(autouse=True)
def _all_events(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="leaderjob")


def test_a_part_that_breaks_is_reported_with_its_reasons_and_begins_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[BaseException | None] = [
        NotADirectoryError(20, "Not a directory", "store/staging"),
        ExceptionGroup("unhandled", [KeyError("x"), ExceptionGroup("inner", [OSError("full")])]),
        asyncio.CancelledError(),  # as gRPC does for the other side, though nobody cancelled the task
        None,
    ]

    async def part() -> None:
        failure = failures.pop(0)
        if failure is not None:
            raise failure

    run_async(keep_running("feed", part, first_pause_s=0.001, term=7), timeout_s=10)
    found = reported(caplog)
    assert failures == []
    assert [fields["reason"] for fields in found] == [
        "NotADirectoryError: [Errno 20] Not a directory: 'store/staging'",
        "KeyError: 'x'; OSError: full",
        "CancelledError: ",
    ]
    assert {(fields["part"], fields["term"]) for fields in found} == {("feed", 7)}
    assert all("in part\n" in fields["trace"] for fields in found)


def test_pauses_grow_up_to_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    left = 5

    async def part() -> None:
        nonlocal left
        left -= 1
        if left:
            raise ValueError

    run_async(keep_running("feed", part, first_pause_s=0.05, longest_pause_s=0.15), timeout_s=10)
    assert [fields["again_in_s"] for fields in reported(caplog)] == [0.05, 0.1, 0.15, 0.15]


@pytest.mark.timeout_s(10)
async def test_what_is_cancelled_ends_and_does_not_begin_again_though_it_breaks_on_the_way_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = 0
    waits = asyncio.Event()

    async def part() -> None:
        nonlocal begun
        begun += 1
        if begun > 1:
            return
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("while leaving")

    task = asyncio.create_task(keep_running("election", part, first_pause_s=0.001))
    await waits.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert begun == 1
    assert [fields["reason"] for fields in reported(caplog)] == ["OSError: while leaving"]


def test_a_part_that_has_left_a_task_group_by_an_error_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    begun = 0

    async def fail() -> None:
        raise OSError("inside")

    async def part() -> None:
        nonlocal begun
        begun += 1
        if begun > 2:
            return
        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        raise ValueError("outside")

    run_async(keep_running("election", part, first_pause_s=0.001), timeout_s=10)
    assert [fields["reason"] for fields in reported(caplog)] == ["ValueError: outside"] * 2


async def test_the_end_of_a_part_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    async def part() -> None:
        raise StopAsyncIteration

    def ends(error: Exception) -> bool:
        return isinstance(error, StopAsyncIteration)

    with pytest.raises(StopAsyncIteration):
        await keep_running("commands", part, ends=ends)
    assert reported(caplog) == []
