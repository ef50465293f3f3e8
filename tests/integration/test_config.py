"""Configurations against a real etcd: what a change may do, and what is kept of it."""

import asyncio
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel, Field

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, NotFound, SettingsError
from leaderjob.etcd import Etcd
from leaderjob.recipes import (
    ConfigStore,
    ConfigTooLarge,
    ConfigUnreadable,
    Difference,
    InvalidConfig,
    InvalidPath,
)
from leaderjob.telemetry.events import Events, listen
from tests.support.configurations import FOREIGN, App, Pool, opened, root
from tests.support.etcd import etcdctl, every_release


class Demanding(BaseModel):
    host: str


def below(etcd: EmbeddedEtcd, namespace: str) -> str:
    return etcdctl(etcd.endpoint, "get", "--prefix", root(namespace))


@every_release("etcd")
async def test_where_nothing_is_set_the_defaults_apply_and_what_is_set_overrides_them(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with opened(etcd, namespace) as store:
        assert await store.get() == App()
        await store.set("pools.reports.size", 9)
        await store.set(("pools", "a.b", "host"), "db")
        await store.set('pools."a.b".size', 2)
        await store.set("note", None)
        assert await store.get() == App(
            note=None, pools={"reports": Pool(size=9), "a.b": Pool(host="db", size=2)}
        )
        await store.unset("pools.reports.size")
        assert await store.values() == {"note": None, "pools": {"a.b": {"host": "db", "size": 2}}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lowest": 11}, "lowest 11 is above highest 10"),
        ({"lowest": "many"}, "lowest: Input should be a valid integer"),
        ({"highets": 3}, "highets is not known: did you mean 'highest'?"),
        ({"pools.a.hots": "db"}, "pools.a.hots is not known: did you mean 'host'?"),
        ({"pools": {"a": {"hots": "db"}}}, "did you mean 'host'?"),
        ({"pools.a.size.b": 1}, "pools.a.size"),
        ({"lowest": 5, "pools.a.size": 0}, "pools.a.size: Input should be greater than 0"),
        ({"note": float("nan")}, "cannot be stored as JSON"),
        ({"note": object()}, "cannot be stored as JSON"),
        ({"note": "\ud800"}, "cannot be stored as JSON"),
    ],
)
async def test_a_change_that_the_model_refuses_changes_nothing(
    etcd: EmbeddedEtcd, namespace: str, changes: Mapping[str, Any], reason: str
) -> None:
    async with opened(etcd, namespace) as store:
        await store.set("highest", 10)
        before = below(etcd, namespace)
        with pytest.raises(InvalidConfig) as refused:
            await store.update(changes)
        assert reason in str(refused.value)
        assert (refused.value.exit_code, "\n" in str(refused.value)) == (2, False)
        assert below(etcd, namespace) == before


