"""Leases: what they have left, and renewing one, by one keepalive on a stream of its own.

A stream per keepalive costs a few frames every other second. In return each has its own deadline, and
one that hangs on a dead member is simply tried elsewhere: there is no stream whose state could be stale.
"""

import asyncio
from typing import Any

import grpc
import grpc.aio

from leaderjob.etcd.connection import HAS_LEADER, Connection, cancelled_by_peer, describe
from leaderjob.etcd.errors import EtcdUnavailable
from leaderjob.etcd.rpc import Stubs, rpc


async def keep_alive_once(connection: Connection, lease_id: int, *, timeout_s: float) -> int:
    """The TTL in seconds that the server answered (0 or less: the lease is gone), from the current endpoint.

    One try: whoever keeps a lease alive has a schedule of its own. After a failure the next call goes
    to another endpoint.

    :raises EtcdUnavailable: no usable answer within ``timeout_s``.
    :raises OtherCluster: the endpoint belongs to another cluster, whose word on the lease means nothing.
    """
    endpoint = connection.endpoint
    try:
        async with connection.channels.use(endpoint, urgent=True) as stubs:
            response = await _answer(connection, stubs, lease_id, timeout_s)
    except TimeoutError:
        connection.move_on(endpoint)
        raise EtcdUnavailable([endpoint], f"no answer to a keepalive within {timeout_s:g} s") from None
    except asyncio.CancelledError:
        if not cancelled_by_peer():
            raise
        connection.move_on(endpoint)
        raise EtcdUnavailable([endpoint], "it cancelled a keepalive") from None
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
        connection.move_on(endpoint)
        detail = describe(error) if isinstance(error, grpc.aio.AioRpcError) else str(error)
        raise EtcdUnavailable([endpoint], f"keepalive failed: {detail}") from error
    if response is grpc.aio.EOF:
        connection.move_on(endpoint)
        raise EtcdUnavailable([endpoint], "it closed the stream of a keepalive")
    connection.check_cluster(response.header, endpoint)
    return int(response.TTL)


async def _answer(connection: Connection, stubs: Stubs, lease_id: int, timeout_s: float) -> Any:
    async with asyncio.timeout(timeout_s):
        token = await connection.auth.token(stubs, timeout_s=timeout_s)
        call = stubs.lease.LeaseKeepAlive(metadata=(*HAS_LEADER, *(token.metadata if token else ())))
        try:
            await call.write(rpc.LeaseKeepAliveRequest(ID=lease_id))
            return await call.read()
        except grpc.aio.AioRpcError as error:
            connection.auth.expired(error, token)
            raise
        finally:
            call.cancel()


async def time_to_live(connection: Connection, lease_id: int) -> int | None:
    """The whole seconds that a lease has left, or None: it is gone. :raises EtcdError: etcd does not answer."""
    response = await connection.call(
        lambda stubs: stubs.lease.LeaseTimeToLive,
        rpc.LeaseTimeToLiveRequest(ID=lease_id),
        repeatable=True,
        linearizable=False,
    )
    return int(response.TTL) if response.TTL >= 0 else None
