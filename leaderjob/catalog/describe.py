"""Entry point of the child that describes one module: ``python -m leaderjob.catalog.describe MODULE``.

Prints one JSON document on what was its standard output: ``{"file", "jobs": […]}``, or
``{"missing": SENTENCE}`` where there is no such module, or ``{"reason", "traceback", "exceptions"}`` where its own
import failed. What the module itself prints goes to standard error.
"""

import inspect
import json
import os
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from leaderjob.modules import ModuleMissing, load_jobs, own_trace
from leaderjob.sdk import Job, Json, is_json

_TYPES = {str: "str", int: "int", float: "float", bool: "bool", list: "list", dict: "dict"}
_NAMES = {kind.__name__: name for kind, name in _TYPES.items()}


def main() -> None:
    document = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(document, "w", encoding="utf-8") as out:
        json.dump(describe_module(sys.argv[1]), out)


def describe_module(module: str) -> dict[str, Json]:
    """The document for one module; never raises what the module raises."""
    try:
        jobs = [describe_job(module, job) for job in load_jobs(module)]
    except ModuleMissing as error:
        return {"missing": str(error)}
    except BaseException as error:  # noqa: BLE001 - the author's code may raise anything: it is reported
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        return {"reason": reason, **own_trace(error)}
    return {"jobs": jobs}


def describe_job(module: str, job: Job) -> dict[str, Json]:
    """One job as its author wrote it; nothing is validated here.

    Values that JSON does not know become text, so that whoever validates can name them.
    """
    options = {name: _plain(value) for name, value in asdict(job.options).items()}
    described = {
        "options": options,
        "reference": f"{module}:{job.options.name}",
        "file": inspect.getsourcefile(inspect.unwrap(job.function)) or "",
        "has_query": job.opener is not None,
    }
    return {**described, **describe_parameters(job.function)}


def describe_parameters(function: Callable[..., Any]) -> dict[str, Json]:
    """``parameters`` after the context, whether the function is ``open`` to others (``**options``), and
    the ``problem`` that makes it unusable as a job, if there is one."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, SyntaxError, TypeError):
        # Annotations that only a type checker can resolve: plain names are still understood below.
        signature = inspect.signature(function)
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    declared = list(signature.parameters.values())
    parameters: list[dict[str, Json]] = []
    problem = None
    if not declared or declared[0].kind not in by_position:
        problem = "its function takes no JobContext: the first parameter has to be the context"
    is_open = False
    for parameter in declared[1:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            problem = f"its parameter {parameter.name!r} is positional-only: parameters are passed by name"
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            parameters.append(_describe_parameter(parameter))
    return {"parameters": parameters, "open": is_open, "problem": problem}


def _describe_parameter(parameter: inspect.Parameter) -> dict[str, Json]:
    required = parameter.default is inspect.Parameter.empty
    kind, nullable = _kind(parameter.annotation)
    return {
        "name": parameter.name,
        "type": kind,
        "nullable": nullable or parameter.default is None,
        "required": required,
    }


def _kind(annotation: Any) -> tuple[str, bool]:
    """The name of a JSON type (``any`` for what is not one), and whether None is allowed beside it."""
    if isinstance(annotation, str):
        names = [part.strip().partition("[")[0] for part in annotation.split("|")]
        known = [name for name in names if name != "None"]
        return (_NAMES.get(known[0], "any") if len(known) == 1 else "any"), "None" in names
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = typing.get_args(annotation)
        known_types = [member for member in members if member is not types.NoneType]
        inner = _kind(known_types[0])[0] if len(known_types) == 1 else "any"
        return inner, types.NoneType in members
    return _TYPES.get(typing.get_origin(annotation) or annotation, "any"), False


def _plain(value: object) -> Json:
    return value if is_json(value) else repr(value)


if __name__ == "__main__":
    main()
