"""Whether values fit the parameters of a job's function, by its definition alone."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from leaderjob.errors import SettingsError, shown
from leaderjob.json_text import PARAMS_LIMIT_BYTES, InvalidJson, JsonTooLarge, check
from leaderjob.model.job import JobSpec, Parameter


def check_params(spec: JobSpec, params: Mapping[str, Any]) -> None:
    """Check all parameters of a run before it is admitted.

    :raises SettingsError: one is unknown, missing, or of the wrong type.
    """
    check_given_params(spec, params)
    for parameter in spec.parameters or ():
        if parameter.required and parameter.name not in params:
            raise SettingsError(
                f"job {spec.name!r} needs the parameter {parameter.name!r} ({parameter.type})"
            )


def check_given_params(spec: JobSpec, params: Mapping[str, Any]) -> None:
    """As :func:`check_params`, but others may be missing. A definition that names no parameters takes any.

    :raises SettingsError: one is unknown, or of the wrong type, or they are not JSON within the bounds.
    """
    try:
        check(params, PARAMS_LIMIT_BYTES)
    except JsonTooLarge as error:
        raise SettingsError(f"job {spec.name!r}: its parameters are too large: {error}") from error
    except InvalidJson as error:
        raise SettingsError(f"job {spec.name!r}: its parameters cannot be stored: {error}") from error
    if spec.parameters is None:
        return
    known = {parameter.name: parameter for parameter in spec.parameters}
    for name, value in params.items():
        parameter = known.get(name)
        if parameter is None and not spec.open_params:
            raise SettingsError(f"job {spec.name!r} has no parameter {shown(name)}: {_nearest(name, known)}")
        if parameter is not None and not _fits(value, parameter):
            allowed = f"{parameter.type} or null" if parameter.nullable else parameter.type
            raise SettingsError(
                f"job {spec.name!r}: parameter {name!r} is {shown(value)}, of type {type(value).__name__}; "
                f"it has to be of type {allowed}"
            )


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"it has {', '.join(names)}" if names else "it takes none"


def _fits(value: Any, parameter: Parameter) -> bool:
    if value is None:
        return parameter.nullable or parameter.type == "any"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match parameter.type:
        case "int":
            return is_number and isinstance(value, int)
        case "float":
            # math.isfinite() raises OverflowError for an integer that no float can hold.
            return is_number and (isinstance(value, int) or math.isfinite(value))
        case "str" | "bool" | "list" | "dict":
            return isinstance(value, {"str": str, "bool": bool, "list": list, "dict": dict}[parameter.type])
    return True  # any, or a type that a newer release knows
