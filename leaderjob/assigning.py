"""The jobs as this replica would run them."""

from leaderjob.catalog.catalog import Catalog
from leaderjob.engine.definition import Assignment, with_settings
from leaderjob.engine.definition import assign as assign_one
from leaderjob.errors import SettingsError
from leaderjob.model.job import JobSpec
from leaderjob.settings import Settings
from leaderjob.telemetry.events import Events, emit


def assign(catalog: Catalog, settings: Settings) -> dict[str, Assignment]:
    """The jobs of some modules as the settings have them; what is wrong is told."""
    assignments = _assignments(catalog, settings)
    for failure in catalog.failures:
        emit(Events.JOB_FAILED_TO_LOAD, module=failure.module, reason=failure.reason, trace=failure.traceback)
    for job, assignment in assignments.items():
        if assignment.spec.schedule_error is not None:
            emit(Events.JOB_SCHEDULE_INVALID, job=job, reason=assignment.spec.schedule_error)
    return assignments


def assignments_of(catalog: Catalog, settings: Settings) -> dict[str, Assignment]:
    """The definitions of the modules, and what settings override.

    A schedule that cannot be used costs its job the schedule, and nobody else anything: see ``schedule_error`` of
    its definition.

    :raises SettingsError: an override names no job.
    """
    refuse_unknown_overrides(catalog, settings)
    return _assignments(catalog, settings)


def refuse_unknown_overrides(catalog: Catalog, settings: Settings) -> None:
    """:raises SettingsError: an override names no job, and every module was imported."""
    known = {description.spec.name for description in catalog.jobs}
    for name in settings.overrides:
        if name not in known and not catalog.failures:
            raise SettingsError(
                f"setting 'overrides.{name}': no job is called that; known are {', '.join(sorted(known))}"
            )


def _assignments(catalog: Catalog, settings: Settings) -> dict[str, Assignment]:
    return {description.spec.name: _assignment(description.spec, settings) for description in catalog.jobs}


def _assignment(spec: JobSpec, settings: Settings) -> Assignment:
    return assign_one(with_settings(spec, settings.overrides.get(spec.name)))
