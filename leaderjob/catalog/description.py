"""A job as the replica knows it: its validated definition, and where that comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from leaderjob.durations import parse_duration_s
from leaderjob.errors import InvalidDuration, SettingsError, printable, shown
from leaderjob.model.ids import check_name
from leaderjob.model.job import JobSpec, OnLeaderLoss, Overlap, Parameter, Policy
from leaderjob.sdk import Json

DESCRIPTION_LIMIT_CHARS = 1000

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class JobDescription:
    """One job.

    :param module: the module as it is named in the settings.
    :param file: the source file of the function.
    """

    spec: JobSpec
    module: str
    file: str


def validate(module: str, raw: Mapping[str, Json]) -> JobDescription:
    """The description of a job from what the child found. :raises SettingsError: an option is wrong."""
    options = raw["options"]
    if raw["problem"]:
        raise SettingsError(f"job {str(options['name'])!r}: {raw['problem']}")
    name = check_name("job", str(options["name"]))
    policy = Policy(
        timeout_s=_duration(name, options, "timeout", zero_allowed=False),
        overlap=_choice(name, options, "overlap", Overlap),
        misfire_grace_s=_duration(name, options, "misfire_grace", zero_allowed=True),
        retries=_count(name, options, "retries"),
        on_leader_loss=_choice(name, options, "on_leader_loss", OnLeaderLoss),
        max_leader_losses=_count(name, options, "max_leader_losses"),
    )
    spec = JobSpec(
        name=name,
        reference=raw["reference"],
        description=printable(str(options["description"])[:DESCRIPTION_LIMIT_CHARS]),
        schedule=_schedule(name, options["schedule"]),
        time_zone=printable(str(options["time_zone"])),
        policy=policy,
        parameters=tuple(Parameter(**parameter) for parameter in raw["parameters"]),
        open_params=raw["open"],
        has_query=raw["has_query"],
    )
    return JobDescription(spec, module, raw["file"])


def _duration(job: str, options: Mapping[str, Any], option: str, *, zero_allowed: bool) -> float:
    try:
        seconds = parse_duration_s(options[option])
    except InvalidDuration as error:
        raise SettingsError(f"job {job!r}: {option}: {error}") from error
    if seconds == 0 and not zero_allowed:
        raise SettingsError(f"job {job!r}: {option} has to be longer than 0 seconds")
    return seconds


def _count(job: str, options: Mapping[str, Any], option: str) -> int:
    value = options[option]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SettingsError(
            f"job {job!r}: {option} is {shown(value)}; it has to be a whole number, 0 or more"
        )
    return value


def _choice(job: str, options: Mapping[str, Any], option: str, choices: type[_Choice]) -> _Choice:
    value = options[option]
    if value not in list(choices):
        allowed = ", ".join(repr(choice.value) for choice in choices)
        raise SettingsError(f"job {job!r}: {option} is {shown(value)}; it has to be one of {allowed}")
    return choices(value)


def _schedule(job: str, schedule: Json) -> tuple[str, ...]:
    if schedule is None:
        return ()
    expressions = [schedule] if isinstance(schedule, str) else schedule
    if not isinstance(expressions, list | tuple) or not all(isinstance(one, str) for one in expressions):
        raise SettingsError(
            f"job {job!r}: schedule is {shown(schedule)}; it has to be a string or a list of strings"
        )
    # Not valid where it is not printable, and it is to be stored and shown as it is.
    return tuple(map(printable, expressions))
