"""A job as the replica knows it: its validated definition, and what parameters its function takes."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from leaderjob.durations import parse_duration_s
from leaderjob.errors import InvalidDuration, SettingsError
from leaderjob.model.ids import check_name
from leaderjob.model.job import JobSpec, OnLeaderLoss, Overlap, Policy
from leaderjob.sdk import Json

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a job's function.

    :param type: ``str``, ``int``, ``float``, ``bool``, ``list``, ``dict`` or ``any``.
    :param nullable: None is allowed too.
    :param default: the default; where that is not a JSON value, its text.
    """

    name: str
    type: str
    nullable: bool
    required: bool
    default: Json = None


@dataclass(frozen=True, slots=True)
class JobDescription:
    """One job.

    :param parameters: what its function takes beside the context.
    :param open: whether it also takes parameters of any other name.
    :param module: the module as it is named in the settings.
    :param file: the source file of the function.
    """

    spec: JobSpec
    parameters: tuple[Parameter, ...]
    open: bool
    module: str
    file: str


def validate(module: str, raw: Mapping[str, Json]) -> JobDescription:
    """The description of a job from what the child found. :raises SettingsError: an option is wrong."""
    options = raw["options"]
    name = check_name("job", str(options["name"]))
    if raw["problem"]:
        raise SettingsError(f"job {name!r}: {raw['problem']}")
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
        description=str(options["description"]),
        schedule=_schedule(name, options["schedule"]),
        time_zone=str(options["time_zone"]),
        policy=policy,
        has_query=raw["has_query"],
    )
    parameters = tuple(Parameter(**parameter) for parameter in raw["parameters"])
    return JobDescription(spec, parameters, raw["open"], module, raw["file"])


def check_params(description: JobDescription, params: Mapping[str, Json]) -> None:
    """Check the parameters of a run before it is admitted.

    :raises SettingsError: one is unknown, missing, or of the wrong type.
    """
    job = description.spec.name
    known = {parameter.name: parameter for parameter in description.parameters}
    if not description.open:
        for name in params.keys() - known.keys():
            raise SettingsError(f"job {job!r} has no parameter {name!r}: {_nearest(name, known)}")
    for parameter in description.parameters:
        if parameter.name not in params:
            if parameter.required:
                raise SettingsError(f"job {job!r} needs the parameter {parameter.name!r} ({parameter.type})")
        elif not _fits(params[parameter.name], parameter):
            value = params[parameter.name]
            allowed = f"{parameter.type} or null" if parameter.nullable else parameter.type
            raise SettingsError(
                f"job {job!r}: parameter {parameter.name!r} is {value!r}, of type {type(value).__name__}; "
                f"it has to be of type {allowed}"
            )


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"it has {', '.join(names)}" if names else "it takes none"


def _fits(value: Json, parameter: Parameter) -> bool:
    if value is None:
        return parameter.nullable or parameter.type == "any"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match parameter.type:
        case "int":
            return is_number and isinstance(value, int)
        case "float":
            return is_number and math.isfinite(value)
        case "any":
            return True
    return isinstance(value, {"str": str, "bool": bool, "list": list, "dict": dict}[parameter.type])


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
        raise SettingsError(f"job {job!r}: {option} is {value!r}; it has to be a whole number, 0 or more")
    return value


def _choice(job: str, options: Mapping[str, Any], option: str, choices: type[_Choice]) -> _Choice:
    value = options[option]
    if value not in list(choices):
        allowed = ", ".join(repr(choice.value) for choice in choices)
        raise SettingsError(f"job {job!r}: {option} is {value!r}; it has to be one of {allowed}")
    return choices(value)


def _schedule(job: str, schedule: Json) -> tuple[str, ...]:
    if schedule is None:
        return ()
    expressions = [schedule] if isinstance(schedule, str) else schedule
    if not isinstance(expressions, list | tuple) or not all(isinstance(one, str) for one in expressions):
        raise SettingsError(
            f"job {job!r}: schedule is {schedule!r}; it has to be a string or a list of strings"
        )
    return tuple(expressions)
