"""Events as replicas told them, in their JSON logs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Told:
    """:param event: as in ``telemetry/events.py``, in lower case. :param at: ``CLOCK_BOOTTIME`` in seconds.
    :param process: which process of the replica: 1 for the first that was started, and so on."""

    replica: str
    event: str
    at: float
    process: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)

    def has(self, **fields: Any) -> bool:
        """Whether the event has these fields with these values."""
        return all(self.fields.get(name) == value for name, value in fields.items())


_OF_EVERY_LINE = ("time", "level", "replica", "namespace", "event", "boottime_s")


def read_log(replica: str, path: Path) -> tuple[Told, ...]:
    """The events in a replica's log: those of one process after the other, as it was started again.

    What is no event is left out: a traceback, or a last line that a killed process did not bring to its end.
    :raises ValueError: an event does not say when it happened, by the clock that all processes share.
    """
    found: list[Told] = []
    process = 0
    for line in path.read_text(errors="replace").splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if not isinstance(fields, dict) or "event" not in fields:
            continue
        if "boottime_s" not in fields:
            raise ValueError(f"{path}: an event without a boot time: {line}")
        process += fields["event"] == "replica_started"
        more = {name: value for name, value in fields.items() if name not in _OF_EVERY_LINE}
        found.append(Told(replica, fields["event"], fields["boottime_s"], max(process, 1), more))
    return tuple(found)
