"""Optimistic transactions against a real etcd: all or nothing, as if one after the other, each exactly once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import (
    AmbiguousWrite,
    Etcd,
    KeyExists,
    Transaction,
    TransactionConflict,
    ValueTooLarge,
    transaction,
)
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl, every_release


class InsufficientFunds(Exception):
    pass


@dataclass
class Bank:
    """Accounts in etcd. ``client`` reaches them through ``proxy``, ``outside`` directly."""

    client: Etcd
    proxy: Cuttable
    outside: Etcd
    root: str

    def account(self, name: str) -> str:
        return f"{self.root}accounts/{name}"

    def entry(self, name: str) -> str:
        return f"{self.root}transfers/{name}"

    async def balance(self, name: str) -> int:
        found = await self.outside.get(self.account(name))
        assert found is not None
        return int(found.value)

    async def opens(self, **balances: int) -> None:
        for name, balance in balances.items():
            await self.outside.put(self.account(name), str(balance).encode())

    async def pay(self, t: Transaction, amount: int, *, entry: str | None = None) -> int:
        """From a to b; returns what is left of a."""
        left = int(await t.get(self.account("a")) or b"0") - amount
        if left < 0:
            raise InsufficientFunds
        t.put(self.account("a"), str(left).encode())
        t.put(self.account("b"), str(int(await t.get(self.account("b")) or b"0") + amount).encode())
        if entry:
            await t.create(self.entry(entry), str(amount).encode())
        return left


@asynccontextmanager
async def bank(etcd: EmbeddedEtcd, namespace: str) -> AsyncIterator[Bank]:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
        Etcd([etcd.endpoint]) as outside,
    ):
        await client.get("/quiet")
        yield Bank(client, proxy, outside, f"/{namespace}/")
        proxy.heal()


@every_release("etcd")
async def test_a_transfer_changes_both_accounts_at_one_revision(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with bank(etcd, namespace) as it:
        await it.opens(a=100, b=0)
        assert await transaction(it.client, lambda t: it.pay(t, 30, entry="1")) == 70
        found = (await it.outside.range(it.root)).kvs
        assert [kv.value for kv in found] == [b"70", b"30", b"30"]
        assert len({kv.mod_revision for kv in found}) == 1


async def test_where_the_body_raises_nothing_is_written(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with bank(etcd, namespace) as it:
        await it.opens(a=100, b=0)

        async def too_much(t: Transaction) -> None:
            t.put(it.account("b"), b"1000")
            await it.pay(t, 101)

        with pytest.raises(InsufficientFunds):
            await transaction(it.client, too_much)
        assert (await it.balance("a"), await it.balance("b")) == (100, 0)


@every_release("etcd")
async def test_of_many_at_once_none_is_lost_and_none_is_done_twice(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with bank(etcd, namespace) as it:
        await it.opens(a=100, b=0)
        left = await asyncio.gather(
            *(transaction(it.client, lambda t: it.pay(t, 1), timeout_s=20) for _ in range(20))
        )
        assert sorted(left) == list(range(80, 100))
        assert (await it.balance("a"), await it.balance("b")) == (80, 20)


async def test_it_reads_its_own_writes_and_everything_else_at_one_revision(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    seen = []

    async with bank(etcd, namespace) as it:
        await it.opens(a=1, b=1)

        async def body(t: Transaction) -> None:
            first = await t.get(it.account("a"))
            if not seen:
                await it.opens(a=2, b=2)
            seen.append((first, await t.get(it.account("b"))))
            t.put(it.account("a"), b"3")
            assert await t.get(it.account("a")) == b"3"
            t.delete(it.account("b"))
            assert await t.get(it.account("b")) is None

        await transaction(it.client, body)
        assert seen == [(b"1", b"1"), (b"2", b"2")]
        assert await it.balance("a") == 3
        assert await it.outside.get(it.account("b")) is None


@pytest.mark.parametrize("touched", ["read", "written", "absent"])
async def test_whatever_it_stands_on_must_not_change_before_the_commit(
    etcd: EmbeddedEtcd, namespace: str, touched: str
) -> None:
    async with bank(etcd, namespace) as it:
        await it.opens(read=1, written=1)
        tries = 0

        async def body(t: Transaction) -> None:
            nonlocal tries
            tries += 1
            await t.get(it.account("read"))
            await t.get(it.account("absent"))
            t.put(it.account("written"), b"7")
            if tries == 1:
                await it.opens(**{touched: 2})

        await transaction(it.client, body)
        assert tries == 2
        assert await it.balance("written") == 7


async def test_what_only_reads_is_never_in_conflict(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with bank(etcd, namespace) as it:
        await it.opens(a=1)

        async def body(t: Transaction) -> bytes | None:
            found = await t.get(it.account("a"))
            await it.opens(a=2)
            return found

        assert await transaction(it.client, body) == b"1"


async def test_a_key_that_is_to_be_created_must_not_be_there(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with bank(etcd, namespace) as it:
        await it.opens(a=100, b=0)
        await transaction(it.client, lambda t: it.pay(t, 1, entry="1"))
        with pytest.raises(KeyExists, match="transfers/1"):
            await transaction(it.client, lambda t: it.pay(t, 1, entry="1"))
        assert await it.balance("a") == 99


@pytest.mark.timeout_s(5)
async def test_who_is_always_too_late_gives_up_in_time(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with bank(etcd, namespace) as it:
        await it.opens(a=1)
        tries = 0

        async def body(t: Transaction) -> None:
            nonlocal tries
            tries += 1
            await t.get(it.account("a"))
            await it.opens(a=tries)
            t.put(it.account("a"), b"mine")

        with pytest.raises(TransactionConflict, match=r"given up after 0\.3 s and \d+ tries"):
            await transaction(it.client, body, timeout_s=0.3)
        assert tries > 1
        assert await it.balance("a") == tries


async def test_a_compaction_under_it_costs_a_try_and_nothing_else(own_etcd: EmbeddedEtcd) -> None:
    async with bank(own_etcd, "ns") as it:
        await it.opens(a=1, b=1)
        tries = 0

        async def body(t: Transaction) -> None:
            nonlocal tries
            tries += 1
            await t.get(it.account("a"))
            if tries == 1:
                revision = await it.outside.put(it.account("c"), b"1")
                etcdctl(own_etcd.endpoint, "compact", str(revision))
            t.put(it.account("b"), await t.get(it.account("a")) or b"")

        await transaction(it.client, body)
        assert tries == 2


async def test_more_keys_than_etcd_takes_are_refused_and_nothing_is_written(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with bank(etcd, namespace) as it:

        async def body(t: Transaction) -> None:
            for number in range(129):
                t.put(it.account(str(number)), b"")

        with pytest.raises(ValueTooLarge, match="129 entries"):
            await transaction(it.client, body)
        assert (await it.outside.range(it.root)).count == 0


def paying_while_cut(it: Bank, *, entry: str | None, **directions: bool) -> "asyncio.Task[int]":
    """A transfer of 10 whose reads are answered, and whose commit the proxy holds back.

    :param directions: which are cut, see :meth:`Cuttable.cut`.
    """
    reads = 3 if entry else 2

    def count(seconds: float) -> None:
        nonlocal reads
        reads -= 1
        if not reads:
            it.proxy.cut(**directions)

    it.client.connection.on_round_trip = count
    return asyncio.ensure_future(transaction(it.client, lambda t: it.pay(t, 10, entry=entry)))


async def until_paid(it: Bank, paying: "asyncio.Task[int]") -> None:
    while await it.balance("b") == 0:  # the answer is held back; nothing else tells
        assert not paying.done()


@pytest.mark.timeout_s(10)
async def test_a_commit_whose_answer_is_lost_is_told_by_what_it_created(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with bank(etcd, namespace) as it:
        await it.opens(a=100, b=0)
        paying = paying_while_cut(it, entry="1", requests=False)
        await until_paid(it, paying)
        await it.outside.put(it.account("a"), b"50")
        it.proxy.reset()
        it.proxy.heal()
        assert await paying == 90
        assert (await it.balance("a"), await it.balance("b")) == (50, 10)


@pytest.mark.timeout_s(10)
async def test_without_such_a_key_its_outcome_is_not_guessed(etcd: EmbeddedEtcd, namespace: str) -> None:
    """Somebody else may have paid the same amount."""

    async with bank(etcd, namespace) as it:
        await it.opens(a=100, b=0)
        paying = paying_while_cut(it, entry=None, requests=False)
        await until_paid(it, paying)
        it.proxy.reset()
        it.proxy.heal()
        with pytest.raises(AmbiguousWrite):
            await paying
        assert (await it.balance("a"), await it.balance("b")) == (90, 10)


@pytest.mark.parametrize("entry", ["1", None])
@pytest.mark.parametrize("changed", ["nothing", "the account"])
@pytest.mark.timeout_s(10)
async def test_a_commit_that_is_lost_on_its_way_is_done_exactly_once(
    etcd: EmbeddedEtcd, namespace: str, entry: str | None, changed: str
) -> None:
    async with bank(etcd, namespace) as it:
        await it.opens(a=100, b=0)
        paying = paying_while_cut(it, entry=entry, answers=False)
        await it.proxy.holding_request()
        if changed == "the account":
            await it.opens(a=200)
        it.proxy.reset()
        it.proxy.heal()
        left = 90 if changed == "nothing" else 190
        assert await paying == left
        assert (await it.balance("a"), await it.balance("b")) == (left, 10)
