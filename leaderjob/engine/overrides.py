"""What is different for a job from what its module and the replica's settings say, while replicas run.

A configuration in etcd, so that all replicas agree, whoever leads: ``leaderjob config set jobs.<job>.schedule …``.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from leaderjob.engine.definition import DynamicOverride, check_override
from leaderjob.errors import LeaderjobError, NotFound, SettingsError
from leaderjob.etcd import Etcd
from leaderjob.model.job import JobSpec
from leaderjob.names import Name
from leaderjob.recipes import ConfigStore
from leaderjob.recipes.config import Check
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import decode

_FORCE = "--force sets it all the same"

STORE = "leaderjob"
"""The name of the configuration: its keys are below ``config/leaderjob/``."""


class Overrides(BaseModel):
    """All jobs' overrides, by their names, as a command may set them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs: dict[Name, DynamicOverride] = {}


class WrittenOverrides(BaseModel):
    """The same as a leader reads it: whatever was written for one job is looked at alone, and spoils no other."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    jobs: dict[str, Any] = {}


def overrides_in(etcd: Etcd, namespace: str, *, check: Check | None = None) -> ConfigStore[Overrides]:
    """Where the overrides of a namespace are kept. :param check: such as that by :func:`checked_against`."""
    return ConfigStore(etcd, Overrides, STORE, namespace=namespace, check=check)


def written_overrides(etcd: Etcd, namespace: str) -> ConfigStore[WrittenOverrides]:
    """The same configuration, to be read."""
    return ConfigStore(etcd, WrittenOverrides, STORE, namespace=namespace)


async def definitions_in_force(etcd: Etcd, namespace: str) -> dict[str, JobSpec | None]:
    """What a leader has announced, by job. None: it cannot be read, as it is of a newer release or damaged."""
    keys = Keys(namespace)
    found: dict[str, JobSpec | None] = {}
    for kv in (await etcd.range(f"{keys.root}jobs/")).kvs:
        place = keys.locate(kv.key)
        if place is None or place.kind is not Kind.SPEC:
            continue
        try:
            spec = decode(Kind.SPEC, kv).record
        except LeaderjobError:
            spec = None
        if not isinstance(spec, JobSpec):
            found[place.names[0]] = None
        elif spec.removed is None:
            found[spec.name] = spec
    return found


def checked_against(definitions: Mapping[str, JobSpec | None]) -> Check:
    """Each override that a change adds or alters has to fit the definition in force of its job."""

    def check(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        former = before.get("jobs")
        for job, override in after.get("jobs", {}).items():
            if not isinstance(former, Mapping) or former.get(job) != override:
                _check_one(definitions, job, override)

    return check


def _check_one(definitions: Mapping[str, JobSpec | None], job: str, override: Mapping[str, Any]) -> None:
    """:raises NotFound: no such job is known. :raises SettingsError: the override does not fit it."""
    if job not in definitions:
        near = difflib.get_close_matches(job, definitions, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(definitions))}"
        if not definitions:
            hint = "none is known yet: a leader announces its jobs when it is elected"
        raise NotFound(f"no job is called {job!r}: {hint}; nothing was changed. {_FORCE}")
    spec = definitions[job]
    if spec is None:
        raise SettingsError(
            f"the definition of job {job!r} cannot be read by this release; nothing was changed. {_FORCE}"
        )
    try:
        check_override(spec, override)
    except SettingsError as error:
        raise SettingsError(f"{error}; nothing was changed. {_FORCE}") from error
