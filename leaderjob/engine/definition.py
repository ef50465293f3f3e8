"""The definition in force of a job: what its module says, then its settings, then the dynamic configuration.

Whoever has to know what an override makes of a job asks here: a replica that starts, its doctor, a leader that takes
a change up, and the command that is to make one. So what the command accepts, the leader takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from leaderjob.errors import SettingsError, is_text, printable, shown
from leaderjob.model.job import JobSpec
from leaderjob.model.params import check_given_params, check_params
from leaderjob.scheduling.triggers import MAX_EXPRESSION_CHARS, MAX_EXPRESSIONS, Trigger, parse_schedule
from leaderjob.settings import JobOverride


class DynamicOverride(JobOverride):
    """What the dynamic configuration has for one job. What is not set stays as the module and the settings have it."""

    enabled: bool = True
    """Whether it fires by its schedule. A job that is not enabled runs only when triggered."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One job as this replica would run it.

    :param spec: ``schedule_error`` says why it cannot fire, where it cannot.
    """

    spec: JobSpec
    trigger: Trigger


def with_settings(spec: JobSpec, override: JobOverride | None) -> JobSpec:
    """The module's definition, with what the settings of this replica have in its place."""
    if override is None:
        return spec
    changes: dict[str, Any] = {"params": {**spec.params, **override.params}}
    if override.schedule is not None:
        changes["schedule"] = override.schedule
    if override.timeout is not None:
        changes["policy"] = spec.policy.model_copy(update={"timeout_s": override.timeout})
    if spec.parameters is not None:
        changes["parameters"] = tuple(
            replace(parameter, required=parameter.required and parameter.name not in override.params)
            for parameter in spec.parameters
        )
    return spec.model_copy(update=changes)


def assign(spec: JobSpec) -> Assignment:
    """The job with its trigger. Where it could never fire, it has none, and the definition says why."""
    if not spec.enabled:
        return Assignment(spec.model_copy(update={"schedule": (), "schedule_error": None}), Trigger())
    try:
        trigger = parse_schedule(spec.schedule, job=spec.name, time_zone=spec.time_zone)
        _check_own_params(spec)
    except SettingsError as error:
        return unusable(spec, str(error))
    return Assignment(spec.model_copy(update={"schedule_error": None}), trigger)


def unusable(spec: JobSpec, reason: str) -> Assignment:
    """The job without a trigger, and why. What its definition shows is printable, short, and still not valid."""
    changes = {
        "schedule": tuple(
            printable(expression[: MAX_EXPRESSION_CHARS + 1])
            for expression in spec.schedule[: MAX_EXPRESSIONS + 1]
        ),
        "time_zone": printable(spec.time_zone[:MAX_EXPRESSION_CHARS]),
        "schedule_error": printable(reason),
    }
    return Assignment(spec.model_copy(update=changes), Trigger())


def with_override(spec: JobSpec, override: object) -> tuple[JobSpec, list[str]]:
    """The definition with a dynamic override over it, and what of that does not fit the job, and why.

    What does not fit is left out, and the rest counts: a parameter that is wrong must not let a job fire that was
    disabled.

    :param override: as it was written, by a command or by other means.
    """
    wanted, refused = _read(override)
    changes: dict[str, Any] = {"enabled": wanted.enabled}
    taken = set(wanted.model_fields_set)
    if wanted.timeout is not None:
        changes["policy"] = spec.policy.model_copy(update={"timeout_s": wanted.timeout})
    try:
        check_given_params(spec, wanted.params)
        changes["params"] = {**spec.params, **wanted.params}
    except SettingsError as error:
        refused.append(str(error))
        taken.discard("params")
    try:
        if wanted.schedule is not None:
            parse_schedule(wanted.schedule, job=spec.name, time_zone=spec.time_zone)
            changes["schedule"] = wanted.schedule
    except SettingsError as error:
        refused.append(str(error))
        taken.discard("schedule")
    changes["overridden"] = tuple(sorted(taken))
    return spec.model_copy(update=changes), refused


def overridden(assignment: Assignment, override: object) -> tuple[Assignment, list[str]]:
    """The job as it is to run, and what of a dynamic override does not fit it, and why. None: nothing is overridden."""
    if override is None:
        return assignment, []
    spec, refused = with_override(assignment.spec, override)
    return assign(spec), refused


def check_override(spec: JobSpec, override: Mapping[str, Any]) -> None:
    """Whether a leader would take all of an override, by the definition in force, which may be overridden already.

    :raises SettingsError: it would not, or the job could not fire any more.
    """
    changed, refused = with_override(spec, override)
    if refused:
        raise SettingsError("; ".join(refused))
    # What the module's own schedule is cannot be known where another one is in force.
    is_known = "schedule" in override or (spec.enabled and "schedule" not in spec.overridden)
    if not changed.enabled or not is_known:
        return
    # What an earlier override gave is not there any more; what the settings give is not required.
    _check_own_params(changed.model_copy(update={"params": dict(override.get("params", {}))}))


def _check_own_params(spec: JobSpec) -> None:
    """:raises SettingsError: no run could begin with what the definition gives, or no scheduled one."""
    try:
        if spec.schedule:
            check_params(spec, spec.params)
        else:
            check_given_params(spec, spec.params)  # a trigger brings what is required
    except SettingsError as error:
        kind = "scheduled run" if spec.schedule else "run"
        raise SettingsError(
            f"{error}: no {kind} can begin. Values come from [overrides.{spec.name}.params] and from "
            f"'leaderjob config set jobs.{spec.name}.params.NAME VALUE'"
        ) from error


def _read(override: object) -> tuple[DynamicOverride, list[str]]:
    """Field by field, as far as each is valid; and why the others are not."""
    if not isinstance(override, Mapping):
        return DynamicOverride(), [f"its override is {shown(override)}, and has to be a table"]
    refused: list[str] = []
    # pydantic reports a name that is not valid text without saying which one it is.
    fields = {name: value for name, value in override.items() if is_text(name)}
    refused += [f"{shown(name)}: a name has to be valid text" for name in override if not is_text(name)]
    while True:
        try:
            return DynamicOverride.model_validate(fields), refused
        except ValidationError as error:
            reasons = {
                found["loc"][0]: found["msg"].removeprefix("Value error, ")
                for found in error.errors(include_url=False, include_context=False, include_input=False)
            }
        for name, reason in reasons.items():
            del fields[name]
            refused.append(f"{shown(name)}: {reason}")
