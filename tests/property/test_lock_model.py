"""Locks, read-write locks and semaphores against a model: a line, of which the first ones hold.

A step is one session that acquires, releases, gives up, or crashes (its lease is gone, and it comes back with a new
one). After each step those hold who have to, and nobody else; at the moment that one comes in, all who are inside
already may be there together with it.
"""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import Held, Session
from leaderjob.recipes.lock import _Acquirable
from tests.property.lockable import FOLDERS, PERMITS, lock_of
from tests.property.profile import profile
from tests.support.locks import TIMING, until_standing
from tests.support.streams import run_with_streams

SESSIONS = 4


class Step(NamedTuple):
    action: str
    who: int
    writes: bool


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["acquire", "acquire", "acquire", "release", "release", "give up", "crash"]),
        st.integers(0, SESSIONS - 1),
        st.booleans(),
    ),
    min_size=6,
    max_size=24,
)


class Place(NamedTuple):
    who: int
    writes: bool


class Line:
    """The sessions, their places, and who is inside."""

    def __init__(self, kind: str, etcd: Etcd, namespace: str) -> None:
        self.kind = kind
        self.etcd = etcd
        self.namespace = namespace
        self.sessions: dict[int, Session] = {}
        self.places: list[Place] = []
        self.tasks: dict[int, asyncio.Task[Held]] = {}
        self.locks: dict[int, _Acquirable] = {}
        self.inside: set[Place] = set()
        self.tokens: list[int] = []

    def holders(self) -> list[Place]:
        """Who has to hold it, by the model."""
        if self.kind == "lock":
            return self.places[:1]
        if self.kind == "semaphore":
            return self.places[:PERMITS]
        first_writer = next((n for n, place in enumerate(self.places) if place.writes), len(self.places))
        return self.places[: max(first_writer, 1)]

    def may_enter(self, place: Place) -> bool:
        if self.kind == "lock":
            return not self.inside
        if self.kind == "semaphore":
            return len(self.inside) < PERMITS
        return not any(other.writes or place.writes for other in self.inside)

    def place_of(self, who: int) -> Place | None:
        return next((place for place in self.places if place.who == who), None)

    def lock_of(self, place: Place) -> _Acquirable:
        return lock_of(self.kind, self.sessions[place.who], self.namespace, writes=place.writes)

    async def enter(self, place: Place) -> Held:
        held = await self.locks[place.who].acquire()
        assert self.may_enter(place), f"{place} came in to {self.inside}"
        self.inside.add(place)
        assert held.token not in self.tokens, "a token was given twice"
        if self.kind == "lock":
            assert held.token > max(self.tokens, default=0), "a later holder has a smaller token"
        self.tokens.append(held.token)
        return held

    def acquire(self, step: Step) -> None:
        place = Place(step.who, step.writes and self.kind == "rwlock")
        self.places.append(place)
        self.locks[step.who] = self.lock_of(place)
        self.tasks[step.who] = asyncio.create_task(self.enter(place))

    async def leave(self, place: Place, action: str) -> None:
        self.places.remove(place)
        task = self.tasks.pop(place.who)
        was_inside = place in self.inside
        self.inside.discard(place)
        if action == "crash":
            await self.etcd.revoke(self.sessions[place.who].lease_id)
        elif was_inside:
            await self.locks[place.who].release(await task)
        task.cancel()
        await asyncio.wait([task])

    async def do(self, step: Step) -> None:
        place = self.place_of(step.who)
        if step.action == "acquire":
            if place is None:
                self.acquire(step)
        elif step.action == "crash":
            if place is not None:
                await self.leave(place, "crash")
            await self.sessions[step.who].close()
            await self.open(step.who)
        elif place is not None and (place in self.inside) == (step.action == "release"):
            await self.leave(place, step.action)
        await self.check()

    async def open(self, who: int) -> None:
        self.sessions[who] = await (await Session.open(self.etcd, TIMING)).__aenter__()

    async def check(self) -> None:
        """Those hold who have to, and nobody else; as many keys are there as places."""
        prefix = f"/leaderjob/{self.namespace}/{FOLDERS[self.kind]}"
        await asyncio.wait_for(until_standing(self.etcd.connection.endpoint, prefix, len(self.places)), 5)
        holders = self.holders()
        for place in holders:
            held = await asyncio.wait_for(asyncio.shield(self.tasks[place.who]), 5)
            held.check()
        for task in self.tasks.values():
            assert not task.done() or task.exception() is None
        assert self.inside == set(holders)


@pytest.mark.parametrize("kind", FOLDERS)
@profile(4)
@given(steps=STEPS)
def test_those_hold_who_have_to_and_nobody_else(etcd: EmbeddedEtcd, kind: str, steps: Sequence[Step]) -> None:
    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client, AsyncExitStack() as stack:
            line = Line(kind, client, f"test-{secrets.token_hex(4)}")
            for who in range(SESSIONS):
                await line.open(who)
                stack.push_async_callback(lambda who=who: line.sessions[who].close())  # type: ignore[misc]
            try:
                for step in steps:
                    await line.do(step)
                for place in tuple(line.places):
                    await line.leave(place, "release")
                await line.check()
            finally:
                for task in line.tasks.values():
                    task.cancel()
                await asyncio.gather(*line.tasks.values(), return_exceptions=True)

    run_with_streams(main(), timeout_s=60)
