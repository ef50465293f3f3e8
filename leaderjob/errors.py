"""The root of every error that leaderjob raises.

Each error says what happened, what it means and what to do. The class carries the exit code that
the command line ends with, so that scripts can tell the cases apart:
0 done, 1 the thing asked for failed, 2 wrong usage or settings, 3 etcd not reachable,
4 not acquired or not found.
"""

from typing import ClassVar

_SHOWN_CHARS = 100


def shown(value: object) -> str:
    """``value`` for a message: printable, and at most about a hundred characters; text is in quotes."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]!r}…"
    # Python refuses to print the longest numbers, and a deep list may exhaust the stack.
    if (
        value is None
        or isinstance(value, float)
        or (isinstance(value, int) and abs(value) < 10**_SHOWN_CHARS)
    ):
        return str(value)
    return f"a value of type {type(value).__name__}"


def printable(text: str) -> str:
    """``text`` with unpaired surrogates escaped, so that it can be stored and printed."""
    return str.encode(text, "utf-8", "backslashreplace").decode()  # whatever a subclass makes of encode()


def is_text(value: object) -> bool:
    """Whether ``value`` is text without unpaired surrogates."""
    return isinstance(value, str) and value == printable(value)


class LeaderjobError(Exception):
    """The thing asked for failed."""

    exit_code: ClassVar[int] = 1


class SettingsError(LeaderjobError):
    """A setting, a flag or a job definition is wrong; the message names the field."""

    exit_code = 2


class NotFound(LeaderjobError):
    """What was asked for does not exist (a job, a run, a published version, a replica)."""

    exit_code = 4


class InvalidName(SettingsError):
    """A name does not match ``[a-z0-9][a-z0-9._-]*`` (at most 120 characters)."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"{kind} {name!r} is not a valid name: use lower-case letters, digits, '.', '_' and '-', "
            "begin with a letter or digit, at most 120 characters"
        )


class InvalidDuration(SettingsError):
    """A duration is neither a number of seconds nor a number with a unit, or it is out of range."""

    def __init__(self, value: object) -> None:
        super().__init__(
            f"{shown(value)} is not a duration: write seconds (10) or a unit (250ms, 10s, 5m, 2h, 1d), at most 36500d"
        )


class InvalidSchedule(SettingsError):
    """A schedule cannot be parsed; the message points at the field that is wrong."""
