"""What a takeover after a crash cannot do without, step by step, measured in the same run.

The observer does each step alone, in the place of a candidate, while nothing else goes on: it holds a stream to the
leader, which is killed; dials again; and has one transaction done, up to the moment at which a watch shows it. The sum
is the limit: no candidate that proves what it does can be faster on this machine.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from time import perf_counter

from leaderjob.embedded.cluster import ReplicaProcess
from leaderjob.etcd import (
    Delete,
    Etcd,
    Get,
    Put,
    absent,
    created_at,
    follow,
    modified_at,
    none_created_before,
)
from leaderjob.model.term import Term
from takeover.cluster import Cluster, WentOtherwise
from takeover.results import Step

_ROUNDS_PER_TRIAL = 5
_PREFIX = "/limit/election/"
_TTL_S = 60
_VALUE = b"." * 300  # about as long as a candidate's record
_DIAL_TIMEOUT_S = 5.0
_WATCH_STANDS_S = 0.5  # a while after the listing has been told

Seen = asyncio.Queue[tuple[int, float]]
"""The revision of each batch of events, and when it was told."""


async def measure_steps(cluster: Cluster, trials: int) -> list[Step]:
    """:raises WentOtherwise: the replicas were not whole in time."""
    broke, refused = Step("the connection is seen to break", []), Step("dialled again: refused", [])
    for _ in range(trials):
        leader, _ = await cluster.whole()
        await _kill(cluster, leader, broke, refused)
    await cluster.whole()
    claimed = Step("the claim is written, and a watch shows it", [])
    async with _watching(cluster.etcd) as seen:
        for _ in range(trials * _ROUNDS_PER_TRIAL):
            await _take_over(cluster.etcd, seen, claimed)
    return [broke, refused, claimed]


async def _kill(cluster: Cluster, leader: ReplicaProcess, broke: Step, refused: Step) -> None:
    host, _, port = cluster.liveness_of(leader.name).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await reader.readline()
    try:
        began_s = perf_counter()
        leader.send(signal.SIGKILL)
        async with asyncio.timeout(_DIAL_TIMEOUT_S):
            await reader.read()
            broke_s = perf_counter()
            await _refusal(host, int(port))
        broke.values_ms.append((broke_s - began_s) * 1000)
        refused.values_ms.append((perf_counter() - broke_s) * 1000)
    finally:
        writer.close()
        leader.kill()


async def _refusal(host: str, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue  # it was closing
        writer.close()  # the listener is closed a moment after its connections


async def _take_over(etcd: Etcd, seen: Seen, claimed: Step) -> None:
    """With the transaction of a candidate, on keys of its own: delete the dead one's key, win, proclaim."""
    async with _standing(etcd) as former, _standing(etcd) as following:
        compares = [
            created_at(following.key, following.create_revision),
            none_created_before(_PREFIX, former.create_revision),
            created_at(former.key, former.create_revision),
            modified_at(following.key, following.create_revision),
        ]
        put = Put(following.key, _VALUE, lease=following.lease_id)
        began_s = perf_counter()
        wrote = await etcd.txn(compares, [Delete(former.key), put], [Get(_PREFIX, prefix=True)])
        if not wrote.succeeded:
            raise WentOtherwise(f"the limit was not measured: somebody else writes below {_PREFIX}")
        while (event := await seen.get())[0] != wrote.revision:
            pass
        claimed.values_ms.append((event[1] - began_s) * 1000)


@asynccontextmanager
async def _watching(etcd: Etcd) -> AsyncIterator[Seen]:
    """What a watch shows, from before the first write on."""
    seen: Seen = asyncio.Queue()
    stands = asyncio.Event()

    async def watch() -> None:
        async with aclosing(follow(etcd, _PREFIX)) as batches:
            async for batch in batches:
                stands.set()
                seen.put_nowait((batch.revision, perf_counter()))

    watching = asyncio.create_task(watch())
    try:
        await stands.wait()
        await asyncio.sleep(_WATCH_STANDS_S)
        yield seen
    finally:
        watching.cancel()
        await asyncio.wait([watching])


@asynccontextmanager
async def _standing(etcd: Etcd) -> AsyncIterator[Term]:
    """A candidate's key on a lease."""
    lease, _ = await etcd.grant(_TTL_S)
    key = f"{_PREFIX}{lease:x}"
    try:
        created = await etcd.txn([absent(key)], [Put(key, _VALUE, lease=lease)])
        yield Term(_PREFIX, lease, created.revision, 0)
    finally:
        await etcd.revoke(lease)
