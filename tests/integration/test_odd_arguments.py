"""Arguments that no type checker has seen: refused with one sentence, before anything is written or waited for."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd
from leaderjob.recipes import Barrier, Lock, Queue, Semaphore, Session, Timing, Topic
from tests.support.candidates import TIMING

_NO_COUNT: list[Any] = [0, -1, 2.5, True, "5", math.nan]
_NO_TIME: list[Any] = [-1, math.nan, "5", b"5", True]


@asynccontextmanager
async def untouched(etcd: EmbeddedEtcd, namespace: str) -> AsyncIterator[Session]:
    """A session, and a namespace in which nothing is written."""
    async with Etcd([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        yield session
        assert not (await client.range(f"/leaderjob/{namespace}/")).kvs


async def test_a_number_of_something_is_a_whole_one_of_one_at_least(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with untouched(etcd, namespace) as session:
        for count in _NO_COUNT:
            with pytest.raises(SettingsError, match="a whole number, of one at least"):
                Topic(session.etcd, "x", keep_count=count, namespace=namespace)
            with pytest.raises(SettingsError, match="a whole number, of one at least"):
                Queue(session, "x", max_tries=count, namespace=namespace)
            with pytest.raises(SettingsError, match="a whole number, of one at least"):
                Semaphore(session, "x", count, namespace=namespace)


@pytest.mark.parametrize("wait_s", _NO_TIME)
async def test_a_time_to_wait_is_a_number_of_seconds_and_not_negative(
    etcd: EmbeddedEtcd, namespace: str, wait_s: Any
) -> None:
    async with untouched(etcd, namespace) as session:
        barrier = Barrier(session.etcd, "x", namespace=namespace)
        lock, queue = Lock(session, "x", namespace=namespace), Queue(session, "x", namespace=namespace)
        waits: list[Callable[[], Awaitable[Any]]] = [
            lambda: lock.acquire(wait_s=wait_s),
            lambda: queue.get(wait_s=wait_s),
            lambda: queue.claim(wait_s=wait_s),
            lambda: barrier.wait({"a": None}, wait_s=wait_s),
        ]
        for wait in waits:
            with pytest.raises(SettingsError, match="not negative"):
                async with asyncio.timeout(5):
                    await wait()


@pytest.mark.parametrize("value", [5, b"x", None])
async def test_the_value_of_a_condition_is_a_text(etcd: EmbeddedEtcd, namespace: str, value: Any) -> None:
    async with untouched(etcd, namespace) as session:
        barrier = Barrier(session.etcd, "x", namespace=namespace)
        with pytest.raises(SettingsError, match=r"condition db is of type .*, and has to be a text"):
            await barrier.set("db", value)
        if value is not None:
            with pytest.raises(SettingsError, match=r"condition db is of type .*, and has to be a text"):
                await barrier.wait({"db": value}, wait_s=0)


@pytest.mark.parametrize("keep_s", [0, *_NO_TIME])
async def test_a_time_to_keep_messages_is_a_number_of_seconds_above_0(
    etcd: EmbeddedEtcd, namespace: str, keep_s: Any
) -> None:
    async with untouched(etcd, namespace) as session:
        with pytest.raises(SettingsError, match="a number of seconds, above 0"):
            Topic(session.etcd, "x", keep_s=keep_s, namespace=namespace)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, "5", True])
@pytest.mark.parametrize("what", ["ttl_s", "margin_s", "keepalive_s"])
def test_a_session_keeps_time_by_numbers_of_seconds(what: str, seconds: Any) -> None:
    with pytest.raises(SettingsError, match=rf"{what.removesuffix('_s')} .*: a number of seconds"):
        Timing(**{what: seconds})
