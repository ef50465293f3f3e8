"""What an exception was made of, as JSON: what a traceback says, for programs.

It needs the standard library only: a worker describes its job's exceptions with it. The one that was raised
comes last; before it come its causes, each as
``{"type", "module", "message", "frames": [{"file", "line", "function", "module", "code"}]}``.
Frames are in the order of the calls.
"""

import linecache
import traceback
from types import FrameType, TracebackType

from leaderjob.errors import printable
from leaderjob.sdk import Json

_CHAIN_LIMIT = 8
_FIRST_FRAMES, _LAST_FRAMES = 15, 35
_MESSAGE_LIMIT_CHARS = 4096
_FILE_LIMIT_CHARS = 1024
_BRIEF_LIMIT_CHARS = 256
"""Together they keep 8 exceptions of 50 frames within what a worker's message may have."""


def describe(error: BaseException, frames: TracebackType | None) -> list[Json]:
    """``error`` and its causes. A group of one, as a TaskGroup makes them, is told as that one.

    :param frames: those of ``error`` that are to be told; any other exception has all its own.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
        frames = error.__traceback__
    described: list[Json] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(described) < _CHAIN_LIMIT:
        seen.add(id(current))
        described.append(_one(current, frames if current is error else current.__traceback__))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return described[::-1]


def message_of(error: BaseException) -> str:
    """``str(error)``, printable; an exception may be of a class whose own ``__str__`` fails."""
    try:
        return printable(str(error))
    except BaseException:  # noqa: BLE001 - the author's code may raise anything here, too
        return "<its message cannot be shown: __str__ failed>"


def name_of(error: BaseException) -> str:
    """The name of its class, printable and at most 256 characters long; a metaclass may give any, or fail."""
    try:
        return _brief(type(error).__name__)
    except BaseException:  # noqa: BLE001 - as above
        return "an exception whose class has no name"


def _one(error: BaseException, frames: TracebackType | None) -> dict[str, Json]:
    walked = list(traceback.walk_tb(frames))
    if len(walked) > _FIRST_FRAMES + _LAST_FRAMES:
        walked = walked[:_FIRST_FRAMES] + walked[-_LAST_FRAMES:]
    kind = type(error)
    return {
        "type": _brief(kind.__qualname__),
        "module": _brief(kind.__module__),
        "message": message_of(error)[:_MESSAGE_LIMIT_CHARS],
        "frames": [_frame(frame, line) for frame, line in walked],
    }


def _frame(frame: FrameType, line: int) -> dict[str, Json]:
    code = frame.f_code
    text = linecache.getline(code.co_filename, line, frame.f_globals)
    return {
        "file": printable(code.co_filename)[:_FILE_LIMIT_CHARS],
        "line": line,
        "function": _brief(code.co_qualname),
        "module": _brief(frame.f_globals.get("__name__", "")),
        "code": _brief(text.rstrip()),
    }


def _brief(text: object) -> str:
    return printable(str(text))[:_BRIEF_LIMIT_CHARS]
