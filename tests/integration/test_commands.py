"""Commands, consumed in the order in which they were given, whatever comes while one is being consumed."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.commands import take_commands
from leaderjob.engine.jobloop import JobLoop
from leaderjob.model.command import Command
from leaderjob.model.run import Cause, Run, State
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from tests.support.office import Seat, assigned, going_on, seated, trigger
from tests.support.streams import run_with_streams

_TOO_MUCH = "x" * 800_000


@pytest.fixture
def in_office(etcd: EmbeddedEtcd, namespace: str, tmp_path: Path) -> Callable[..., None]:
    def run(scenario: Callable[[Seat], Awaitable[None]], timeout_s: float = 10.0) -> None:
        async def main() -> None:
            async with seated(etcd.endpoint, namespace, tmp_path) as seat:
                await scenario(seat)

        run_with_streams(main(), timeout_s=timeout_s)

    return run


def give(seat: Seat, command: Command) -> Awaitable[int]:
    return seat.outside.put(seat.keys.command(command.id), command.to_bytes())


async def answer(seat: Seat, command: str) -> Command:
    def done(view: View) -> bool:
        found = view.get(Kind.COMMAND, command)
        return found is not None and found.record.done is not None

    found = (await seat.feed.until(done)).get(Kind.COMMAND, command)
    assert found is not None
    record: Command = found.record
    return record


def run_of(seat: Seat, job: str, run: str) -> Stored[Run] | None:
    return seat.feed.view.get(Kind.RUN, job, run)


def test_a_command_that_comes_while_another_is_consumed_is_taken_at_once(
    in_office: Callable[..., None],
) -> None:
    async def scenario(seat: Seat) -> None:
        async def give_the_second() -> None:
            """Nothing else changes after it, so that nothing else can wake whoever missed it."""
            revision = await give(seat, trigger("second", "unknown"))
            await seat.feed.until(lambda view: view.revision >= revision)

        seat.writer.after = give_the_second
        await give(seat, trigger("first", "unknown"))
        async with going_on(take_commands(seat.office, {})):
            refused = await answer(seat, "second")
        assert refused.accepted is False
        assert "no job is called 'unknown'" in str(refused.outcome)
        assert seat.writer.writes == 2

    in_office(scenario, timeout_s=4.0)


def test_parameters_that_are_too_large_are_refused_and_the_next_command_is_taken(
    in_office: Callable[..., None],
) -> None:
    async def scenario(seat: Seat) -> None:
        loops = {"j": JobLoop(seat.office, assigned("j"))}
        await give(seat, trigger("large", "j", value=_TOO_MUCH))
        await give(seat, trigger("small", "j", value=1))
        async with going_on(loops["j"].run(), take_commands(seat.office, loops)):
            refused = await answer(seat, "large")
            accepted = await answer(seat, "small")
        assert refused.accepted is False
        assert "parameters are too large" in str(refused.outcome)
        assert accepted.accepted is True
        assert run_of(seat, "j", "large") is None

    in_office(scenario)


@pytest.mark.parametrize(
    ("cause", "value", "accepted", "outcome"),
    [
        (Cause.TRIGGER, 1, True, "run again was admitted before"),
        (Cause.TRIGGER, 2, False, "another run is called again"),
        (Cause.SCHEDULE, 1, False, "another run is called again"),
    ],
)
def test_a_trigger_whose_run_exists_is_told_whether_it_is_its_own_and_starts_nothing(
    in_office: Callable[..., None], cause: Cause, value: int, accepted: bool, outcome: str
) -> None:
    async def scenario(seat: Seat) -> None:
        now = utcnow()
        before = Run(
            id="again",
            job="j",
            cause=cause,
            state=State.DONE,
            created=now,
            ended=now,
            params={"value": value},
        )
        key = seat.keys.run("j", "again")
        await seat.outside.put(key, before.to_bytes())
        loops = {"j": JobLoop(seat.office, assigned("j"))}
        async with going_on(loops["j"].run(), take_commands(seat.office, loops)):
            await give(seat, trigger("again", "j", value=1))
            told = await answer(seat, "again")
            await give(seat, trigger("other", "j", value=1))
            assert (await answer(seat, "other")).accepted is True
        assert told.accepted is accepted
        assert outcome in str(told.outcome)
        found = await seat.outside.get(key)
        assert found is not None
        assert (found.value, found.version) == (before.to_bytes(), 1)

    in_office(scenario)


def test_a_trigger_whose_runs_key_holds_what_cannot_be_read_is_refused(
    in_office: Callable[..., None],
) -> None:
    async def scenario(seat: Seat) -> None:
        key = seat.keys.run("j", "spoilt")
        await seat.outside.put(key, b"spoilt")
        loops: dict[str, Any] = {"j": JobLoop(seat.office, assigned("j"))}
        async with going_on(loops["j"].run(), take_commands(seat.office, loops)):
            await give(seat, trigger("spoilt", "j", value=1))
            refused = await answer(seat, "spoilt")
        assert refused.accepted is False
        assert "another run is called spoilt" in str(refused.outcome)

    in_office(scenario)