async def test_bad_input_is_refused_before_anything_is_written(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with opened(etcd, namespace) as store, Etcd([etcd.endpoint]) as client:
        for path in ("", ".", "a..b", "a.", '"a', 'a"b"', "a b", ["a", ""], ["\ud800"], ["a"] * 33):
            with pytest.raises(InvalidPath):
                await store.set(path, 1)
        with pytest.raises(SettingsError, match="no change was given"):
            await store.update({})
        with pytest.raises(ConfigTooLarge, match="131072 are allowed"):
            await store.set("note", "x" * 140_000)
        wrongs: list[dict[str, Any]] = [{"keep": 0}, {"keep": 101}, {"timeout_s": 0}]
        for wrong in wrongs:
            with pytest.raises(SettingsError):
                ConfigStore(client, App, "app", namespace=namespace, **wrong)
        for name in ("", "a/b", "A"):
            with pytest.raises(InvalidName):
                ConfigStore(client, App, name, namespace=namespace)
        with pytest.raises(SettingsError, match="give each of its fields a default"):
            ConfigStore(client, Demanding, "app", namespace=namespace)
        with pytest.raises(NotFound, match=r"nothing is set at pools\.x"):
            await store.unset("pools.x")
    assert below(etcd, namespace) == ""


@every_release("etcd")
async def test_two_changes_that_are_valid_alone_cannot_make_an_invalid_whole(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    """One reads, the other commits, the first goes on."""

    class Overtaken(Etcd):
        armed = False

        async def txn(self, *args: Any, **kwargs: Any) -> Any:
            if self.armed:
                self.armed = False
                async with opened(etcd, namespace, by="first") as other:
                    await other.set("lowest", 8)
            return await super().txn(*args, **kwargs)

    async with Overtaken([etcd.endpoint]) as client:
        store = ConfigStore(client, App, "app", namespace=namespace, by="second")
        client.armed = True
        with pytest.raises(InvalidConfig, match="lowest 8 is above highest 5"):
            await store.set("highest", 5)
        assert await store.values() == {"lowest": 8}
        client.armed = True
        await store.update({"highest": 9, "note": "kept"})
        assert await store.values() == {"lowest": 8, "highest": 9, "note": "kept"}
        assert [entry.by for entry in await store.history()] == ["first", "first", "second"]


async def test_changes_at_once_are_all_done_each_with_an_entry_of_its_own(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with opened(etcd, namespace, timeout_s=60) as store:
        made = await asyncio.gather(*(store.set(f"pools.p{i}.size", i + 1) for i in range(12)))
        assert sorted(entry.number for entry in made) == list(range(1, 13))
        history = await store.history()
        assert [entry.number for entry in history] == list(range(1, 13))
        for entry, following in pairwise(history):
            assert following.before == entry.after
        assert len((await store.get()).pools) == 12


async def test_the_history_says_who_did_what_and_keeps_only_so_many_entries(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with opened(etcd, namespace, keep=3, by="alice") as store:
        for lowest in range(5):
            await store.set("lowest", lowest)
        history = await store.history()
        assert [(entry.number, entry.by, entry.what) for entry in history] == [
            (number, "alice", "set lowest") for number in (3, 4, 5)
        ]
        assert (history[0].before, history[0].after) == ({"lowest": 1}, {"lowest": 2})
        assert history[0].at < history[-1].at
    async with opened(etcd, namespace, keep=1) as store:
        await store.unset("lowest")
        assert [entry.what for entry in await store.history()] == ["unset lowest"]


async def test_a_rollback_sets_what_was_set_then_and_is_a_change_of_its_own(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with opened(etcd, namespace, keep=3) as store:
        await store.set("lowest", 1)
        await store.set("pools.a.size", 2)
        await store.set("lowest", 3)
        assert await store.diff(1, 3) == (
            Difference("lowest", 1, 3, True, True),
            Difference("pools.a.size", None, 2, False, True),
        )
        assert await store.diff() == (Difference("lowest", 1, 3, True, True),)
        entry = await store.rollback(2)
        assert (entry.number, entry.what) == (4, "rollback to 2")
        assert await store.values() == {"lowest": 1, "pools": {"a": {"size": 2}}}
        assert await store.diff(2) == ()
        with pytest.raises(NotFound, match="no entry 1: it has 2 to 4"):
            await store.rollback(1)
        with pytest.raises(NotFound):
            await store.diff(1)
        await store.rollback(0)
        assert await store.get() == App()


async def test_a_rollback_to_what_would_no_longer_be_valid_is_refused(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    class Narrow(BaseModel):
        lowest: int = Field(default=0, lt=5)

    async with opened(etcd, namespace) as store, Etcd([etcd.endpoint]) as client:
        await store.set("lowest", 7)
        await store.set("lowest", 3)
        narrow = ConfigStore(client, Narrow, "app", namespace=namespace)
        with pytest.raises(InvalidConfig, match="lowest: Input should be less than 5"):
            await narrow.rollback(1)
        assert (await narrow.get()).lowest == 3


@pytest.mark.parametrize("value", FOREIGN)
async def test_a_foreign_value_that_is_not_valid_is_told_and_the_last_valid_configuration_stays(
    etcd: EmbeddedEtcd, namespace: str, value: bytes
) -> None:
    told: list[Mapping[str, Any]] = []

    def hear(event: Events, fields: Mapping[str, Any]) -> None:
        if event is Events.CONFIG_INVALID:
            told.append(fields)

    stop = listen(hear)
    try:
        async with opened(etcd, namespace) as store, Etcd([etcd.endpoint]) as client:
            await store.set("lowest", 4)
            await client.put(f"{root(namespace)}current", value)
            await client.put(f"{root(namespace)}history/0000000009", b"foreign")
            await client.put(f"{root(namespace)}history/odd", b"foreign")
            assert await store.get() == App(lowest=4)
            assert any(fields["key"].endswith("current") for fields in told)
            assert [entry.number for entry in await store.history()] == [1]
            await store.rollback(1)
            assert await store.values() == {"lowest": 4}
            assert [entry.number for entry in await store.history()] == [1, 10]
            assert await client.get(f"{root(namespace)}history/odd") is not None
    finally:
        stop()


async def test_what_is_no_document_is_not_changed_but_what_is_only_invalid_can_be_repaired(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with opened(etcd, namespace) as store, Etcd([etcd.endpoint]) as client:
        await client.put(f"{root(namespace)}current", FOREIGN[0])
        for change in (store.set("lowest", 1), store.unset("lowest"), store.values(), store.diff()):
            with pytest.raises(ConfigUnreadable, match="Roll back"):
                await change
        await client.put(f"{root(namespace)}current", FOREIGN[3])
        with pytest.raises(InvalidConfig, match="lowest 99 is above"):
            await store.set("note", "x")
        await store.set("lowest", 1)
        assert await store.get() == App(lowest=1)


async def test_etcdctl_reads_the_document_and_each_entry(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with opened(etcd, namespace, by="alice@web") as store:
        await store.set("note", "grün")
    lines = below(etcd, namespace).splitlines()
    assert lines[0] == f"{root(namespace)}current"
    document, entry = json.loads(lines[1]), json.loads(lines[3])
    assert "grün" in lines[1]
    assert (document["v"], document["number"], document["values"]) == (1, 1, {"note": "grün"})
    assert lines[2] == f"{root(namespace)}history/0000000001"
    assert (entry["by"], entry["what"], entry["before"], entry["after"]) == (
        "alice@web",
        "set note",
        {},
        {"note": "grün"},
    )
