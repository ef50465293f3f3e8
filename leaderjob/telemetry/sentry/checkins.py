"""The check-ins of Sentry Crons: one for each run of a schedule, begun and ended.

Fires that were skipped or missed are told of nothing: that Sentry expects a check-in and gets none is what
a monitor is for.
"""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leaderjob.telemetry.events import Events

_IN_PROGRESS = "in_progress"
_PAUSE_S = 30.0
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


class Pace:
    """Sentry takes six check-ins of a monitor in a minute, and drops those that follow. A job that fails at
    once, and is tried again and again, must not use up what the end of its run needs."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[str, float]] = {}

    def allows(self, check_in: CheckIn, *, now_s: float) -> bool:
        """Whether to send it: any end, and that a run goes on, but the latter once in half a minute."""
        if check_in.status != _IN_PROGRESS:
            return True
        slug = check_in.monitor.slug
        run, began_s = self._began.get(slug, ("", -math.inf))
        if run == check_in.id and now_s - began_s < _PAUSE_S:
            return False
        self._began[slug] = (check_in.id, now_s)
        return True


def check_in_of(
    event: Events, fields: Mapping[str, Any], monitors: Mapping[str, Monitor], *, cluster: str
) -> CheckIn | None:
    """The check-in that ``event`` is; None if it is none.

    Each attempt says "in progress" again, which gives the run the monitor's time anew. Sentry takes no other
    ends than ``ok`` and ``error``: a timeout is an error ("timeout" is what it finds out by itself).

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
        return CheckIn(identity, monitor, _IN_PROGRESS)
    status = "ok" if str(fields["outcome"]) in _GOOD else "error"
    return CheckIn(identity, monitor, status, fields.get("seconds"))
