"""The jobs as this replica would run them."""

from leaderjob.catalog.catalog import Catalog
from leaderjob.engine.office import Assignment
from leaderjob.errors import SettingsError
from leaderjob.scheduling.triggers import parse_schedule
from leaderjob.settings import Settings
from leaderjob.telemetry.events import Events, emit


def assign(catalog: Catalog, settings: Settings) -> dict[str, Assignment]:
    """The definitions of the modules, and what settings override.

    A schedule that cannot be parsed costs its job the schedule, and nobody else anything.

    :raises SettingsError: an override names no job.
    """
    for failure in catalog.failures:
        emit(Events.JOB_FAILED_TO_LOAD, module=failure.module, reason=failure.reason, trace=failure.traceback)
    known = {description.spec.name for description in catalog.jobs}
    for name in settings.overrides:
        if name not in known and not catalog.failures:
            raise SettingsError(
                f"setting 'overrides.{name}': no job is called that; known are {', '.join(sorted(known))}"
            )
    assignments = {}
    for description in catalog.jobs:
        spec = description.spec
        override = settings.overrides.get(spec.name)
        if override is not None:
            changes: dict[str, object] = {"params": {**spec.params, **override.params}}
            if override.schedule is not None:
                changes["schedule"] = override.schedule
            if override.timeout is not None:
                changes["policy"] = spec.policy.model_copy(update={"timeout_s": override.timeout})
            spec = spec.model_copy(update=changes)
        try:
            trigger = parse_schedule(spec.schedule, job=spec.name, time_zone=spec.time_zone)
        except SettingsError as error:
            emit(Events.JOB_SCHEDULE_INVALID, job=spec.name, reason=error)
            spec = spec.model_copy(update={"schedule_error": str(error)})
            trigger = parse_schedule((), job=spec.name)
        assignments[spec.name] = Assignment(spec, description, trigger)
    return assignments
