"""What is different for a job from what its module and the replica's settings say, while replicas run.

A configuration in etcd, so that all replicas agree, whoever leads: ``leaderjob config set jobs.<job>.schedule …``.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from leaderjob.errors import NotFound, SettingsError
from leaderjob.etcd import Etcd
from leaderjob.names import Name
from leaderjob.recipes import ConfigStore
from leaderjob.records.keys import Keys, Kind
from leaderjob.scheduling.triggers import parse_schedule
from leaderjob.settings.values import ONE_OR_SEVERAL, Seconds

STORE = "leaderjob"
"""The name of the configuration: its keys are below ``config/leaderjob/``."""


class JobOverride(BaseModel):
    """What is different for one job. What is not set stays as the module and the settings have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Annotated[tuple[str, ...], ONE_OR_SEVERAL] | None = None
    """The schedule; an empty one means that it only runs when triggered."""
    enabled: bool = True
    """Whether it fires by its schedule. A job that is not enabled runs only when triggered."""
    timeout: Annotated[Seconds, Field(gt=0)] | None = None
    """How long one attempt may take."""
    params: dict[str, Any] = {}
    """Values for the job's parameters, each over the one that it has."""

    @field_validator("schedule")
    @classmethod
    def _can_be_parsed(cls, schedule: tuple[str, ...] | None) -> tuple[str, ...] | None:
        try:
            parse_schedule(schedule or (), job="it")
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return schedule


class Overrides(BaseModel):
    """All jobs' overrides, by their names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs: dict[Name, JobOverride] = {}


def overrides_in(etcd: Etcd, namespace: str) -> ConfigStore[Overrides]:
    """Where the overrides of a namespace are kept."""
    return ConfigStore(etcd, Overrides, STORE, namespace=namespace)


async def check_jobs(etcd: Etcd, namespace: str, path: Sequence[str], value: Any) -> None:
    """Whether the jobs that are to be changed are known: those that a leader has announced.

    :param path: of what is to be set to ``value``. :raises NotFound: one is not; which one is nearest.
    """
    named = path[1:2] or (value if isinstance(value, Mapping) else ())
    if path[0] != "jobs" or not named:
        return
    keys = Keys(namespace)
    places = [keys.locate(kv.key) for kv in (await etcd.range(f"{keys.root}jobs/")).kvs]
    known = sorted(place.names[0] for place in places if place is not None and place.kind is Kind.SPEC)
    for job in named:
        if job not in known:
            near = difflib.get_close_matches(job, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            if not known:
                hint = "none is known yet: a leader announces its jobs when it is elected"
            raise NotFound(f"no job is called {job!r}: {hint}; nothing was changed")
