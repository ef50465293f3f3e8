"""The root of every error that leaderjob raises.

Each error says what happened, what it means and what to do. The class carries the exit code that
the command line ends with, so that scripts can tell the cases apart:
0 done, 1 the thing asked for failed, 2 wrong usage or settings, 3 etcd not reachable,
4 not acquired or not found.
"""

from typing import ClassVar


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
    """A duration is neither a number of seconds nor a number with a unit."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not a duration: write seconds (10) or a unit (250ms, 10s, 5m, 2h, 1d)")


class InvalidSchedule(SettingsError):
    """A schedule cannot be parsed; the message points at the field that is wrong."""
