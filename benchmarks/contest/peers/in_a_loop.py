"""Turns of a client that works in an event loop."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Protocol

from contest.peers.tally import Tally, Told, say
from contest.turns import VALUE_BYTES, Calls, Outcome, Watching, key

_VALUE = b"." * VALUE_BYTES


class AsyncClient(Protocol):
    """What a contestant's client is made to look like. Each call checks its answer."""

    async def get(self, key: str) -> bytes:
        """The value. :raises LookupError: there is none."""

    async def put(self, key: str, value: bytes) -> None: ...

    async def txn(self, fence: str, fence_revision: int, key: str, value: bytes) -> bool:
        """Write the key if the fence was created at that revision, else read the fence; whether it was."""

    async def watch(self, prefix: str, since: int, told: Told) -> None:
        """Tell each event after ``since``, the value now and the one before, until ``told`` says that it was
        enough."""


def answer_turns(connect: Callable[[str, int], AbstractAsyncContextManager[AsyncClient]]) -> None:
    """Answer turns until there are no more. ``connect`` is given the address of etcd's client port."""
    asyncio.run(_answer(connect))


async def _answer(connect: Callable[[str, int], AbstractAsyncContextManager[AsyncClient]]) -> None:
    async with connect(sys.argv[1], int(sys.argv[2])) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            turn = json.loads(line)
            outcome = await (
                _watch(client, Watching(**turn)) if "prefix" in turn else _call(client, Calls(**turn))
            )
            say(json.dumps(asdict(outcome)))


async def _call(client: AsyncClient, turn: Calls) -> Outcome:
    call = _one_call(client, turn)
    numbers = iter(range(turn.calls))
    latencies_s: list[float] = []

    async def one_after_another() -> None:
        for number in numbers:
            sent_s = time.monotonic()
            await call(key(turn.kind, number))
            latencies_s.append(time.monotonic() - sent_s)

    began_s, began_cpu_s = time.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(turn.in_flight):
            group.create_task(one_after_another())
    return Outcome(began_s, time.monotonic(), time.process_time() - began_cpu_s, latencies_s)


def _one_call(client: AsyncClient, turn: Calls) -> Callable[[str], Awaitable[object]]:
    async def txn(key: str) -> None:
        if not await client.txn(turn.fence, turn.fence_revision, key, _VALUE):
            raise AssertionError(f"the fence was not created at {turn.fence_revision}")

    kinds: dict[str, Callable[[str], Awaitable[object]]] = {
        "get": client.get,
        "put": lambda key: client.put(key, _VALUE),
        "txn": txn,
    }
    return kinds[turn.kind]


async def _watch(client: AsyncClient, turn: Watching) -> Outcome:
    tally = Tally(turn)
    await client.watch(turn.prefix, turn.since, tally.told)
    return tally.outcome()
