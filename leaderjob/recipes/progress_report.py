"""What is reported of a progress, and how it is kept in etcd."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from leaderjob.errors import SettingsError
from leaderjob.etcd import KeyValue
from leaderjob.recipes.record import decode, encode
from leaderjob.telemetry.events import Events, emit


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
    """``percent`` itself. :raises SettingsError: it is none."""
    if not (math.isfinite(percent) and 0 <= percent <= 100):
        raise SettingsError(f"{percent} %: a percentage is a number from 0 to 100")
    return percent


def encode_report(percent: float, message: str, state: ProgressState, by: str, *, on_lease: bool) -> bytes:
    """:param by: a random id of who reports. :param on_lease: whether its reporter has a key, on its lease."""
    return encode(percent=percent, message=message, state=state, by=by, on_lease=on_lease)


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
        state = ProgressState(record["state"])
    except ValueError:
        emit(Events.RECORD_QUARANTINED, key=latest.key, reason=f"there is no state {record['state']!r}")
        return None
    if state is ProgressState.RUNNING and record["on_lease"] and "reporter" not in keys:
        return Report(record["percent"], record["message"], ProgressState.LOST, revision)
    return Report(record["percent"], record["message"], state, latest.mod_revision)
