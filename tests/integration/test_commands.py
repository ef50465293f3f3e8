"""Commands, consumed in the order in which they were given, whatever comes while one is being consumed."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.commands import take_commands
from leaderjob.engine.jobloop import JobLoop
from leaderjob.keep_running import keep_running
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.run import Cause, Outcome, Run, State
from leaderjob.records import fenced
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events
from tests.support.hearing import hearing
from tests.support.office import Seat, assigned, going_on, seated, trigger
from tests.support.streams import run_with_streams
from tests.support.unanswered import Fate

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


@pytest.mark.parametrize(
    ("fate", "before_write"),
    [
        ("done", 1),
        *(pytest.param("later", number, marks=pytest.mark.slow) for number in (1, 2, 3)),
        ("later", 4),
    ],
)
def test_a_trigger_that_is_refused_after_it_got_no_answer_is_carried_out_once(
    in_office: Callable[..., None], monkeypatch: pytest.MonkeyPatch, fate: Fate, before_write: int
) -> None:
    """The parts of the term break on it and begin anew, and what was sent first lands while they do."""
    monkeypatch.setattr(fenced, "_REFUSED_FOR_S", 0.2)

    async def scenario(seat: Seat) -> None:
        loops, last = {"j": JobLoop(seat.office, assigned("j"))}, 0

        async def land() -> None:
            if seat.writer.writes < last:
                seat.writer.before = land
            else:
                await seat.client.deliver_late()

        with hearing() as heard:
            async with going_on(
                keep_running("job j", loops["j"].run),
                keep_running("commands", lambda: take_commands(seat.office, loops)),
            ):
                await give(seat, trigger("before", "j", value=1))
                await heard.until(Events.RUN_FINISHED)
                seat.client.fates, seat.client.refusing = [fate], True
                await give(seat, trigger("doubtful", "j", value=1))
                await heard.until(Events.PART_BROKEN)
                seat.client.refusing, seat.writer.before = False, land
                last = seat.writer.writes + before_write
                await heard.until(Events.RUN_FINISHED, 2)
                assert (await answer(seat, "doubtful")).accepted is True
                await give(seat, trigger("after", "j", value=1))
                await heard.until(Events.RUN_FINISHED, 3)
        finished = [(told["run"], told["outcome"]) for told in heard.all(Events.RUN_FINISHED)]
        assert finished == [(run, Outcome.SUCCEEDED) for run in ("before", "doubtful", "after")]
        assert len(heard.all(Events.RUN_STARTED)) == 3

    in_office(scenario, timeout_s=30.0)


@pytest.mark.parametrize("fate", ["done", "never"])
def test_whoever_asks_a_leader_to_resign_is_obeyed_though_the_answer_cannot_be_written(
    in_office: Callable[..., None], monkeypatch: pytest.MonkeyPatch, fate: Fate
) -> None:
    monkeypatch.setattr(fenced, "_REFUSED_FOR_S", 0.2)

    async def scenario(seat: Seat) -> None:
        seat.client.fates, seat.client.refusing = [fate], True
        now = utcnow()
        await give(
            seat,
            Command(
                id="resign",
                kind=CommandKind.RESIGN,
                token=seat.office.token,
                by="somebody",
                created=now,
                expires=now + timedelta(minutes=5),
            ),
        )
        async with going_on(keep_running("commands", lambda: take_commands(seat.office, {}))):
            assert await seat.office.stepdown.wait() == "asked to resign by somebody"

    in_office(scenario)
