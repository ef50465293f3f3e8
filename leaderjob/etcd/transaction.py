"""Optimistic transactions: read and write as if nobody else did, and commit if nobody else did.

Software transactional memory as etcd's ``clientv3/concurrency/stm.go`` has it, with the isolation that is
called ``SerializableSnapshot`` there: all reads are of one revision, and the commit compares the
``mod_revision`` of every key that was read or is written. Other than there, a commit that got no answer is
settled: it is sent again, unless it could be done twice so, and where that does not tell, the caller is.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from leaderjob.clock import boottime
from leaderjob.errors import LeaderjobError
from leaderjob.etcd.client import Etcd
from leaderjob.etcd.errors import AmbiguousWrite, Compacted, EtcdError, EtcdUnavailable, NoSpace
from leaderjob.etcd.full import in_doubt, look_after_no_space
from leaderjob.etcd.txn import Delete, Get, Op, Put, Txn, TxnResult, modified_at
from leaderjob.etcd.values import KeyValue

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 1.0
_PAUSE_BEFORE_RESEND_S = 0.1

T = TypeVar("T")


class TransactionConflict(LeaderjobError):
    """Others changed the same keys, again and again. Nothing was written."""

    def __init__(self, tries: int, timeout_s: float) -> None:
        super().__init__(
            f"a transaction was given up after {timeout_s:g} s and {tries} tries: each time others had changed what it "
            "read, or was to write. Nothing was written; let it touch fewer keys, or let fewer try at once"
        )


class KeyExists(LeaderjobError):
    """What a transaction was to create is there already. Nothing was written."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the key {key!r}, which was to be created, is there already; nothing was written: read it, or take another key"
        )
        self.key = key


