"""Jobs as the overrides have them, from the first moment of a term on, and whenever they are changed."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any

from leaderjob.engine.definition import Assignment, overridden, unusable
from leaderjob.engine.jobloop import JobLoop
from leaderjob.engine.office import Office
from leaderjob.engine.overrides import written_overrides
from leaderjob.etcd import EtcdUnavailable
from leaderjob.telemetry.events import Events, emit
from leaderjob.telemetry.trace import Trace

_RETRY_PAUSE_S = 0.5


class InitialOverrides(asyncio.Event):
    """Set once the overrides are known that a term begins with; has those in force from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.overrides: Mapping[str, Any] = {}


async def take_up_late(
    loops: Mapping[str, JobLoop],
    assignments: Mapping[str, Assignment],
    known: asyncio.Event,
    until_more: Callable[[Collection[str]], Awaitable[None]],
    begin: Callable[[Assignment], None],
) -> None:
    """Until the term ends: begin with jobs whose modules were imported after the term began."""
    await known.wait()
    while True:
        await until_more(loops.keys())
        for job in assignments.keys() - loops.keys():
            begin(assignments[job])


async def take_up_overrides(
    office: Office, loops: Mapping[str, JobLoop], assignments: Mapping[str, Assignment], known: asyncio.Event
) -> None:
    """Until the term ends: let jobs be as the overrides have it, as soon as they are changed. Waits while etcd does not
    answer.

    :param assignments: the jobs without overrides. :param known: set once those are that the term begins with.
    """
    store = written_overrides(office.leadership.etcd, office.keys.namespace)
    troubled = False
    while True:
        try:
            async with aclosing(store.watch()) as configurations:
                async for overrides in configurations:
                    if isinstance(known, InitialOverrides):
                        known.overrides = overrides.jobs
                    _assign(office, loops, assignments, overrides.jobs)
                    known.set()
                    troubled = False
        except EtcdUnavailable as error:
            if not troubled:
                emit(Events.CONNECTION_TROUBLE, term=office.token, reason=error)
            troubled = True
            await asyncio.sleep(_RETRY_PAUSE_S)


def _assign(
    office: Office,
    loops: Mapping[str, JobLoop],
    assignments: Mapping[str, Assignment],
    overrides: Mapping[str, Any],
) -> None:
    for job in overrides.keys() - loops.keys():
        emit(Events.JOB_OVERRIDE_REFUSED, job=job, term=office.token, reason="no job is called that")
    for job, loop in loops.items():
        former = loop.assigned.spec.schedule_error
        changed = apply_override(office, assignments[job], overrides.get(job))
        loop.assign(changed)
        error = changed.spec.schedule_error
        if error is not None and error != former:
            emit(Events.JOB_SCHEDULE_INVALID, job=job, reason=error)


def apply_override(office: Office, assignment: Assignment, override: object) -> Assignment:
    """What of the override does not fit is told; whatever is wrong with it, it costs no other job anything."""
    fields: dict[str, Any] = {"job": assignment.spec.name, "term": office.token}
    try:
        changed, refused = overridden(assignment, override)
    except Exception as error:  # noqa: BLE001 - a defect of ours in reading one override must not stop the others
        reason = f"the override cannot be applied, and the job does not fire: {type(error).__name__}"
        emit(Events.JOB_OVERRIDE_REFUSED, reason=reason, trace=Trace.of(error), **fields)
        return unusable(assignment.spec, reason)  # it may have been meant to keep the job from firing
    for reason in refused:
        emit(Events.JOB_OVERRIDE_REFUSED, reason=reason, **fields)
    return changed
