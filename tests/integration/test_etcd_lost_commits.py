"""Optimistic transactions whose commit got no answer: done exactly once, or nobody claims to know."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import AmbiguousWrite, Compare, Etcd, Get, Op, Put, Transaction, TxnResult, transaction
from leaderjob.etcd.rpc import rpc
from tests.support.unanswered import Fate, Unanswered


class LosingAnswers(Unanswered):
    """``once_refused`` happens once a commit's compares did not hold, and before the client learns that."""

    once_refused: Callable[[], Awaitable[object]] | None = None

    async def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        repeatable: bool = False,
        within_s: float | None = None,
    ) -> TxnResult:
        result = await super().txn(compares, success, failure, repeatable=repeatable, within_s=within_s)
        if not result.succeeded and self.once_refused is not None:
            happens, self.once_refused = self.once_refused, None
            await happens()
        return result


class Scene:
    """A counter, and who counts it up in a transaction; ``outside`` is somebody else."""

    def __init__(self, client: LosingAnswers, outside: Etcd, root: str) -> None:
        self.client = client
        self.outside = outside
        self.root = root

    async def count(self) -> int:
        found = await self.outside.get(f"{self.root}count")
        assert found is not None
        return int(found.value)

    async def count_up(self, t: Transaction) -> None:
        t.put(f"{self.root}count", str(int(await t.get(f"{self.root}count") or b"0") + 1).encode())

    async def lock(self) -> None:
        await self.outside.put(f"{self.root}lock", b"")

    async def unlock_and_deliver(self) -> None:
        """The commit that was kept arrives after all, and finds what it stands on as it was."""
        await self.outside.delete(f"{self.root}lock")
        assert await self.client.deliver_late() == [True]


@asynccontextmanager
async def scene(etcd: EmbeddedEtcd, namespace: str, fate: Fate) -> AsyncIterator[Scene]:
    async with LosingAnswers([etcd.endpoint]) as client, Etcd([etcd.endpoint]) as outside:
        it = Scene(client, outside, f"/{namespace}/")
        await outside.put(f"{it.root}count", b"0")
        client.fates = [fate]
        yield it


@pytest.mark.parametrize("receipt", [False, True])
async def test_a_commit_that_a_new_key_kept_back_may_land_once_that_key_is_gone(
    etcd: EmbeddedEtcd, namespace: str, receipt: bool
) -> None:
    """An absent key comes back to being absent, so its creation does not settle that nothing was done."""

    async with scene(etcd, namespace, "later") as it:
        it.client.meanwhile, it.client.once_refused = it.lock, it.unlock_and_deliver

        async def body(t: Transaction) -> None:
            assert await t.get(f"{it.root}lock") is None
            await it.count_up(t)
            if receipt:
                await t.create(f"{it.root}entry", b"")

        if receipt:
            await transaction(it.client, body)
        else:
            with pytest.raises(AmbiguousWrite):
                await transaction(it.client, body)
        assert await it.count() == 1


async def test_what_is_kept_back_by_a_key_that_stays_is_not_known_in_time(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with scene(etcd, namespace, "later") as it:
        it.client.meanwhile = it.lock

        async def body(t: Transaction) -> None:
            await t.get(f"{it.root}lock")
            await it.count_up(t)
            await t.create(f"{it.root}entry", b"")

        with pytest.raises(AmbiguousWrite):
            await transaction(it.client, body, timeout_s=0.3)
        assert await it.count() == 0


@pytest.mark.parametrize("fate", ["done", "never"])
async def test_a_key_that_was_there_before_is_no_receipt(
    etcd: EmbeddedEtcd, namespace: str, fate: Fate
) -> None:
    async with scene(etcd, namespace, fate) as it:
        await it.outside.put(f"{it.root}entry", b"old")

        async def body(t: Transaction) -> None:
            await it.count_up(t)
            t.delete(f"{it.root}entry")
            await t.create(f"{it.root}entry", b"new")

        async def others() -> None:
            await it.outside.put(f"{it.root}count", b"50")

        it.client.meanwhile = others
        if fate == "never":
            await transaction(it.client, body)
            assert await it.count() == 51
            entry = await it.outside.get(f"{it.root}entry")
            assert entry is not None
            assert entry.value == b"new"
        else:
            with pytest.raises(AmbiguousWrite):
                await transaction(it.client, body)
            assert await it.count() == 50


async def test_a_key_that_the_transaction_deletes_again_is_no_receipt(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with scene(etcd, namespace, "done") as it:

        async def body(t: Transaction) -> None:
            await it.count_up(t)
            await t.create(f"{it.root}entry", b"")
            t.delete(f"{it.root}entry")

        with pytest.raises(AmbiguousWrite):
            await transaction(it.client, body)
        assert await it.count() == 1


@pytest.mark.parametrize("leased", [False, True])
async def test_a_commit_of_nothing_but_new_keys_is_not_sent_again(
    etcd: EmbeddedEtcd, namespace: str, leased: bool
) -> None:
    """Done, and consumed by somebody else, it would find everything as it was, and be done twice."""

    async with scene(etcd, namespace, "done") as it:
        order = f"{it.root}order"
        lease = (await it.outside.grant(60))[0] if leased else 0
        it.client.meanwhile = lambda: it.outside.delete(order)

        async def body(t: Transaction) -> None:
            if leased:
                await t.create(order, b"", lease=lease)
            elif await t.get(order) is None:
                t.put(order, b"")

        with pytest.raises(AmbiguousWrite):
            await transaction(it.client, body)
        assert await it.outside.get(order) is None


async def test_a_refusal_for_want_of_space_does_not_say_that_nothing_was_written(
    own_etcd: EmbeddedEtcd,
) -> None:
    async with scene(own_etcd, "ns", "done") as it:

        async def raise_alarm() -> None:
            request = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, alarm=rpc.NOSPACE)
            async with Etcd([own_etcd.endpoint]) as operator:
                await operator.connection.call(
                    lambda stubs: stubs.maintenance.Alarm, request, repeatable=True, linearizable=False
                )

        it.client.meanwhile = raise_alarm
        with pytest.raises(AmbiguousWrite):
            await transaction(it.client, it.count_up, timeout_s=0.3)
        assert await it.count() == 1


async def test_any_other_refusal_does_not_say_so_either(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with scene(etcd, namespace, "done") as it:
        it.client.meanwhile = it.client.close
        with pytest.raises(AmbiguousWrite) as caught:
            await transaction(it.client, it.count_up)
        assert "closed" in str(caught.value.__cause__)
        assert await it.count() == 1


async def test_reads_at_the_same_time_are_of_one_revision(etcd: EmbeddedEtcd, namespace: str) -> None:
    one_after_the_other = asyncio.Lock()

    class Changing(Etcd):
        """Whoever reads without a revision finds that all has changed by the next time."""

        written = 0

        async def txn(
            self,
            compares: Sequence[Compare] = (),
            success: Sequence[Op] = (),
            failure: Sequence[Op] = (),
            *,
            repeatable: bool = False,
            within_s: float | None = None,
        ) -> TxnResult:
            async with one_after_the_other:
                result = await super().txn(compares, success, failure, repeatable=repeatable)
                self.written += 1
                value = str(self.written).encode()
                await super().txn((), [Put(f"/{namespace}/{name}", value) for name in "abc"])
                return result

    async def read(t: Transaction) -> list[bytes | None]:
        return await asyncio.gather(*(t.get(f"/{namespace}/{name}") for name in "abca"))

    async with Changing([etcd.endpoint]) as client:
        await client.txn((), [Get("/any")])
        assert await transaction(client, read) == [b"1"] * 4
