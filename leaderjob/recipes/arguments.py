"""What callers hand in, where its type is no more than asked for by an annotation: checked before anything is sent."""

import math

from leaderjob.errors import SettingsError


def is_number(value: object) -> bool:
    """Whether it can be compared as a number; "not a number" cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def check_count(what: str, count: int, unit: str) -> None:
    """:param unit: what is counted. :raises SettingsError: it is no whole number, or less than one."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise SettingsError(f"{what}: {count!r} {unit}: a whole number, of one at least")


def check_wait_s(wait_s: float | None) -> None:
    """:raises SettingsError: it is neither None nor a number of seconds, or negative."""
    if wait_s is not None and not (is_number(wait_s) and wait_s >= 0):
        raise SettingsError(f"wait_s {wait_s!r}: a time to wait is a number of seconds, and not negative")


def check_text(what: str, text: str) -> None:
    """:raises SettingsError: it is none."""
    if not isinstance(text, str):
        raise SettingsError(
            f"{what} is of type {type(text).__name__}, and has to be a text; nothing was sent"
        )
