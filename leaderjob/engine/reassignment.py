"""Jobs as the overrides have them, from the first moment of a term on, and whenever they are changed."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from leaderjob.catalog.description import check_params
from leaderjob.engine.jobloop import JobLoop
from leaderjob.engine.office import Assignment, Office
from leaderjob.engine.overrides import JobOverride, Overrides, overrides_in
from leaderjob.errors import SettingsError
from leaderjob.etcd import EtcdUnavailable
from leaderjob.scheduling.triggers import parse_schedule
from leaderjob.telemetry.events import Events, emit

_RETRY_PAUSE_S = 0.5


async def take_up_overrides(
    office: Office, loops: Mapping[str, JobLoop], assignments: Mapping[str, Assignment], known: asyncio.Event
) -> None:
    """Until the term ends: let jobs be as the overrides have it, as soon as they are changed. Waits while etcd does not
    answer.

    :param assignments: the jobs without overrides. :param known: set once those are that the term begins with.
    """
    store = overrides_in(office.leadership.etcd, office.keys.namespace)
    troubled = False
    while True:
        try:
            async with aclosing(store.watch()) as configurations:
                async for overrides in configurations:
                    _assign(office, loops, assignments, overrides)
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
    overrides: Overrides,
) -> None:
    for job in overrides.jobs.keys() - loops.keys():
        _refuse(office, job, "no job is called that")
    for job, loop in loops.items():
        changed, refused = overridden(assignments[job], overrides.jobs.get(job))
        loop.assign(changed)
        for reason in refused:
            _refuse(office, job, reason)


def _refuse(office: Office, job: str, reason: str) -> None:
    emit(Events.JOB_OVERRIDE_REFUSED, job=job, term=office.token, reason=reason)


def overridden(assignment: Assignment, override: JobOverride | None) -> tuple[Assignment, list[str]]:
    """The job as it is to run, and what of the override does not fit it, and why.

    That is left out, and the rest counts: a parameter that is wrong must not let a job fire that was disabled.
    """
    if override is None:
        return assignment, []
    spec, refused = assignment.spec, []
    taken, trigger = set(override.model_fields_set), assignment.trigger
    changes: dict[str, object] = {"enabled": override.enabled}
    if override.timeout is not None:
        changes["policy"] = spec.policy.model_copy(update={"timeout_s": override.timeout})
    try:
        _check_given(assignment, override.params)
        changes["params"] = {**spec.params, **override.params}
    except SettingsError as error:
        refused.append(str(error))
        taken.discard("params")
    schedule = override.schedule if override.enabled else ()
    if schedule is not None:
        try:
            trigger = parse_schedule(schedule, job=spec.name, time_zone=spec.time_zone)
            changes |= {"schedule": schedule, "schedule_error": None}
        except SettingsError as error:
            refused.append(str(error))
            taken.discard("schedule")
    changes["overridden"] = tuple(sorted(taken))
    return replace(assignment, spec=spec.model_copy(update=changes), trigger=trigger), refused


def _check_given(assignment: Assignment, given: Mapping[str, Any]) -> None:
    """Only what is given: what else a run needs is told when it is admitted, or comes with a trigger."""
    description = assignment.description
    wanted = tuple(replace(parameter, required=False) for parameter in description.parameters)
    check_params(replace(description, parameters=wanted), given)
