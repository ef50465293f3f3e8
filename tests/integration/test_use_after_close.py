"""Whoever uses what was closed is told so by an error of ours, and nobody waits for ever on what is closed."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from inspect import iscoroutinefunction
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, EtcdError, Put, absent, follow, transaction, watch
from leaderjob.etcd.lease import time_to_live
from leaderjob.etcd.maintenance import alarms, endpoint_status
from leaderjob.recipes import (
    Election,
    Leadership,
    NotFollowed,
    NotLeader,
    NotRegistered,
    Registry,
    Session,
    SessionLost,
    TermLost,
)
from leaderjob.records.fenced import FencedWriter
from tests.support.candidates import TIMING
from tests.support.cuttable import Cuttable
from tests.support.stage import Stage, staged

_CALLS: dict[str, Callable[[Etcd], Awaitable[Any]]] = {
    "get": lambda client: client.get("/key"),
    "range": lambda client: client.range("/"),
    "newest": lambda client: client.newest("/"),
    "put": lambda client: client.put("/key", b""),
    "delete": lambda client: client.delete("/key"),
    "txn": lambda client: client.txn(),
    "grant": lambda client: client.grant(5),
    "revoke": lambda client: client.revoke(1),
    "keep_alive": lambda client: client.keep_alive(1, timeout_s=1),
    "follow": lambda client: anext(follow(client, "/")),
    "watch": lambda client: anext(watch(client, "/")),
    "transaction": lambda client: transaction(client, lambda view: view.get("/key")),
    "Session.open": lambda client: Session.open(client, TIMING),
    "Election.leader": lambda client: Election.below(client, "/").leader(),
    "endpoint_status": lambda client: endpoint_status(client.connection),
    "time_to_live": lambda client: time_to_live(client.connection, 1),
    "alarms": lambda client: alarms(client.connection),
}


def test_each_public_call_of_the_client_is_among_those_tried_after_closing() -> None:
    public = {name for name, member in vars(Etcd).items() if iscoroutinefunction(member) and name[0] != "_"}
    assert public - {"close"} <= _CALLS.keys()


@pytest.mark.parametrize("used_before", [True, False])
@pytest.mark.parametrize("name", _CALLS)
async def test_a_client_that_was_closed_says_so_to_whoever_calls(
    etcd: EmbeddedEtcd, name: str, used_before: bool
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        if used_before:
            await client.get("/key")
    with pytest.raises(EtcdError, match="closed"):
        await _CALLS[name](client)
    await client.close()  # as often as one likes


async def test_a_session_that_was_closed_says_so(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with staged(etcd, f"/{namespace}/") as stage:
        session = await stage.session()
        await session.close()
        await session.close()  # as often as one likes
        with pytest.raises(SessionLost, match="closed"):
            session.check()
        with pytest.raises(SessionLost, match="closed"):
            await stage.election().campaign(session, b"")
        assert "closed" in await session.wait_lost()


async def test_what_was_won_on_a_session_that_was_closed_is_of_no_use(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with staged(etcd, f"/{namespace}/") as stage:
        uses: tuple[Callable[[Leadership], Awaitable[Any]], ...] = (
            lambda won: stage.election().proclaim(won, b""),
            lambda won: FencedWriter(won).commit([], []),
        )
        for use in uses:
            leadership = await stage.leadership()
            await leadership.session.close()
            with pytest.raises((NotLeader, TermLost)):
                await use(leadership)
            await stage.election().resign(leadership)


async def test_a_term_is_over_as_soon_as_its_session_is_closed(etcd: EmbeddedEtcd, namespace: str) -> None:
    """Closing revokes the lease, so another candidate may lead from then on."""

    async with staged(etcd, f"/{namespace}/") as stage:
        leadership = await stage.leadership()
        await leadership.session.close()
        with pytest.raises(TermLost):
            leadership.check()


@pytest.mark.timeout_s(10)
async def test_who_waits_on_a_registration_that_was_left_is_told_so(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        registration = Registry(client, namespace=namespace).register("greeter", "10.0.0.5:50051")
        async with registration:
            waiting = asyncio.create_task(registration.wait_ended())
            await asyncio.sleep(0)
        with pytest.raises(NotRegistered, match="was left"):
            await waiting
        for wait in (registration.wait_ended, registration.wait_registered):
            with pytest.raises(NotRegistered, match="was left"):
                await wait()
        async with registration:  # once more
            assert await registration.wait_registered() == registration.key


@pytest.mark.timeout_s(10)
async def test_who_waits_for_a_registration_that_cannot_be_made_is_told_so() -> None:
    async with Etcd(["127.0.0.1:1"], call_timeout_s=0.2) as client:
        registration = Registry(client).register("greeter", "10.0.0.5:50051")
        waiting = asyncio.create_task(registration.wait_registered())
        with pytest.raises(EtcdError):
            async with registration:
                pass
        with pytest.raises(NotRegistered):
            await waiting


@pytest.mark.timeout_s(10)
async def test_who_waits_for_changes_of_a_view_that_was_left_is_told_so(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        async with Registry(client, namespace=namespace).following("greeter") as followed:
            waiting = asyncio.create_task(followed.changed(()))
            await asyncio.sleep(0)
        with pytest.raises(NotFollowed, match="greeter"):
            await waiting
        with pytest.raises(NotFollowed, match="greeter"):
            await followed.changed(followed.instances)


async def _follow_for_ever(stage: Stage, proxy: Cuttable) -> None:
    async with aclosing(follow(stage.client, stage.prefix)) as batches:
        async for _ in batches:
            pass


async def _queue_for_ever(stage: Stage, proxy: Cuttable) -> None:
    await stage.election(stage.outside).campaign(await stage.session(stage.outside), b"leader")
    await stage.election().campaign(await stage.session(stage.outside), b"queued")


async def _commit_for_ever(stage: Stage, proxy: Cuttable) -> None:
    leadership = await stage.election().campaign(await stage.session(stage.outside), b"leader")
    await proxy.refuse()
    await FencedWriter(leadership).commit(
        [absent(f"{stage.prefix}record")], [Put(f"{stage.prefix}record", b"")]
    )


async def _get_for_ever(stage: Stage, proxy: Cuttable) -> None:
    proxy.cut()
    await stage.client.get(stage.prefix)


async def _put_for_ever(stage: Stage, proxy: Cuttable) -> None:
    proxy.cut()
    await stage.client.put(stage.prefix, b"")


@pytest.mark.parametrize(
    "operation", [_follow_for_ever, _queue_for_ever, _commit_for_ever, _get_for_ever, _put_for_ever]
)
@pytest.mark.timeout_s(10)
async def test_closing_a_client_ends_what_waits_on_it_with_our_error(
    etcd: EmbeddedEtcd, namespace: str, operation: Callable[[Stage, Cuttable], Coroutine[Any, Any, None]]
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        staged(etcd, f"/{namespace}/", through=proxy.endpoint) as stage,
    ):
        waiting = asyncio.create_task(operation(stage, proxy))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        await stage.client.close()
        with pytest.raises(EtcdError):
            await waiting