class Transaction:
    """What one try reads, all of it at one revision, and what it is going to write."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._revision = 0
        self._read: dict[str, KeyValue | None] = {}
        self._writes: dict[str, Put | Delete] = {}
        self._created: set[str] = set()
        self._choosing_revision = asyncio.Lock()

    async def get(self, key: str) -> bytes | None:
        """The value, which may be one that this transaction is going to write; None: there is no such key."""
        write = self._writes.get(key)
        if write is not None:
            return write.value if isinstance(write, Put) else None
        found = await self._find(key)
        return None if found is None else found.value

    def put(self, key: str, value: bytes, *, lease: int = 0) -> None:
        self._writes[key] = Put(key, value, lease)

    def delete(self, key: str) -> None:
        """One that is not there is no error."""
        self._writes[key] = Delete(key)

    async def create(self, key: str, value: bytes, *, lease: int = 0) -> None:
        """Put a key that must not be there yet, and that nobody else writes or deletes: from then on it tells
        that the transaction was done, also where its commit got no answer. (Not if this transaction deletes it,
        before or after, and not with a lease: the key may be gone by then, although the transaction was done.)

        :raises KeyExists: it is there.
        """
        if await self.get(key) is not None:
            raise KeyExists(key)
        self._created.add(key)
        self.put(key, value, lease=lease)

    async def commit(self, *, give_up_at: float) -> bool:
        """Whether it was done; if not, what it stands on has changed.

        :param give_up_at: boot time in seconds, after which an unanswered commit is not sent again.
        :raises AmbiguousWrite: nobody knows.
        """
        if not self._writes:
            return True
        for key in self._writes:
            await self._find(key)
        compares = [modified_at(key, _modified(found)) for key, found in self._read.items()]
        ops: list[Op] = list(self._writes.values())
        unanswered: AmbiguousWrite | None = None
        while True:
            result, unanswered = await self._send(Txn(tuple(compares), tuple(ops), self._reads), unanswered)
            if unanswered is None:
                return result is not None and result.succeeded
            if result is not None:
                done = result.succeeded or self._was_done(result, unanswered)
                if done is not None:
                    return done
                if not self._cannot_be_done_twice():
                    raise unanswered
            if boottime() >= give_up_at:
                raise unanswered
            await asyncio.sleep(_PAUSE_BEFORE_RESEND_S)

    async def _send(
        self, txn: Txn, unanswered: AmbiguousWrite | None
    ) -> tuple[TxnResult | None, AmbiguousWrite | None]:
        """What etcd says to it, if it says anything; and what is not known of this or an earlier try."""
        try:
            return await self._etcd.txn(txn.compares, txn.success, txn.failure), unanswered
        except AmbiguousWrite as error:
            if not self._cannot_be_done_twice():
                raise
            return None, error
        except NoSpace:
            changed = await look_after_no_space(self._etcd, txn.compares, self._reads)
            if changed is None and unanswered is None:
                raise
            return changed, unanswered or in_doubt(self._etcd)
        except EtcdError as error:
            if unanswered is None:
                raise
            if not isinstance(error, EtcdUnavailable):
                raise unanswered from error
            return None, unanswered

    @property
    def _reads(self) -> tuple[Get, ...]:
        return tuple(Get(key) for key in self._read)

    def _cannot_be_done_twice(self) -> bool:
        """Whether the same commit is surely refused once it was done. Where all that it writes was absent, others
        may have deleted it again since, and then it would not be."""
        return any(self._read[key] is not None or self._is_receipt(key) for key in self._writes)

    def _was_done(self, refused: TxnResult, unanswered: AmbiguousWrite) -> bool | None:
        """Whether the commit that got no answer was done, now that the same one was refused; None: not yet, but
        it may still be.

        That is over once a key which was there has changed, because no key comes back to an earlier
        ``mod_revision``. One that was absent may be absent again.

        :raises AmbiguousWrite: what the keys are now does not tell, and never will.
        """
        now = {key: refused.range(index).first for index, key in enumerate(self._read)}
        receipt = next((key for key in self._created if self._is_receipt(key)), None)
        if receipt is not None and now[receipt] is not None:
            return True
        if all(
            before is None or _modified(now[key]) == before.mod_revision for key, before in self._read.items()
        ):
            return None
        if receipt is not None:
            return False
        if any(_is_not(write, self._read[key], now[key]) for key, write in self._writes.items()):
            return False
        raise unanswered

    def _is_receipt(self, key: str) -> bool:
        """Whether the key is there if this was done, and only then."""
        write = self._writes[key]
        declared = key in self._created and self._read[key] is None
        return declared and isinstance(write, Put) and not write.lease

    async def _find(self, key: str) -> KeyValue | None:
        if key in self._read:
            return self._read[key]
        if not self._revision:
            async with self._choosing_revision:
                if not self._revision:
                    result = await self._etcd.txn((), [Get(key)], repeatable=True)
                    self._revision = result.revision
                    return self._read.setdefault(key, result.range(0).first)
        return self._read.setdefault(key, await self._etcd.get(key, revision=self._revision))


def _modified(found: KeyValue | None) -> int:
    """Its ``mod_revision``, as a compare has it: 0 where there is no such key."""
    return 0 if found is None else found.mod_revision


def _is_not(write: Put | Delete, before: KeyValue | None, now: KeyValue | None) -> bool:
    """Whether ``write`` has surely not been done: the key is untouched, or was written once, but not so."""
    if before is None or now is None or before.create_revision != now.create_revision:
        return False
    if now.version == before.version:
        return True
    return now.version == before.version + 1 and (isinstance(write, Delete) or now.value != write.value)


async def transaction(
    etcd: Etcd, body: Callable[[Transaction], Awaitable[T]], *, timeout_s: float = 10.0
) -> T:
    """Run ``body``, commit what it writes, and return what it returns: all of it is done at once, or nothing is.

    ``body`` runs again, after a pause, whenever others change what it has read or is to write before it is
    committed. So it must do nothing that cannot be done again, and raise what should be raised: then nothing
    is written. Money from one account to another, with an entry that says so::

        async def transfer(t: Transaction) -> None:
            balance = int(await t.get("accounts/alice") or b"0")
            if balance < 10:
                raise InsufficientFunds(balance)
            t.put("accounts/alice", str(balance - 10).encode())
            t.put("accounts/bob", str(int(await t.get("accounts/bob") or b"0") + 10).encode())
            await t.create(f"transfers/{transfer_id}", b"alice pays bob 10")

        await transaction(etcd, transfer)

    :param timeout_s: for how long to try.
    :raises TransactionConflict: others were always first. :raises EtcdUnavailable: etcd does not answer.
    :raises AmbiguousWrite: a commit got no answer, and it cannot be told in time whether it was done: others have
        written the same keys since, or all of them were absent and may be so again. With :meth:`Transaction.create` it can, as soon as etcd answers again, unless
        others have created a key that the body found absent, and it found no key that they changed.
    :raises ValueTooLarge: it reads and writes more than 128 keys, or is too large. Nothing was written.
    """
    give_up_at = boottime() + timeout_s
    pause_s, tries = _FIRST_PAUSE_S, 0
    while True:
        attempt = Transaction(etcd)
        tries += 1
        try:
            result = await body(attempt)
            if await attempt.commit(give_up_at=give_up_at):
                return result
        except Compacted:
            pass  # the revision that it reads went away under it
        left_s = give_up_at - boottime()
        if left_s <= 0:
            raise TransactionConflict(tries, timeout_s)
        await asyncio.sleep(min(random.uniform(0, pause_s), left_s))
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
