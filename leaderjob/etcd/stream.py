"""What happens to a key or a prefix, across broken streams: no event is lost, none comes twice.

Where to resume (etcd ``clientv3/watch.go``, and COORDINATION in the docs): after events at the last
event's ``mod_revision + 1``, because a watcher that is catching up is sent batches; after a progress
notification at ``header.revision + 1``. Never at a header's revision after events.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import grpc.aio

from leaderjob.clock import boottime
from leaderjob.etcd.auth import is_about_token
from leaderjob.etcd.connection import HAS_LEADER, Connection, cancelled_by_peer
from leaderjob.etcd.errors import Compacted, PermissionDenied
from leaderjob.etcd.permissions import wanted
from leaderjob.etcd.rpc import rpc
from leaderjob.etcd.values import KeyValue, key_range

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_CREATED_TIMEOUT_S = 5.0
_PUT = 0


class RawEvent(NamedTuple):
    """A key was written (``deleted`` false) or deleted; ``kv`` has no value in the latter case."""

    deleted: bool
    kv: KeyValue
    previous: KeyValue | None


@dataclass(frozen=True, slots=True)
class RawBatch:
    """The events of one or more whole revisions; ``revision`` is the last one that is now known."""

    events: tuple[RawEvent, ...]
    revision: int


async def stream(
    connection: Connection,
    key: str,
    *,
    start_revision: int,
    prefix: bool = False,
    previous: bool = False,
    progress: bool = False,
) -> AsyncGenerator[RawBatch, None]:
    """Everything that happens to ``key`` (or to all that begin with it) from ``start_revision`` on.

    :param previous: also fetch what was there before each event.
    :param progress: also tell, by batches without events, up to which revision nothing has happened.

    Runs until it is closed. Broken streams are opened again, on another endpoint.

    :raises Compacted: ``start_revision``, or where to resume, is compacted away.
    :raises PermissionDenied: the user may not read this.
    :raises OtherCluster: an endpoint belongs to another cluster, whose events are not handed out.
    """
    start, end = key_range(key, prefix=prefix)
    request = rpc.WatchCreateRequest(key=start, range_end=end, progress_notify=True, prev_kv=previous)
    resume = start_revision
    pause_s = _FIRST_PAUSE_S
    while True:
        # One earlier, and what comes twice is dropped: from the revision of a compaction on, etcd leaves out the
        # deletion at that very revision (etcd #18089), and from the one before it says that this is compacted.
        request.start_revision = max(resume - 1, 1)
        endpoint = connection.endpoint
        try:
            async with aclosing(_one_stream(connection, endpoint, [request])) as batches:
                async for batch in batches:
                    pause_s = _FIRST_PAUSE_S
                    if batch.events and batch.events[0].kv.mod_revision < resume:
                        fresh = tuple(event for event in batch.events if event.kv.mod_revision >= resume)
                        batch = RawBatch(fresh, batch.revision)  # noqa: PLW2901 - what came twice
                    resume = max(resume, batch.revision + 1)
                    if batch.events or progress:
                        yield batch
        except _TokenRefused:
            continue
        connection.move_on(endpoint)
        await connection.channels.renew()
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


class Watched(NamedTuple):
    """A key, or all that begin with it."""

    key: str
    prefix: bool = False


def is_deletion(event: RawEvent) -> bool:
    return event.deleted


async def until_event(
    connection: Connection,
    watched: Sequence[Watched],
    *,
    after: int,
    what: Callable[[RawEvent], bool] = is_deletion,
) -> None:
    """Return when, after the revision ``after``, something happened to one of these keys that is ``what`` is waited for;
    or when that can no longer be told, for it is compacted away. It takes one stream, whatever the number of keys.

    :raises PermissionDenied: the user may not read one of them.
    :raises OtherCluster: an endpoint belongs to another cluster.
    """
    ranges = [key_range(each.key, prefix=each.prefix) for each in watched]
    # One earlier, for the same reason as above.
    requests = [
        rpc.WatchCreateRequest(key=start, range_end=end, start_revision=max(after, 1))
        for start, end in ranges
    ]
    pause_s = _FIRST_PAUSE_S
    with suppress(Compacted):
        while True:
            endpoint = connection.endpoint
            try:
                async with aclosing(_one_stream(connection, endpoint, requests)) as batches:
                    async for batch in batches:
                        pause_s = _FIRST_PAUSE_S
                        if any(what(event) for event in batch.events if event.kv.mod_revision > after):
                            return
            except _TokenRefused:
                continue
            connection.move_on(endpoint)
            await connection.channels.renew()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


class _TokenRefused(Exception):
    """A stream may have been denied for its token alone; the next one gets a new token."""


async def _one_stream(
    connection: Connection, endpoint: str, requests: Sequence[Any]
) -> AsyncGenerator[RawBatch, None]:
    """What one stream brings; returns when it breaks. Of several requests, batches come in any order."""
    began_at = boottime()
    async with connection.channels.use(endpoint) as stubs:
        try:
            token = await connection.auth.token(stubs, timeout_s=_CREATED_TIMEOUT_S)
        except (TimeoutError, grpc.aio.AioRpcError):
            return
        call = stubs.watch.Watch(metadata=(*HAS_LEADER, *(token.metadata if token else ())))
        try:
            async with asyncio.timeout(_CREATED_TIMEOUT_S):
                for request in requests:
                    await call.write(rpc.WatchRequest(create_request=request))
                response = await call.read()
            while response is not grpc.aio.EOF:
                connection.check_cluster(response.header, endpoint)
                if response.canceled:
                    if response.compact_revision:
                        raise Compacted(response.compact_revision)
                    refused = "permission denied" in response.cancel_reason
                    about_token = refused or is_about_token(response.cancel_reason)
                    if about_token and connection.auth.denied(token, began_at):
                        raise _TokenRefused
                    if refused:
                        raise PermissionDenied(connection.auth.user_name, wanted(requests[0]))
                    return
                if not response.created:
                    yield _batch(response)
                response = await call.read()
        except asyncio.CancelledError:
            if not cancelled_by_peer():
                raise
        except (TimeoutError, grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return
        finally:
            call.cancel()


def _batch(response: Any) -> RawBatch:
    events = tuple([_event(event) for event in response.events])
    return RawBatch(events, events[-1].kv.mod_revision if events else response.header.revision)


def _event(event: Any) -> RawEvent:
    previous = KeyValue.of(event.prev_kv) if event.HasField("prev_kv") else None
    return RawEvent(event.type != _PUT, KeyValue.of(event.kv), previous)
