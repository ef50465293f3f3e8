"""Random changes, lost answers, and others' hands: a configuration is always valid, and nothing is lost or done twice."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from contextlib import aclosing
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

from hypothesis import example, given
from hypothesis import strategies as st

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import LeaderjobError, NotFound
from leaderjob.etcd import Etcd
from leaderjob.recipes import ConfigStore, ConfigUnreadable, InvalidConfig
from tests.property.profile import profile
from tests.support.configurations import FOREIGN, App, Mute, root
from tests.support.streams import run_with_streams

_KEEP = 4
_DEFAULTS: dict[str, Any] = {"lowest": 0, "highest": 10}


@dataclass
class Model:
    """What should be in etcd. :param values: of the document; None: it is none."""

    values: dict[str, Any] | None = field(default_factory=dict)
    document: int | None = None
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    valid: list[dict[str, Any]] = field(default_factory=lambda: [{}])

    def in_force(self) -> dict[str, Any]:
        if self.values is not None and is_valid(self.values):
            return self.values
        return self.history[max(self.history)] if self.history else {}

    def commit(self, values: dict[str, Any]) -> None:
        number = max([0, self.document or 0, *self.history]) + 1
        self.values, self.document = values, number
        self.history[number] = values
        self.history = {at: old for at, old in self.history.items() if at > number - _KEEP}
        self.valid.append(values)


def is_valid(values: Mapping[str, Any]) -> bool:
    known = {**_DEFAULTS, **values}
    return (
        bool(known["lowest"] <= known["highest"]) and known.get("pools", {}).get("a", {}).get("size", 1) > 0
    )


class Change(Protocol):
    def expect(self, model: Model) -> type[LeaderjobError] | None:
        """Do it to the model; or what is raised."""

    async def make(self, store: ConfigStore[App], latest: int) -> None: ...


@dataclass(frozen=True)
class Set:
    changes: tuple[tuple[str, int], ...]

    def expect(self, model: Model) -> type[LeaderjobError] | None:
        if model.values is None:
            return ConfigUnreadable
        values = deepcopy(model.values)
        for path, value in self.changes:
            if path == "size":
                values["pools"] = {"a": {"size": value}}
            else:
                values[path] = value
        if not is_valid(values):
            return InvalidConfig
        model.commit(values)
        return None

    async def make(self, store: ConfigStore[App], latest: int) -> None:
        await store.update(
            {"pools.a.size" if path == "size" else path: value for path, value in self.changes}
        )


@dataclass(frozen=True)
class Unset:
    name: str

    def expect(self, model: Model) -> type[LeaderjobError] | None:
        if model.values is None:
            return ConfigUnreadable
        if self.name not in model.values:
            return NotFound
        values = {name: value for name, value in model.values.items() if name != self.name}
        if not is_valid(values):
            return InvalidConfig
        model.commit(values)
        return None

    async def make(self, store: ConfigStore[App], latest: int) -> None:
        await store.unset("pools.a" if self.name == "pools" else self.name)


@dataclass(frozen=True)
class Rollback:
    """:param back: how many entries."""

    back: int

    def expect(self, model: Model) -> type[LeaderjobError] | None:
        number = max([0, *model.history]) - self.back
        if number < 0 or (number and number not in model.history):
            return NotFound
        model.commit(model.history.get(number, {}))
        return None

    async def make(self, store: ConfigStore[App], latest: int) -> None:
        await store.rollback(latest - self.back)


@dataclass(frozen=True)
class One:
    """A change, and what becomes of the first answers."""

    change: Set | Unset | Rollback
    answers: tuple[str, ...]

    async def take(self, world: "World") -> None:
        latest = max([0, *world.model.history])
        expected = self.change.expect(world.model)
        assert await world.make(self.change, self.answers, latest) is expected


@dataclass(frozen=True)
class Both:
    """Two changes at once: as if one had come after the other."""

    first: Set | Unset
    second: Set | Unset

    async def take(self, world: "World") -> None:
        changes = (self.first, self.second)
        got = await asyncio.gather(*(world.make(change, (), 0) for change in changes))
        stored = await world.store.values() if world.model.values is not None else None
        for order in ((0, 1), (1, 0)):
            model = deepcopy(world.model)
            outcome = {index: changes[index].expect(model) for index in order}
            if [outcome[0], outcome[1]] == got and model.values == stored:
                entries = await world.store.history()
                if [entry.after for entry in entries] == list(model.history.values()):
                    world.model = model
                    return
        raise AssertionError(f"{changes} gave {got} and {stored} on {world.model}, which no order does")


@dataclass(frozen=True)
class Foreign:
    """Somebody writes over the document what is not valid."""

    number: int

    async def take(self, world: "World") -> None:
        value = FOREIGN[self.number]
        await world.outside.put(f"{root(world.namespace)}current", value)
        world.model.values, world.model.document = None, None
        if self.number == 3:
            record = json.loads(value)
            world.model.values, world.model.document = record["values"], record["number"]


@dataclass(frozen=True)
class Delete:
    """Somebody deletes the document."""

    async def take(self, world: "World") -> None:
        if await world.outside.delete(f"{root(world.namespace)}current"):
            world.model.values, world.model.document = {}, None
            world.model.valid.append({})


Step = One | Both | Foreign | Delete

_sets = st.builds(
    Set,
    st.lists(
        st.tuples(st.sampled_from(["lowest", "highest", "size"]), st.integers(0, 12)),
        min_size=1,
        max_size=2,
        unique_by=lambda one: one[0],
    ).map(tuple),
)
_unsets = st.builds(Unset, st.sampled_from(["lowest", "highest", "pools"]))
_answers = st.lists(st.sampled_from(["answer", "done", "lost", "unavailable"]), max_size=2).map(tuple)
_steps = st.one_of(
    st.builds(One, _sets | _unsets | st.builds(Rollback, st.integers(0, 6)), _answers),
    st.builds(Both, _sets | _unsets, _sets | _unsets),
    st.builds(Foreign, st.integers(0, 3)),
    st.just(Delete()),
)


class World:
    def __init__(self, client: Mute, outside: Etcd, namespace: str) -> None:
        self.client, self.outside, self.namespace = client, outside, namespace
        self.client.namespace, self.client.plan = namespace, []
        self.store = ConfigStore(client, App, "app", namespace=namespace, keep=_KEEP)
        self.model = Model()

    async def make(
        self, change: Change, answers: tuple[str, ...], latest: int
    ) -> type[LeaderjobError] | None:
        # Whoever cannot send a change at all has not changed anything: only what comes after a try is made up.
        self.client.plan = [
            step for step in answers if step != "unavailable" or answers[0] in ("done", "lost")
        ]
        try:
            await change.make(self.store, latest)
        except (InvalidConfig, NotFound, ConfigUnreadable) as error:
            return type(error)
        finally:
            self.client.plan = []
        return None

    async def check(self) -> None:
        wanted = App.model_validate(self.model.in_force())
        assert await self.store.get() == wanted
        entries = await self.store.history()
        assert {entry.number: entry.after for entry in entries} == self.model.history
        assert len(entries) <= _KEEP


@profile(15)
@example(steps=[One(Set((("lowest", 8),)), ("done",)), Both(Set((("highest", 9),)), Set((("lowest", 10),)))])
@example(steps=[Foreign(3), One(Rollback(0), ("lost", "done")), Delete(), One(Unset("lowest"), ())])
@given(steps=st.lists(_steps, min_size=1, max_size=10))
def test_configurations_are_as_if_changes_came_one_after_the_other(
    etcd: EmbeddedEtcd, steps: list[Step]
) -> None:
    async def main() -> None:
        namespace = f"config-{secrets.token_hex(4)}"
        async with Mute([etcd.endpoint]) as client, Etcd([etcd.endpoint]) as outside:
            world = World(client, outside, namespace)
            async with aclosing(ConfigStore(outside, App, "app", namespace=namespace).watch()) as watching:
                seen = [await anext(watching)]
                for step in steps:
                    await step.take(world)
                    await world.check()
                async with asyncio.timeout(10):
                    while len(seen) < len(world.model.valid):
                        seen.append(await anext(watching))
            assert seen == [App.model_validate(values) for values in world.model.valid]

    run_with_streams(main(), timeout_s=60)
