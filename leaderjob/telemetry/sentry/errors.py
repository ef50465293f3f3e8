"""Events that become errors in Sentry, in the form of its API."""

import logging
from collections.abc import Mapping
from typing import Any

from leaderjob.telemetry.events import Events
from leaderjob.telemetry.trace import Frame, Raised, Trace

_TAGS = ("job", "run", "term", "attempt", "outcome", "part", "module", "version")
_GROUPED_BY = ("job", "part", "module", "outcome")
_TAG_LIMIT_CHARS = 200


def error_of(event: Events, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """The error that ``event`` is; None if it is none.

    One that comes with a traceback is an exception; any other is a message. Errors of one kind and one job
    are one issue.
    """
    if event.level < logging.ERROR:
        return None
    name = event.name.lower()
    trace = _trace(fields)
    exceptions = trace.exceptions if isinstance(trace, Trace) else ()
    grouped = [f"{field}={fields[field]}" for field in _GROUPED_BY if field in fields]
    error: dict[str, Any] = {
        "level": "error",
        "logger": "leaderjob",
        "tags": {"event": name}
        | {field: str(fields[field])[:_TAG_LIMIT_CHARS] for field in _TAGS if field in fields},
        "extra": {
            field: str(value) for field, value in fields.items() if field not in _TAGS and field != "trace"
        },
    }
    if trace is not None:
        error["extra"]["traceback"] = str(trace)
    if exceptions:
        error["exception"] = {"values": [_exception(raised) for raised in exceptions]}
        error["fingerprint"] = ["{{ default }}", name, *grouped]
    else:
        error["message"] = f"{name}: {fields.get('reason', event.meaning)}"
        error["fingerprint"] = [name, *grouped]
    return error


def _trace(fields: Mapping[str, Any]) -> str | None:
    trace, reason = fields.get("trace"), fields.get("reason")
    if trace is None and isinstance(reason, BaseException):
        return Trace.of(reason)
    return trace


def _exception(raised: Raised) -> dict[str, Any]:
    exception: dict[str, Any] = {"type": raised.type, "module": raised.module, "value": raised.message}
    if raised.frames:
        exception["stacktrace"] = {"frames": [_frame(frame) for frame in raised.frames]}
    return exception


def _frame(frame: Frame) -> dict[str, Any]:
    return {
        "filename": frame.file,
        "abs_path": frame.file,
        "lineno": frame.line,
        "function": frame.function,
        "module": frame.module or None,
        "context_line": frame.code,
    }
