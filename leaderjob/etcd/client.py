"""The client: reads, writes, transactions, leases. Watches are in ``watch.py``."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from leaderjob.etcd.auth import User
from leaderjob.etcd.connection import Connection
from leaderjob.etcd.errors import Compacted, EtcdError, LeaseNotFound, RequestRefused, ValueTooLarge
from leaderjob.etcd.lease import keep_alive_once
from leaderjob.etcd.rpc import rpc
from leaderjob.etcd.txn import MAX_REQUEST_BYTES, Compare, Get, Op, Txn, TxnResult, range_result, txn_result
from leaderjob.etcd.values import KeyValue, Newest, RangeResult, check_value, encode_key, key_range
from leaderjob.tls import CertificateFiles

_PAGE_KEYS = 1000
_RANGE_TRIES = 5


class Etcd:
    """An etcd cluster, by its endpoints.

    :param endpoints: ``HOST:PORT``, ``http://HOST:PORT``, ``https://HOST:PORT`` or ``unix:///PATH`` each; the first
        that answers is used, the others when it fails.
    :param call_timeout_s: the deadline of one try of a call.
    :param certificates: TLS with these. Without them ``https://`` means TLS with the system's authorities, and all
        else is not encrypted.
    :param user: whom etcd knows us as, where it asks.
    :param allow_plaintext_password: send the password of ``user`` unencrypted over a network, too. Without this it is
        only sent over TLS, to loopback addresses and to Unix sockets.
    :raises SettingsError: an endpoint is not valid, a certificate cannot be used, or the password would be sent
        unencrypted.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        call_timeout_s: float = 2.0,
        certificates: CertificateFiles | None = None,
        user: User | None = None,
        allow_plaintext_password: bool = False,
    ) -> None:
        self.connection = Connection(
            endpoints,
            call_timeout_s=call_timeout_s,
            certificates=certificates,
            user=user,
            allow_plaintext_password=allow_plaintext_password,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self.connection.close()

    async def get(self, key: str, *, revision: int = 0, urgent: bool = False) -> KeyValue | None:
        """The key, or None: as it is, by a linearizable read; or as it was at ``revision``.

        :param urgent: read it over the connection that keepalives have to themselves.
        :raises Compacted: ``revision`` is no longer there. :raises EtcdError: see ``Connection.call``.
        """
        response = await self._read(rpc.RangeRequest(key=encode_key(key), revision=revision), urgent=urgent)
        return KeyValue.of(response.kvs[0]) if response.kvs else None

    async def range(self, prefix: str, *, revision: int = 0, keys_only: bool = False) -> RangeResult:
        """All keys that begin with ``prefix``, oldest creation first, read in pages at one revision.

        :param revision: 0: now; where that is compacted away between two pages it is begun anew, at most five times.
        :param keys_only: leave the values out: they are empty. Do not look at the leases then: since etcd 3.7 they are 0.
        :raises Compacted: ``revision`` is no longer there.
        """
        tries = 1 if revision else _RANGE_TRIES
        while True:
            tries -= 1
            try:
                return await self._pages(prefix, revision, keys_only=keys_only)
            except Compacted:
                if not tries:
                    raise

    async def _pages(self, prefix: str, revision: int, *, keys_only: bool) -> RangeResult:
        kvs: list[KeyValue] = []
        start, end = key_range(prefix, prefix=True)
        while True:
            request = rpc.RangeRequest(
                key=start, range_end=end, limit=_PAGE_KEYS, revision=revision, keys_only=keys_only
            )
            response = await self._read(request)
            revision = revision or response.header.revision
            kvs.extend(KeyValue.of(kv) for kv in response.kvs)
            if not response.more:
                break
            start = response.kvs[-1].key + b"\0"
        kvs.sort(key=lambda kv: kv.create_revision)
        return RangeResult(tuple(kvs), len(kvs), revision)

    async def _read(self, request: Any, *, urgent: bool = False) -> Any:
        past = request.revision
        try:
            return await self.connection.call(
                lambda stubs: stubs.kv.Range, request, repeatable=True, linearizable=past == 0, urgent=urgent
            )
        except RequestRefused as refused:
            if "compacted" in str(refused):
                raise Compacted(past) from refused
            raise

    async def newest(self, prefix: str, *, revision: int = 0) -> Newest:
        """What tells whether anything has changed among the keys that begin with ``prefix``.

        :raises Compacted: ``revision`` is no longer there.
        """
        start, end = key_range(prefix, prefix=True)
        request = rpc.RangeRequest(
            key=start,
            range_end=end,
            limit=1,
            revision=revision,
            keys_only=True,
            sort_order=rpc.RangeRequest.DESCEND,
            sort_target=rpc.RangeRequest.MOD,
        )
        response = await self._read(request)
        highest = max((int(kv.mod_revision) for kv in response.kvs), default=0)
        return Newest(int(response.count), highest, int(response.header.revision))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write unconditionally; returns the revision.

        :raises SettingsError: the value is not bytes. :raises AmbiguousWrite: it may be done or not.
        """
        request = rpc.PutRequest(key=encode_key(key), value=check_value(key, value), lease=lease)
        _check_size(key, request.ByteSize())
        response = await self.connection.call(lambda stubs: stubs.kv.Put, request, repeatable=False)
        return int(response.header.revision)

    async def delete(
        self, key: str, *, prefix: bool = False, repeatable: bool = False, within_s: float | None = None
    ) -> int:
        """Delete a key, or all that begin with it; returns how many there were.

        :param repeatable: nobody else makes it, so twice is as good as once: where there is no answer it is sent to
            the next endpoint.
        :param within_s: the deadline of all tries together. :raises AmbiguousWrite: it may be done or not.
        """
        start, end = key_range(key, prefix=prefix)
        request = rpc.DeleteRangeRequest(key=start, range_end=end)
        response = await self.connection.call(
            lambda stubs: stubs.kv.DeleteRange,
            request,
            repeatable=repeatable,
            writes=True,
            within_s=within_s,
        )
        return int(response.deleted)

    async def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        repeatable: bool = False,
        within_s: float | None = None,
    ) -> TxnResult:
        """One transaction.

        :param repeatable: committing it twice is as good as once (it only reads, say): where there is no answer
            it is sent to the next endpoint.
        :param within_s: the deadline of all tries together. Each has a share of it, so that an endpoint which says
            nothing leaves time for the next one.
        :raises AmbiguousWrite: it may be done, not done, or be done later.
        :raises ValueTooLarge: it is over etcd's limits, and was not sent.
        """
        request = Txn(tuple(compares), tuple(success), tuple(failure)).request()
        _check_size("a transaction", request.ByteSize())
        response = await self.connection.call(
            lambda stubs: stubs.kv.Txn,
            request,
            repeatable=repeatable,
            writes=not all(isinstance(op, Get) for op in (*success, *failure)),
            within_s=within_s,
        )
        return txn_result(response)

    async def grant(self, ttl_s: int) -> tuple[int, int]:
        """A new lease: its id, and the TTL in seconds that the server granted, which may be another.

        A grant that got no answer is asked for again: the lease that it may have left has no keys and
        runs out by itself.
        """
        response = await self.connection.call(
            lambda stubs: stubs.lease.LeaseGrant,
            rpc.LeaseGrantRequest(TTL=ttl_s),
            repeatable=True,
            linearizable=False,
        )
        if response.error:
            raise EtcdError(f"etcd refused to grant a lease: {response.error}")
        return int(response.ID), int(response.TTL)

    async def revoke(self, lease_id: int, *, within_s: float | None = None) -> None:
        """End a lease and delete the keys on it; one that is gone already is not an error.

        :param within_s: the deadline of all tries together.
        """
        try:
            await self.connection.call(
                lambda stubs: stubs.lease.LeaseRevoke,
                rpc.LeaseRevokeRequest(ID=lease_id),
                repeatable=True,
                linearizable=False,
                within_s=within_s,
            )
        except RequestRefused as refused:
            if "lease not found" not in str(refused):
                raise

    async def keep_alive(self, lease_id: int, *, timeout_s: float) -> int:
        """Renew a lease once; returns the seconds it has left. :raises LeaseNotFound: it is gone."""
        ttl_s = await keep_alive_once(self.connection, lease_id, timeout_s=timeout_s)
        if ttl_s <= 0:
            raise LeaseNotFound(lease_id)
        return ttl_s


async def look(etcd: Etcd, what: Get, *, revision: int = 0) -> RangeResult:
    """What one :class:`Get` finds, now or at ``revision``, without a transaction: older etcd refuse those, even ones that
    only read, once they are full.

    :raises Compacted: ``revision`` is no longer there. :raises EtcdError: see ``Connection.call``.
    """
    request = rpc.RangeRequest(revision=revision)
    what.write_range(request)
    response = await etcd._read(request)
    return range_result(response, revision or response.header.revision)


def _check_size(what: str, size_bytes: int) -> None:
    if size_bytes > MAX_REQUEST_BYTES:
        raise ValueTooLarge(what, size_bytes, MAX_REQUEST_BYTES, "bytes")
