"""What can go wrong between us and etcd; each class says what it means for the caller."""

from collections.abc import Sequence

from leaderjob.errors import LeaderjobError


class EtcdError(LeaderjobError):
    """A request to etcd failed."""

    exit_code = 3


class EtcdUnavailable(EtcdError):
    """No endpoint answered; nothing was written, except perhaps that a lease was granted or revoked. Trying again
    later is safe."""

    def __init__(self, endpoints: Sequence[str], detail: str) -> None:
        super().__init__(
            f"etcd is not reachable at {', '.join(endpoints)}: {detail}. "
            "Check that it runs and that the addresses are right (etcdctl endpoint health); "
            "'leaderjob demo' brings an etcd of its own to try"
        )
        self.endpoints = tuple(endpoints)
        self.detail = detail


class AmbiguousWrite(EtcdError):
    """A write was sent and got no answer in time: it may be done, not done, or be done later.

    Reading back does not settle it. Write the same records again under the same compare
    (``mod_revision``): if that succeeds the old one can no longer land; if it fails, read.
    """

    def __init__(self, endpoint: str, detail: str) -> None:
        super().__init__(
            f"a write sent to etcd at {endpoint} got no answer: {detail}; it may or may not be done: "
            "read and decide again, or write it again under a compare on the mod_revision of a key that it changes"
        )


class OtherCluster(EtcdError):
    """An endpoint belongs to another etcd cluster than the one that answered first."""

    def __init__(self, endpoint: str, expected: int, found: int) -> None:
        super().__init__(
            f"{endpoint} belongs to etcd cluster {found:x}, but this process started with cluster {expected:x}: "
            "one of the endpoints is wrong; correct the list of endpoints and start again"
        )


class ClientClosed(EtcdError):
    """This etcd client is closed: nothing more can be sent or learned."""

    def __init__(self) -> None:
        super().__init__("this etcd client is closed")


class HistoryWentBack(EtcdError):
    """The store's revision fell below one seen before: it was restored from a backup or reset."""

    def __init__(self, known: int, found: int) -> None:
        super().__init__(
            f"etcd is at revision {found}, but revision {known} was seen before: it was restored from a backup, "
            "or reset; nothing more is sent to it"
        )
        self.known = known
        self.found = found


class Compacted(EtcdError):
    """The revision asked for is compacted away; list again and go on from there."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"etcd has compacted revisions below {compact_revision}: list again")
        self.compact_revision = compact_revision


class LeaseNotFound(EtcdError):
    """The lease ran out or was revoked; the keys on it are gone."""

    def __init__(self, lease_id: int) -> None:
        super().__init__(
            f"lease {lease_id:x} is gone: it ran out or was revoked, and the keys on it with it; "
            "what is still wanted needs a new lease"
        )
        self.lease_id = lease_id


class NoSpace(EtcdError):
    """etcd's database quota is used up: grants and puts are refused until space is freed. The write that took the last
    room is told so too, though it is done: see ``full.py``."""

    exit_code = 1

    def __init__(self) -> None:
        super().__init__(
            "etcd's database has reached its quota (NOSPACE): it refuses writes. Compact and defragment it, "
            "then disarm the alarm: etcdctl compact, etcdctl defrag, etcdctl alarm disarm"
        )


class RequestRefused(EtcdError):
    """etcd understood the request and refused it; repeating it will not help."""

    exit_code = 1


class ValueTooLarge(RequestRefused):
    """A request is larger than what etcd takes; it was not sent."""

    def __init__(self, what: str, size: int, limit: int, unit: str) -> None:
        super().__init__(f"{what}: {size} {unit}, but etcd takes at most {limit} {unit}; it was not sent")


class AuthenticationFailed(EtcdError):
    """etcd does not know the user, or not with this password."""

    exit_code = 2

    def __init__(self, user: str) -> None:
        super().__init__(
            f"etcd refused the user {user!r} with the password that was given: correct etcd.username and "
            "etcd.password (or the file that etcd.password_file names)"
        )


class NobodyKnown(RequestRefused):
    """etcd demands a user, and none was given."""

    exit_code = 2

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"etcd at {endpoint} demands a user: give etcd.username, and etcd.password or etcd.password_file"
        )


class PermissionDenied(RequestRefused):
    """The user's roles do not allow what was asked for."""

    exit_code = 2

    def __init__(self, user: str | None, wanted: str) -> None:
        super().__init__(
            f"the etcd user {user or 'of this certificate'!r} may not {wanted}: give one of its roles that permission "
            "(etcdctl role grant-permission; docs/etcd.md lists what is needed)"
        )
