"""The check-ins of Sentry Crons: one for each run of a schedule, begun and ended.

Fires that were skipped or missed are told of nothing: that Sentry expects a check-in and gets none is what
a monitor is for.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leaderjob.telemetry.events import Events

_GOOD = frozenset({"succeeded", "superseded"})
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "leaderjob check-in")


@dataclass(frozen=True, slots=True)
class Monitor:
    """A job as Sentry watches it. :param config: in the form of its API; it is made, or changed, to that."""

    slug: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckIn:
    """:param duration_s: of the run; None while it goes on."""

    id: str
    monitor: Monitor
    status: str
    duration_s: float | None = None


def check_in_of(
    event: Events, fields: Mapping[str, Any], monitors: Mapping[str, Monitor], *, cluster: str
) -> CheckIn | None:
    """The check-in that ``event`` is; None if it is none.

    Each attempt says "in progress" again, which gives the run the monitor's time anew. Sentry knows no other
    ends than ``ok`` and ``error``: a timeout is an error.

    :param cluster: what no other cluster that reports to the same Sentry is called.
    """
    if event not in (Events.RUN_STARTED, Events.RUN_FINISHED) or fields.get("cause") != "schedule":
        return None
    monitor = monitors.get(fields["job"])
    if monitor is None:
        return None
    # The same for every leader: the check-in of a run that changes hands goes on.
    identity = uuid.uuid5(_SPACE, f"{cluster}/{fields['job']}/{fields['run']}").hex
    if event is Events.RUN_STARTED:
        return CheckIn(identity, monitor, "in_progress")
    status = "ok" if str(fields["outcome"]) in _GOOD else "error"
    return CheckIn(identity, monitor, status, fields.get("seconds"))
