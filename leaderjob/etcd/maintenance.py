"""How an etcd cluster is: each member's own word, and the alarms that are raised."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from leaderjob.etcd.client import Etcd
from leaderjob.etcd.connection import Connection
from leaderjob.etcd.errors import EtcdError, EtcdUnavailable
from leaderjob.etcd.rpc import rpc

DEFAULT_QUOTA_BYTES = 2 * 1024**3
"""etcd's own default of ``--quota-backend-bytes``."""
NEARLY_FULL = 0.8

_ALARMS = {1: "NOSPACE", 2: "CORRUPT"}


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What the member behind one endpoint says of itself.

    ``member`` and ``cluster`` are ids; ``leader`` is that of the member that leads, 0 where there is none; ``errors`` are the member's own
    words; ``quota_bytes`` is None before etcd 3.6, which is the first to tell.
    """

    endpoint: str
    member: int
    cluster: int
    version: str
    db_size_bytes: int
    db_in_use_bytes: int
    quota_bytes: int | None
    leader: int
    raft_term: int
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that a member raised: ``NOSPACE`` or ``CORRUPT``."""

    member: int
    kind: str


@dataclass(frozen=True, slots=True)
class Health:
    """An etcd cluster at a glance. ``silent`` maps the endpoints that do not answer to why.

    ``unknown`` says what etcd would not tell, and why: a user may well be without that permission.
    ``removed`` has the ids of those that answer and that the cluster has no longer.
    """

    endpoints: tuple[EndpointStatus, ...]
    silent: dict[str, str]
    alarms: tuple[Alarm, ...]
    unknown: str | None
    removed: frozenset[int] = frozenset()

    def warnings(self) -> Iterator[str]:
        """What somebody should look after, a sentence each, the worst first."""
        names = {status.member: status.endpoint for status in self.endpoints}
        full = {alarm.member for alarm in self.alarms if alarm.kind == "NOSPACE"}
        for alarm in self.alarms:
            yield _meaning(alarm, names.get(alarm.member, f"member {alarm.member:x}"))
        for endpoint, reason in self.silent.items():
            yield f"etcd at {endpoint} does not answer: {reason}"
        for status in self.endpoints:
            if status.member in self.removed:
                yield (
                    f"etcd at {status.endpoint} is a member that was removed from the cluster (id {status.member:x}), and "
                    "does not know it yet: name the one that took its place in etcd.endpoints, and end it"
                )
                continue
            # An alarm is among the errors too, in etcd's own words.
            for error in status.errors:
                if not error.startswith("memberID:"):
                    yield f"etcd at {status.endpoint} reports: {error}"
            if status.member not in full:  # that it is nearly full goes without saying
                yield from _fullness(status)


async def endpoint_status(connection: Connection) -> EndpointStatus:
    """The status of the member behind the current endpoint: give a connection that has one only.

    :raises EtcdUnavailable: it does not answer. :raises RequestRefused: it will not tell this user.
    """
    response = await connection.call(
        lambda stubs: stubs.maintenance.Status, rpc.StatusRequest(), repeatable=True, linearizable=False
    )
    in_use = _numbered(response, "dbSizeInUse", 9)
    quota = _numbered(response, "dbSizeQuota", 12)
    errors = _numbered(response, "errors", 8)
    return EndpointStatus(
        endpoint=connection.endpoint,
        member=response.header.member_id,
        cluster=response.header.cluster_id,
        version=response.version,
        db_size_bytes=response.dbSize,
        db_in_use_bytes=in_use[0] if in_use else response.dbSize,
        quota_bytes=quota[0] if quota and quota[0] > 0 else None,
        leader=response.leader,
        raft_term=response.raftTerm,
        errors=tuple(text.decode() if isinstance(text, bytes) else str(text) for text in errors),
    )


async def alarms(connection: Connection) -> tuple[Alarm, ...]:
    """The alarms that are raised now, by whichever member.

    Give a connection that is used for nothing else: etcd 3.4 answers without the id of its cluster, which
    beside any other answer looks like another cluster.

    :raises EtcdUnavailable: nobody answers. :raises RequestRefused: this user is not told.
    """
    request = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
    response = await connection.call(
        lambda stubs: stubs.maintenance.Alarm, request, repeatable=True, linearizable=False
    )
    return tuple(
        Alarm(raised.memberID, _ALARMS.get(raised.alarm, f"alarm {raised.alarm}"))
        for raised in response.alarms
    )


