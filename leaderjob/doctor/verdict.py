"""What a check finds."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """:param subject: what was looked at. :param found: a sentence. :param remedy: what to do; None: nothing."""

    subject: str
    verdict: Verdict
    found: str
    remedy: str | None = None


def ok(subject: str, found: str) -> Finding:
    return Finding(subject, Verdict.OK, found)


def warning(subject: str, found: str, remedy: str) -> Finding:
    return Finding(subject, Verdict.WARNING, found, remedy)


def problem(subject: str, found: str, remedy: str) -> Finding:
    return Finding(subject, Verdict.PROBLEM, found, remedy)
