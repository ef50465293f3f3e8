"""A term's work, as one TaskGroup: it begins when the term was won, and ends with it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from functools import partial

from leaderjob.engine.commands import take_commands
from leaderjob.engine.definition import Assignment
from leaderjob.engine.jobloop import JobLoop
from leaderjob.engine.lacking import note_lacking_jobs
from leaderjob.engine.office import Office
from leaderjob.engine.preference import give_way
from leaderjob.engine.quarantine import move_corrupt_records_aside
from leaderjob.engine.reassignment import InitialOverrides, apply_override, take_up_late, take_up_overrides
from leaderjob.engine.removal import Removal
from leaderjob.engine.retention import retain
from leaderjob.engine.stepdown import step_down_when_asked
from leaderjob.keep_running import keep_running
from leaderjob.model.job import JobSpec
from leaderjob.recipes import NotLeader, TermLost


async def _never(known: Collection[str]) -> None:
    await asyncio.Event().wait()


async def serve_term(
    office: Office,
    assignments: Mapping[str, Assignment],
    until_more: Callable[[Collection[str]], Awaitable[None]] = _never,
) -> None:
    """Do all that one term does. Returns never: it is cancelled, or it raises.

    The caller has made sure that the feed shows everything that earlier terms wrote.

    :param until_more: returns when ``assignments`` has jobs that are not among those it is given.

    :raises ExceptionGroup: of :class:`TermLost` and :class:`NotLeader`: the term is over; of
        :class:`SteppedDown`: it is given up in order.
    """
    loops = {name: JobLoop(office, assignment) for name, assignment in assignments.items()}
    specs, known = _InForce(loops), InitialOverrides()
    async with asyncio.TaskGroup() as group:
        group.create_task(_end_with_the_term(office), name="term: trust deadline")
        stepping_down = step_down_when_asked(
            office.stepdown,
            loops.values(),
            term=office.token,
            drain_s=office.limits.drain_s,
            draining=office.draining,
        )
        group.create_task(stepping_down, name="term: stepping down")
        group.create_task(_sound_fires(office, loops), name="term: fires")
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "quarantine": lambda: move_corrupt_records_aside(office, specs),
            "retention": lambda: retain(office),
            "commands": lambda: take_commands(office, loops),
            "preference": lambda: give_way(office, loops.values()),
            "lacking jobs": lambda: note_lacking_jobs(office, loops.keys()),
            "removal": lambda: Removal(office, loops.keys()).run(),
            "overrides": lambda: take_up_overrides(office, loops, assignments, known),
            "jobs loaded late": lambda: take_up_late(loops, assignments, known, until_more, begin),
            **{f"job {name}": partial(_begin, loop, known) for name, loop in loops.items()},
        }

        def keep(name: str, part: Callable[[], Awaitable[None]]) -> None:
            # A part that breaks must not take the others with it.
            kept = keep_running(name, part, ends=_ends_the_term, term=office.token)
            group.create_task(kept, name=f"term: {name}")

        def begin(assignment: Assignment) -> None:
            name = assignment.spec.name
            changed = apply_override(office, assignment, known.overrides.get(name))
            loops[name] = JobLoop(office, changed)
            keep(f"job {name}", loops[name].run)

        for name, part in parts.items():
            keep(name, part)


async def _begin(loop: JobLoop, known: asyncio.Event) -> None:
    """Not before the overrides are known: a loop that begins without them would end the schedule that they set."""
    await known.wait()
    await loop.run()


class _InForce(Mapping[str, JobSpec]):
    """The definitions, as they are whenever they are looked at."""

    def __init__(self, loops: Mapping[str, JobLoop]) -> None:
        self._loops = loops

    def __getitem__(self, job: str) -> JobSpec:
        return self._loops[job].spec

    def __iter__(self) -> Iterator[str]:
        return iter(self._loops)

    def __len__(self) -> int:
        return len(self._loops)


async def _end_with_the_term(office: Office) -> None:
    reason = await office.leadership.wait_ended()
    raise TermLost(f"term {office.token} is over: {reason}")


async def _sound_fires(office: Office, loops: Mapping[str, JobLoop]) -> None:
    while True:
        fire = await office.alarm.fires.get()
        loop = loops.get(fire.job)
        if loop is not None:
            loop.sound()


def _ends_the_term(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return error.subgroup((TermLost, NotLeader)) is not None
    return isinstance(error, TermLost | NotLeader)
