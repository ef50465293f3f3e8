"""The definition of a job, validated."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from leaderjob.model.record import Record
from leaderjob.names import Name


class Overlap(StrEnum):
    """What a fire does while the previous run of the job is active."""

    FORBID = "forbid"


class OnLeaderLoss(StrEnum):
    """What becomes of a run whose leader went away."""

    RESTART = "restart"
    ABANDON = "abandon"


class Policy(Record):
    timeout_s: float = 3600.0
    overlap: Overlap = Overlap.FORBID
    misfire_grace_s: float = 60.0
    retries: int = 0
    on_leader_loss: OnLeaderLoss = OnLeaderLoss.RESTART
    max_leader_losses: int = 3


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a job's function.

    :param type: ``str``, ``int``, ``float``, ``bool``, ``list``, ``dict`` or ``any``.
    :param nullable: None is allowed too.
    :param required: a run has to be given a value: neither the function nor the settings have one.
    """

    name: str
    type: str
    nullable: bool = False
    required: bool = False


class JobSpec(Record):
    """``jobs/<job>/spec``: the definition in force.

    :param reference: where the function is: ``jobs.search_index:search_index``.
    :param schedule: schedule expressions; empty means that the job only runs when triggered.
    :param params: values for the function's parameters.
    :param parameters: what the function takes beside the context; None: not known, an older release wrote this.
    :param open_params: whether it also takes parameters of any other name.
    :param has_query: whether published versions answer queries.
    :param schedule_error: why the job cannot fire by its schedule; it then only runs when triggered.
    :param overridden: what the dynamic configuration changes: ``schedule``, ``enabled``, ``timeout``, ``params``.
    :param enabled: False: the dynamic configuration keeps it from firing; ``schedule`` is empty then.
    :param removed: since when no replica has had the job; None: the definition is in force.
    """

    name: Name
    reference: str
    description: str = ""
    schedule: tuple[str, ...] = ()
    time_zone: str = "UTC"
    policy: Policy = Policy()
    params: dict[str, Any] = {}
    parameters: tuple[Parameter, ...] | None = None
    open_params: bool = False
    has_query: bool = False
    schedule_error: str | None = None
    overridden: tuple[str, ...] = ()
    enabled: bool = True
    removed: datetime | None = None
    token: int | None = None


class Timetable(Record):
    """``jobs/<job>/schedule``: the watermark (the last fire accounted for, never decreases).

    ``schedule`` and ``time_zone`` say which timetable it belongs to: another one starts with the present,
    and what was still due of the old one is recorded as missed.
    """

    watermark: datetime
    next_fire: datetime | None = None
    schedule: tuple[str, ...] = ()
    time_zone: str = "UTC"