async def member_ids(connection: Connection) -> frozenset[int]:
    """The members, as the one behind the current endpoint knows them.

    :raises EtcdUnavailable: it does not answer. :raises RequestRefused: it will not tell this user.
    """
    response = await connection.call(
        lambda stubs: stubs.cluster.MemberList, rpc.MemberListRequest(), repeatable=True, linearizable=False
    )
    return frozenset(member.ID for member in response.members)


async def check_health(connect: Callable[[Sequence[str]], Etcd], endpoints: Sequence[str]) -> Health:
    """Ask every endpoint, side by side. What cannot be told is noted; nothing is raised.

    :param connect: a client for some of the endpoints, with a short deadline.
    """

    async def ask(endpoint: str) -> EndpointStatus | EtcdError:
        async with connect([endpoint]) as member:
            try:
                return await endpoint_status(member.connection)
            except EtcdError as error:
                return error

    answers = await asyncio.gather(*map(ask, endpoints))
    silent = {
        endpoint: answer.detail
        for endpoint, answer in zip(endpoints, answers, strict=True)
        if isinstance(answer, EtcdUnavailable)
    }
    untold = [str(answer) for answer in answers if not isinstance(answer, EndpointStatus | EtcdUnavailable)]
    raised: tuple[Alarm, ...] = ()
    async with connect(endpoints) as cluster:
        try:
            raised = await alarms(cluster.connection)
        except EtcdError as error:
            untold.append(str(error))
    told = tuple(answer for answer in answers if isinstance(answer, EndpointStatus))
    removed = frozenset[int]()
    try:
        removed = await _removed(connect, told)
    except EtcdError as error:
        untold.append(str(error))
    return Health(
        endpoints=told,
        silent=silent,
        alarms=raised,
        unknown="; ".join(dict.fromkeys(untold)) or None,
        removed=removed,
    )


async def _removed(
    connect: Callable[[Sequence[str]], Etcd], told: Sequence[EndpointStatus]
) -> frozenset[int]:
    """The members that were removed, and could not be told. Such a one has no leader, but takes itself for a member: only
    those of its cluster that have a leader know better.

    :raises EtcdError: they would not tell.
    """
    removed = frozenset[int]()
    for cluster in {status.cluster for status in told if not status.leader}:
        members = [status for status in told if status.cluster == cluster]
        led = [status.endpoint for status in members if status.leader]
        if led:
            async with connect(led) as known:
                ids = await member_ids(known.connection)
            removed |= {status.member for status in members if not status.leader} - ids
    return removed


def _meaning(alarm: Alarm, where: str) -> str:
    if alarm.kind == "NOSPACE":
        return (
            f"etcd's database has reached its quota (alarm NOSPACE of {where}): it refuses writes, so no run "
            "starts and nothing is published. Compact and defragment it, then disarm the alarm: "
            "etcdctl compact, etcdctl defrag, etcdctl alarm disarm"
        )
    if alarm.kind == "CORRUPT":
        return (
            f"etcd found that members differ (alarm CORRUPT of {where}): do not trust what it holds. Find out "
            "which member is wrong and replace it: etcdctl endpoint hashkv"
        )
    return f"etcd has raised {alarm.kind} of {where}: etcdctl alarm list"


def _fullness(status: EndpointStatus) -> Iterator[str]:
    quota_bytes = status.quota_bytes or DEFAULT_QUOTA_BYTES
    if status.db_size_bytes >= NEARLY_FULL * quota_bytes:
        assumed = "" if status.quota_bytes else " if that is the default, which etcd before 3.6 does not tell"
        yield (
            f"etcd's database at {status.endpoint} has {_gib(status.db_size_bytes)} "
            f"({_gib(status.db_in_use_bytes)} in use); at its quota, {_gib(quota_bytes)}{assumed}, it refuses "
            "writes. Compact and defragment it (etcdctl compact, etcdctl defrag), or raise --quota-backend-bytes"
        )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB"


def _numbered(message: Any, name: str, number: int) -> list[Any]:
    """The values of a field that the generated messages may be too old to have: protobuf keeps, by their
    number, the fields that it cannot name."""
    if name in message.DESCRIPTOR.fields_by_name:
        value = getattr(message, name)
        return [value] if isinstance(value, int | str) else list(value)
    return [field.data for field in UnknownFieldSet(message) if field.field_number == number]
