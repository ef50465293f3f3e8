"""Jobs as the overrides have them, from the first moment of a term on, and whenever they are changed."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from leaderjob.catalog.description import check_params
from leaderjob.engine.jobloop import JobLoop
from leaderjob.engine.office import Assignment, Office
from leaderjob.engine.overrides import JobOverride, overrides_in
from leaderjob.errors import SettingsError
from leaderjob.scheduling.triggers import parse_schedule
from leaderjob.telemetry.events import Events, emit


async def take_up_overrides(
    office: Office, loops: Mapping[str, JobLoop], assignments: Mapping[str, Assignment], known: asyncio.Event
) -> None:
    """Until the term ends: let jobs be as the overrides have it, as soon as they are changed.

    :param assignments: the jobs without overrides. :param known: set once those are that the term begins with.
    """
    store = overrides_in(office.leadership.etcd, office.keys.namespace)
    async with aclosing(store.watch()) as configurations:
        async for overrides in configurations:
            for job in overrides.jobs.keys() - loops.keys():
                _refuse(office, job, "no job is called that")
            for job, loop in loops.items():
                try:
                    loop.assign(overridden(assignments[job], overrides.jobs.get(job)))
                except SettingsError as error:
                    _refuse(office, job, str(error))
            known.set()


def _refuse(office: Office, job: str, reason: str) -> None:
    emit(Events.JOB_OVERRIDE_REFUSED, job=job, term=office.token, reason=reason)


def overridden(assignment: Assignment, override: JobOverride | None) -> Assignment:
    """The job as it is to run. :raises SettingsError: the override does not fit this job; why."""
    if override is None:
        return assignment
    spec = assignment.spec
    changes: dict[str, object] = {
        "overridden": tuple(sorted(override.model_fields_set)),
        "enabled": override.enabled,
    }
    if override.schedule is not None:
        changes |= {"schedule": override.schedule, "schedule_error": None}
    if override.timeout is not None:
        changes["policy"] = spec.policy.model_copy(update={"timeout_s": override.timeout})
    if override.params:
        changes["params"] = {**spec.params, **override.params}
        _check_given(assignment, override.params)
    if not override.enabled:
        changes["schedule"] = ()
    changed = spec.model_copy(update=changes)
    trigger = assignment.trigger
    if "schedule" in changes:
        trigger = parse_schedule(changed.schedule, job=spec.name, time_zone=spec.time_zone)
    return replace(assignment, spec=changed, trigger=trigger)


def _check_given(assignment: Assignment, given: Mapping[str, Any]) -> None:
    """Only what is given: what else a run needs is told when it is admitted, or comes with a trigger."""
    description = assignment.description
    wanted = tuple(replace(parameter, required=False) for parameter in description.parameters)
    check_params(replace(description, parameters=wanted), given)
