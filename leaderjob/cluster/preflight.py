"""Whether an etcd is one that a replica can work with: of what release, and what we may do there."""

import re
from contextlib import suppress

from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd, NoSpace, Put, RequestRefused, modified_at
from leaderjob.etcd.maintenance import endpoint_status
from leaderjob.records.keys import Keys

OLDEST_RELEASE = (3, 4)


def is_too_old(version: str) -> bool:
    """Whether a version such as ``3.4.23`` is older than what leaderjob needs."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_RELEASE


async def refuse_old_release(etcd: Etcd) -> None:
    """:raises SettingsError: etcd is older than 3.4. :raises EtcdUnavailable: it does not answer."""
    try:
        status = await endpoint_status(etcd.connection)
    except RequestRefused:
        return  # this user is not told; what is missing will say so itself
    if is_too_old(status.version):
        raise SettingsError(
            f"etcd at {status.endpoint} is of release {status.version}, and leaderjob needs 3.4 or newer: it relies on "
            "progress notifications of watches and on leases as they are since then. Upgrade etcd"
        )


async def refuse_without_permission(etcd: Etcd, keys: Keys) -> None:
    """By a transaction whose condition cannot hold: etcd checks what it would be allowed, and writes nothing.

    :raises PermissionDenied: the user may not read or write what a replica has to.
    :raises EtcdError: etcd does not answer, or does not know the user.
    """
    key = keys.command("preflight")
    with suppress(NoSpace):  # of a full store that is said before anything is looked at but permissions
        await etcd.txn([modified_at(key, -1)], [Put(key, b""), Put(keys.history, b"")], repeatable=True)
    await etcd.newest(keys.root)
