"""The jobs as a replica would run them: which cannot be loaded, which cannot fire, which overrides do not fit."""

from collections.abc import Iterator, Mapping
from typing import Any

from leaderjob.assigning import assignments_of
from leaderjob.catalog.catalog import describe
from leaderjob.doctor.verdict import Finding, ok, problem, warning
from leaderjob.engine.definition import Assignment, overridden
from leaderjob.errors import SettingsError
from leaderjob.modules import current_directory
from leaderjob.settings import Settings

_CONFIG = "see 'leaderjob config get', and set or unset it"


async def check_jobs(settings: Settings, overrides: Mapping[str, Any]) -> list[Finding]:
    """:param overrides: of the dynamic configuration, as they were written, by job."""
    if not settings.jobs:
        return [
            warning("jobs", "none is configured", "name modules: --jobs jobs.search_index, or jobs = […]")
        ]
    try:
        catalog = await describe(settings.jobs, cwd=current_directory())
        assignments = assignments_of(catalog, settings)
    except SettingsError as error:
        return [problem("jobs", str(error), "a replica does not start with these settings")]
    findings = [
        problem(f"jobs of {failure.module}", failure.reason, "mend the module; the other jobs run without it")
        for failure in catalog.failures
    ]
    unfit = [finding for job in assignments.values() for finding in _check(job, overrides)]
    findings += unfit
    if not catalog.failures:
        findings += [
            warning(f"overrides of {job}", "no job is called that", _CONFIG)
            for job in sorted(overrides.keys() - assignments.keys())
        ]
    sound = [job for job in assignments if f"job {job}" not in {finding.subject for finding in unfit}]
    return [*findings, ok("jobs", ", ".join(sound))] if sound else findings


def _check(job: Assignment, overrides: Mapping[str, Any]) -> Iterator[Finding]:
    name = job.spec.name
    in_force, refused = overridden(job, overrides.get(name))
    for reason in refused:
        yield problem(f"overrides of {name}", f"a leader leaves this out: {reason}", _CONFIG)
    if in_force.spec.schedule_error is not None:
        yield problem(
            f"job {name}", in_force.spec.schedule_error, "until that is mended it only runs when triggered"
        )
