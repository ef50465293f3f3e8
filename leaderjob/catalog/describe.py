"""Entry point of the child that describes one module: ``python -m leaderjob.catalog.describe MODULE``.

Prints one JSON document on what was its standard output: ``{"file", "jobs": […]}``, or
``{"missing": SENTENCE}`` where there is no such module, or ``{"reason", "traceback", "exceptions"}`` where its own
import failed. What the module itself prints goes to standard error.
"""

import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from leaderjob.errors import printable
from leaderjob.json_text import encode, is_json
from leaderjob.modules import ModuleMissing, load_jobs, own_trace, program_arguments
from leaderjob.sdk import Job, Json
from leaderjob.telemetry.raised import message_of

DOCUMENT_LIMIT_BYTES = 16 * 1024 * 1024
PLAIN_LIMIT_BYTES = 16 * 1024

_TYPES = {str: "str", int: "int", float: "float", bool: "bool", list: "list", dict: "dict"}
_NAMES = {kind.__name__: name for kind, name in _TYPES.items()}


def main() -> None:
    document = os.dup(1)
    os.dup2(2, 1)
    module, sys.argv = sys.argv[1], [sys.argv[1]]
    with os.fdopen(document, "wb") as out:
        out.write(encode(describe_module(module), DOCUMENT_LIMIT_BYTES))


def describe_module(module: str) -> dict[str, Json]:
    """The document for one module; never raises what the module raises."""
    try:
        sys.argv = program_arguments(module)
        jobs = [_describe_safely(module, job) for job in load_jobs(module)]
    except ModuleMissing as error:
        return {"missing": str(error)}
    except BaseException as error:  # noqa: BLE001 - the author's code may raise anything: it is reported
        reason = f"{type(error).__name__}: {message_of(error)}".removesuffix(": ")
        return {"reason": reason, **own_trace(error)}
    return {"jobs": jobs}


def describe_job(module: str, job: Job) -> dict[str, Json]:
    """One job as its author wrote it; nothing is validated here.

    Values that JSON does not know become text, so that whoever validates can name them.
    """
    described = _describe_options(module, job)
    problem = job.problem or _unusable(job.function)
    if problem is not None:
        return {**described, "parameters": [], "open": False, "problem": problem}
    return {**described, **describe_parameters(job.function)}


def _describe_safely(module: str, job: Job) -> dict[str, Json]:
    """A job whose function is of a class that fails when it is looked at costs itself, not its module."""
    try:
        return describe_job(module, job)
    except Exception as error:  # noqa: BLE001 - the author's classes may raise anything
        problem = f"its function cannot be examined: {type(error).__name__}: {message_of(error)}"
        return {**_describe_options(module, job), "parameters": [], "open": False, "problem": problem}


def _describe_options(module: str, job: Job) -> dict[str, Json]:
    return {
        "options": {option.name: _plain(getattr(job.options, option.name)) for option in fields(job.options)},
        "reference": f"{module}:{_plain(job.options.name)}",
        "file": _file_of(job.function) or (sys.argv[0] if sys.argv else ""),
        "has_query": job.opener is not None,
    }


def _file_of(function: Callable[..., Any]) -> str | None:
    try:
        return inspect.getsourcefile(inspect.unwrap(function))
    except Exception:  # noqa: BLE001 - a callable object, a partial, or one that pretends to be something else
        return None


def _unusable(function: Callable[..., Any]) -> str | None:
    """Why a callable of that kind cannot be a job, however it is called."""
    if inspect.isclass(function):
        return f"{function.__name__} is a class: decorate a function, or pass an instance that can be called"
    call = function
    while isinstance(call, functools.partial):
        call = call.func
    if not (inspect.isroutine(call) or inspect.isclass(call)):
        call = type(call).__call__
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        return "its function is a generator, whose code runs only where somebody iterates over it: use no 'yield'"
    return None


def describe_parameters(function: Callable[..., Any]) -> dict[str, Json]:
    """``parameters`` after the context, whether the function is ``open`` to others (``**options``), and
    the ``problem`` that makes it unusable as a job, if there is one."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except Exception:  # noqa: BLE001 - annotations may be any text
        # Those that only a type checker can resolve: plain names are still understood below.
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            unknown = f"its parameters are not known ({error}): call it from a function of your own"
            return {"parameters": [], "open": False, "problem": unknown}
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
    if is_json(value, PLAIN_LIMIT_BYTES):
        return value
    try:
        return printable(repr(value))[:PLAIN_LIMIT_BYTES]
    except Exception:  # noqa: BLE001 - the author's classes may raise anything
        return f"<{type(value).__name__}>"


if __name__ == "__main__":
    main()
