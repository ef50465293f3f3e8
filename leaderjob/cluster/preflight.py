"""Whether an etcd is one that a replica can work with: of what release, and what we may do there."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from leaderjob.errors import SettingsError
from leaderjob.etcd import Compare, Delete, Etcd, NoSpace, modified_at
from leaderjob.etcd.maintenance import check_health
from leaderjob.records.keys import Keys
from leaderjob.telemetry.events import Events, emit

OLDEST_RELEASE = (3, 4)
_LOSING_DATA = ((3, 5, 0), (3, 5, 2))
UPGRADE = "upgrade it to the newest release of 3.5, 3.6 or 3.7"


def is_too_old(version: str) -> bool:
    """Whether a version such as ``3.4.23`` is older than what leaderjob needs."""
    return _numbers(version)[:2] < OLDEST_RELEASE


def loses_data(version: str) -> bool:
    """Whether this is one of the releases whose members, if killed under load, may come back with other data than the
    rest of the cluster: those from 3.5.0 to 3.5.2."""
    oldest, newest = _LOSING_DATA
    return oldest <= _numbers(version)[:3] <= newest


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


async def check_releases(connect: Callable[[Sequence[str]], Etcd], endpoints: Sequence[str]) -> None:
    """Refuse an etcd that is too old, and warn of one that is known to lose data.

    Every member that answers is asked: each of them may be the one that is used.

    :param connect: a client for some of the endpoints.
    :raises SettingsError: an etcd is older than 3.4.
    """
    for status in (await check_health(connect, endpoints)).endpoints:
        if is_too_old(status.version):
            raise SettingsError(
                f"etcd at {status.endpoint} is of release {status.version}, and leaderjob needs 3.4 or newer: it relies "
                "on progress notifications of watches and on leases as they are since then. Upgrade etcd"
            )
        if loses_data(status.version):
            emit(Events.ETCD_LOSES_DATA, endpoint=status.endpoint, version=status.version, remedy=UPGRADE)


async def refuse_without_permission(etcd: Etcd, keys: Keys) -> None:
    """By a transaction whose conditions cannot hold: etcd checks what it would be allowed, and changes nothing.

    What it would do is to delete everything, because that takes the right to write all that is below the namespace. It
    stands under two conditions of which neither ever holds: no revision and no version is below zero.

    :raises PermissionDenied: the user may not read or write what a replica has to.
    :raises EtcdError: etcd does not answer, or does not know the user.
    """
    never = [modified_at(keys.history, -1), Compare(keys.history, "version", "=", -1)]
    with suppress(NoSpace):  # of a full store that is said before anything is looked at but permissions
        await etcd.txn(never, [Delete(keys.root, prefix=True)], repeatable=True)
    await etcd.newest(keys.root)


async def refuse_short_ttl(etcd: Etcd, ttl_s: float) -> None:
    """By a lease that is asked for, and given back: etcd raises a TTL that is below its minimum without a word.

    :raises SettingsError: etcd's minimum is longer. :raises EtcdError: etcd does not answer.
    """
    try:
        lease_id, granted_s = await etcd.grant(int(ttl_s))
    except NoSpace:  # it grants nothing for now: a session keeps time by what it is granted then
        return
    await etcd.revoke(lease_id)
    if granted_s > ttl_s:
        raise SettingsError(
            f"setting 'election.ttl': {ttl_s:g}s is less than etcd grants, which is {granted_s}s at least (one and a half "
            f"times its --election-timeout): a takeover would take longer than you ask for, and margin and keepalive would "
            f"not fit. Set election.ttl to {granted_s}s or more, or lower etcd's --election-timeout"
        )
