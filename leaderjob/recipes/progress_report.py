"""What is reported of a progress, and how it is kept in etcd."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from leaderjob.errors import SettingsError
from leaderjob.etcd import KeyValue, ValueTooLarge
from leaderjob.etcd.txn import MAX_REQUEST_BYTES
from leaderjob.recipes.record import decode, encode
from leaderjob.telemetry.events import Events, emit

_MAX_BYTES = MAX_REQUEST_BYTES - 4096
"""With some room for the rest of the transaction."""


class ProgressState(StrEnum):
    """How it stands. All but ``RUNNING`` are the end."""

    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    LOST = "lost"
    """Its reporter died, or its lease is gone; nobody knows how far the work itself came. Never written: it is what a
    report that goes on means once its reporter's key is gone."""


@dataclass(frozen=True, slots=True)
class Report:
    """:param percent: 0 to 100. :param revision: at which it was written, or its reporter was seen to be gone."""

    percent: float
    message: str
    state: ProgressState
    revision: int

    @property
    def is_end(self) -> bool:
        return self.state is not ProgressState.RUNNING


def checked(percent: float) -> float:
    """``percent`` as one of Python's own numbers. :raises SettingsError: it is none."""
    try:
        number = percent if isinstance(percent, int) else float(percent)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and 0 <= number <= 100):
        raise SettingsError(f"{percent} %: a percentage is a number from 0 to 100")
    return number


def encode_report(percent: float, message: str, state: ProgressState, by: str, *, on_lease: bool) -> bytes:
    """:param by: a random id of who reports. :param on_lease: whether its reporter has a key, on its lease.

    :raises SettingsError: the message is no text. :raises ValueTooLarge: it is longer than etcd takes.
    """
    if not isinstance(message, str):
        raise SettingsError(f"{message!r}: the message of a report is a text")
    value = encode(percent=percent, message=message, state=state, by=by, on_lease=on_lease)
    if len(value) > _MAX_BYTES:
        raise ValueTooLarge("a report", len(value), _MAX_BYTES, "bytes")
    return value


def read_report(keys: Mapping[str, KeyValue], revision: int) -> Report | None:
    """What the keys ``latest`` and ``reporter`` say; None where there is no report, or none of ours."""
    latest = keys.get("latest")
    record = (
        None
        if latest is None
        else decode(latest, percent=(int, float), message=str, state=str, on_lease=bool)
    )
    if latest is None or record is None:
        return None
    try:
        state, percent = ProgressState(record["state"]), checked(record["percent"])
    except (ValueError, SettingsError) as error:
        emit(Events.RECORD_QUARANTINED, key=latest.key, reason=error)
        return None
    if state is ProgressState.RUNNING and record["on_lease"] and "reporter" not in keys:
        return Report(percent, record["message"], ProgressState.LOST, revision)
    return Report(percent, record["message"], state, latest.mod_revision)
