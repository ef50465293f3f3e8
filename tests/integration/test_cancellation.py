"""Whoever is cancelled, at whichever await, leaves nothing behind: no task, no stream, no key, no lease.

Each operation is run again and again and cancelled at its first suspension, its second, and so on: as soon
as it waits, or just as what it waits for arrives, when the effect is there and the answer is thrown away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, suppress
from itertools import count
from typing import Any, get_args

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Get, Put, Transaction, absent, follow, transaction, watch
from leaderjob.recipes import Election, Session, Timing
from leaderjob.records.fenced import FencedWriter
from tests.support.etcd import new_server
from tests.support.stage import Stage, in_use_by, quiet, staged
from tests.support.strikes import Strike, When, is_of_grpc

_CALLS_TIMEOUT_S = 1.0
_SHORT = Timing(ttl_s=2, margin_s=0.5)
_SILENCE_S = 0.05
_CAMPAIGNS = 500


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEtcd]:
    """On which nobody else has streams or leases."""
    made = new_server(tmp_path_factory.mktemp("etcd"))
    asyncio.run(made.start())
    try:
        yield made
    finally:
        made.kill()


Prepare = Callable[[Stage], Awaitable[Coroutine[Any, Any, Any]]]


async def _get(stage: Stage) -> Coroutine[Any, Any, Any]:
    return stage.client.get(stage.prefix)


async def _range(stage: Stage) -> Coroutine[Any, Any, Any]:
    for number in range(3):
        await stage.outside.put(f"{stage.prefix}{number}", b"")
    return stage.client.range(stage.prefix)


async def _put(stage: Stage) -> Coroutine[Any, Any, Any]:
    return stage.client.put(f"{stage.prefix}key", b"")


async def _txn(stage: Stage) -> Coroutine[Any, Any, Any]:
    key = f"{stage.prefix}key"
    return stage.client.txn([absent(key)], [Put(key, b"")], [Get(key)])


async def _transaction(stage: Stage) -> Coroutine[Any, Any, Any]:
    async def append(view: Transaction) -> None:
        found = await view.get(f"{stage.prefix}key")
        view.put(f"{stage.prefix}key", (found or b"") + b".")

    return transaction(stage.client, append)


async def _keep_alive(stage: Stage) -> Coroutine[Any, Any, Any]:
    session = await stage.session(stage.outside)
    return stage.client.keep_alive(session.lease_id, timeout_s=1)


async def _follow(stage: Stage) -> Coroutine[Any, Any, Any]:
    async def three_batches() -> None:
        batches_seen = 0
        async with aclosing(follow(stage.client, stage.prefix)) as batches:
            async for _ in batches:
                batches_seen += 1
                if batches_seen == 3:
                    return
                await stage.client.put(f"{stage.prefix}key", b"")

    return three_batches()


async def _follow_in_silence(stage: Stage) -> Coroutine[Any, Any, Any]:
    async def wait_in_vain() -> None:
        async with aclosing(follow(stage.client, stage.prefix)) as batches:
            await anext(batches)
            with suppress(TimeoutError):
                async with asyncio.timeout(_SILENCE_S):
                    await anext(batches)

    return wait_in_vain()


async def _watch(stage: Stage) -> Coroutine[Any, Any, Any]:
    since = await stage.outside.put(f"{stage.prefix}key", b"1")
    await stage.outside.put(f"{stage.prefix}key", b"2")

    async def one_event() -> None:
        async with aclosing(watch(stage.client, stage.prefix, since=since)) as events:
            await anext(events)

    return one_event()


async def _campaign(stage: Stage) -> Coroutine[Any, Any, Any]:
    session = await stage.session()
    stage.candidacies.append(session.lease_id)
    return stage.election().campaign(session, b"")


async def _campaign_behind_another(stage: Stage) -> Coroutine[Any, Any, Any]:
    """The leader resigns once the candidate is queued."""
    election = stage.election(stage.outside)
    leadership = await election.campaign(await stage.session(stage.outside), b"")
    session = await stage.session()
    stage.candidacies.append(session.lease_id)

    async def resign_when_queued() -> None:
        async with aclosing(follow(stage.outside, election.prefix)) as batches:
            async for batch in batches:
                if any(event.now and event.now.lease == session.lease_id for event in batch.events):
                    break
        await election.resign(leadership)

    stage.beside(resign_when_queued())
    return stage.election().campaign(session, b"")


async def _proclaim(stage: Stage) -> Coroutine[Any, Any, Any]:
    return stage.election().proclaim(await stage.leadership(), b"")


async def _resign(stage: Stage) -> Coroutine[Any, Any, Any]:
    return stage.election().resign(await stage.leadership())


async def _commit(stage: Stage) -> Coroutine[Any, Any, Any]:
    key = f"{stage.prefix}record"
    return FencedWriter(await stage.leadership()).commit([absent(key)], [Put(key, b"")])


_OPERATIONS: dict[str, Prepare] = {
    "get": _get,
    "range": _range,
    "put": _put,
    "txn": _txn,
    "transaction": _transaction,
    "keep alive": _keep_alive,
    "follow": _follow,
    "follow in silence": _follow_in_silence,
    "watch": _watch,
    "campaign": _campaign,
    "campaign behind another": _campaign_behind_another,
    "proclaim": _proclaim,
    "resign": _resign,
    "commit": _commit,
}


async def _strike(
    server: EmbeddedEtcd, prefix: str, prepare: Prepare, *, suspension: int, when: When, where: str
) -> asyncio.Task[None] | None:
    """Cancel an operation, and look what is left.

    Returns how the task ended; None: the operation was over before it was suspended so often.
    """
    async with staged(server, prefix) as stage:
        strike = Strike(await prepare(stage), suspension, when)

        task = await strike.run()
        if not strike.struck:
            task.result()
            return None
        tasks = [each for each in strike.started if not each.done() and not is_of_grpc(each)]
        assert not tasks, f"{where}: tasks that nobody waited for: {tasks}"
        if strike.started:
            _, calls = await asyncio.wait(strike.started, timeout=_CALLS_TIMEOUT_S)
            assert not calls, f"{where}: calls that nobody ended: {calls}"
        standing = await stage.outside.range(f"{stage.prefix}election/")
        keys = [kv.key for kv in standing.kvs if kv.lease in stage.candidacies]
        assert not keys, f"{where}: it left {keys} behind"
        revision = await stage.client.put(f"{stage.prefix}afterwards", b"")
        found = await stage.client.get(f"{stage.prefix}afterwards")
        assert found is not None
        assert found.mod_revision == revision, f"{where}: the client is of no use any more"
    return task


@pytest.mark.parametrize("when", get_args(When))
@pytest.mark.parametrize("name", _OPERATIONS)
async def test_an_operation_that_is_cancelled_ends_and_leaves_nothing_behind_and_its_client_goes_on(
    server: EmbeddedEtcd, namespace: str, name: str, when: When
) -> None:
    for suspension in count(1):
        where = f"{name}, cancelled at suspension {suspension} {when}"
        prefix = f"/{namespace}/{suspension}/"
        task = await _strike(server, prefix, _OPERATIONS[name], suspension=suspension, when=when, where=where)
        await quiet(server, where)
        if task is None:
            break
        assert task.cancelled(), f"{where}: it ended as if it was not: {task}"
    assert suspension > 1, "it is never suspended: this showed nothing"


class _Visit:
    """A session that is opened, used once and closed; ``at`` tells how far it got."""

    def __init__(self) -> None:
        self.at = "opening"

    async def __call__(self, stage: Stage) -> Coroutine[Any, Any, Any]:
        async def open_use_and_close() -> None:
            async with await Session.open(stage.client, _SHORT) as session:
                self.at = "in use"
                await stage.client.put(f"{stage.prefix}key", b"", lease=session.lease_id)
                self.at = "closing"
            self.at = "closed"

        return open_use_and_close()


async def test_a_session_that_is_cancelled_is_not_kept_alive_and_one_in_use_is_revoked_at_once(
    server: EmbeddedEtcd, namespace: str
) -> None:
    """Of one that is cancelled while it is opened or closed the lease may remain: it runs out by itself."""

    async def visit_and_cancel(when: When) -> set[str]:
        leases = in_use_by(server)["leases"]
        cancelled_at = set()
        for suspension in count(1):
            where = f"a session, cancelled at suspension {suspension} {when}"
            visit = _Visit()
            prefix = f"/{namespace}/{suspension}/"
            task = await _strike(server, prefix, visit, suspension=suspension, when=when, where=where)
            before, leases = leases, (await quiet(server, where, but="leases"))["leases"]
            if task is None:
                break
            cancelled_at.add(visit.at)
            assert visit.at != "in use" or leases <= before, f"{where}: its lease outlives it"
        return cancelled_at

    for when in get_args(When):
        assert await visit_and_cancel(when) >= {"opening", "in use"}
    await quiet(server, "sessions that were cancelled", within_s=3 * _SHORT.ttl_s)


async def test_a_campaign_that_is_cancelled_while_its_first_write_is_under_way_leaves_no_key(
    server: EmbeddedEtcd, namespace: str
) -> None:
    """One that is left stands in everybody's way for as long as the session is kept alive."""

    async with staged(server, f"/{namespace}/") as stage:
        session = await stage.session()
        for number in range(_CAMPAIGNS):
            election = Election.below(stage.client, f"{stage.prefix}{number}/")
            campaign = asyncio.create_task(election.campaign(session, b""))
            for _ in range(2 + number % 9):
                await asyncio.sleep(0)
            campaign.cancel()
            await asyncio.wait([campaign])
        left = (await stage.outside.range(stage.prefix)).kvs
        assert not left, f"{len(left)} of {_CAMPAIGNS} cancelled campaigns left a key"


async def test_closing_a_session_can_be_cancelled(server: EmbeddedEtcd, namespace: str) -> None:
    for suspension in count(1):
        where = f"cancelled at suspension {suspension}"
        prefix = f"/{namespace}/{suspension}/"
        task = await _strike(
            server, prefix, _Visit(), suspension=suspension, when="as soon as it waits", where=where
        )
        if task is None:
            return
        assert task.cancelled(), where
