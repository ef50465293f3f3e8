"""What a replica asks of etcd when it starts: is its id free, is its TTL granted, do its overrides fit the jobs."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from leaderjob.cluster.identity import DuplicateReplica, Identity
from leaderjob.cluster.preflight import refuse_short_ttl
from leaderjob.connecting import connect
from leaderjob.doctor.verdict import Finding, ok, problem, warning
from leaderjob.engine.overrides import written_overrides
from leaderjob.errors import LeaderjobError, SettingsError
from leaderjob.etcd import Etcd
from leaderjob.model.ids import new_incarnation
from leaderjob.records.keys import Keys
from leaderjob.settings import Settings

_TIMEOUT_S = 2.0


async def check_replica(settings: Settings) -> tuple[list[Finding], Mapping[str, Any]]:
    """The findings, and the overrides of jobs. Both are empty where etcd does not answer, which is said elsewhere.

    :param settings: with an endpoint at least.
    """
    try:
        async with connect(settings.etcd, call_timeout_s=_TIMEOUT_S) as etcd:
            findings = [await _id(etcd, settings), *await _ttl(etcd, settings)]
            overrides = await _overrides(etcd, settings)
    except LeaderjobError:
        return [], {}
    if isinstance(overrides, Finding):
        return [*findings, overrides], {}
    return findings, overrides


async def _id(etcd: Etcd, settings: Settings) -> Finding:
    replica = settings.replica.id
    key = Keys(settings.etcd.namespace).member(replica)
    identity = Identity(etcd, key, new_incarnation(), settings.state_dir)
    with suppress(OSError):  # what is wrong with the directory is said where that is checked
        identity.read_former()
    try:
        doubted = await identity.doubted()
    except DuplicateReplica as error:
        remedy = "if it is the one that you ask about, it runs: 'leaderjob status' shows how it does"
        return problem("id", str(error), remedy)
    if doubted is not None:
        found = (
            f"{replica!r} was last used on host {doubted.host} with pid {doubted.pid}, which does not answer"
        )
        return warning(
            "id", found, "a start waits until its lease has run out; if it does not, that one lives"
        )
    return ok("id", f"{replica!r} is free")


async def _ttl(etcd: Etcd, settings: Settings) -> list[Finding]:
    try:
        await refuse_short_ttl(etcd, settings.election.ttl)
    except SettingsError as error:
        return [problem("ttl", str(error), "set election.ttl as it says")]
    return []


async def _overrides(etcd: Etcd, settings: Settings) -> Mapping[str, Any] | Finding:
    """As they were written, by job."""
    remedy = "'leaderjob config history' and 'leaderjob config rollback' go back to what was valid"
    try:
        jobs = (await written_overrides(etcd, settings.etcd.namespace).values()).get("jobs", {})
    except LeaderjobError as error:
        return problem("overrides", str(error), remedy)
    return jobs if isinstance(jobs, Mapping) else problem("overrides", "'jobs' is not a table", remedy)
