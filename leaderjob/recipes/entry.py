"""A key with which a session stands in a line: ``<prefix><lease id in hex>``, as etcd's own recipes have it.

Its create revision is its place. What is hard about it is to leave nothing behind: a write that got no answer may
arrive after whatever is done to take it back.
"""

import asyncio
from collections.abc import Coroutine, Sequence

from leaderjob.etcd import (
    AmbiguousWrite,
    Compare,
    Etcd,
    EtcdError,
    Get,
    NoSpace,
    Op,
    Put,
    RangeResult,
    RequestRefused,
    TxnResult,
    absent,
)
from leaderjob.etcd.values import check_value
from leaderjob.recipes.own_key import delete_own
from leaderjob.recipes.session import Session
from leaderjob.telemetry.events import Events, emit

_WITHDRAW_TIMEOUT_S = 1.0


class Entry:
    """One key, from the first try to create it until it is certainly gone.

    :param prefix: of the line, with a trailing slash.
    """

    def __init__(self, etcd: Etcd, session: Session, prefix: str) -> None:
        self.key = f"{prefix}{session.lease_id:x}"
        self.create_revision = 0
        self.mod_revision = 0
        self.may_return = False
        """A try to create the key got no answer, so it may come back once it was deleted."""
        self._etcd = etcd
        self._session = session
        self._may_stand = False

    async def enter(
        self, value: bytes, seen: Sequence[Get] = (), *, provided: Sequence[Compare] = ()
    ) -> tuple[RangeResult, ...] | None:
        """Create the key, or find it.

        :param seen: what to read in the same transaction, with the key in it.
        :param provided: what has to hold, or the key is not created.
        :return: what was read; nothing, if the key was there already; None: what was provided does not hold.
        :raises SettingsError: the value is not bytes. :raises SessionLost: the lease is gone.
        :raises EtcdError: etcd does not answer, or refuses.
        """
        ops: list[Op] = [Put(self.key, check_value(self.key, value), lease=self._session.lease_id), *seen]
        while True:
            self._session.check()
            self._may_stand = True
            try:
                result = await self._to_the_end(
                    self._etcd.txn([absent(self.key), *provided], ops, [Get(self.key)])
                )
            except AmbiguousWrite:
                # The key bears our lease's id, so whichever try creates it, it is ours, and the
                # other one finds it there. But the first may come later, when it was deleted again.
                continue
            except RequestRefused:
                self._may_stand = self.may_return
                await self._session.renew()  # the lease may be gone, and that not be known yet
                raise
            except EtcdError as error:
                # A write that took the last room can be done and told to have found none (etcd #16659).
                self._may_stand = self.may_return or isinstance(error, NoSpace)
                raise
            if result.succeeded:
                self.create_revision = self.mod_revision = result.revision
                return tuple(result.range(index + 1) for index in range(len(seen)))
            found = result.range(0).first
            if found is not None:
                self.create_revision, self.mod_revision = found.create_revision, found.mod_revision
                return ()
            if provided:
                self._may_stand = self.may_return
                return None

    async def _to_the_end(self, writing: Coroutine[None, None, TxnResult]) -> TxnResult:
        """What ``writing`` returns. Cancelled, it is let come to its end first: a write that is under way to etcd would
        arrive after whatever is done to take it back."""
        task = asyncio.ensure_future(writing)
        before, self.may_return = self.may_return, True  # whatever ends this early
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=_WITHDRAW_TIMEOUT_S)
            if task.done() and not task.cancelled() and not isinstance(task.exception(), AmbiguousWrite):
                self.may_return = before
            raise
        except EtcdError as error:
            self.may_return = before or isinstance(error, AmbiguousWrite)
            raise
        finally:
            task.cancel()
        self.may_return = before
        return result

    async def _delete(self) -> None:
        if self.create_revision and not self.may_return:
            await delete_own(self._etcd, self.key, self.create_revision, within_s=_WITHDRAW_TIMEOUT_S)
        else:
            # A second try that lands late could hit a key made again; but not where the session is lost anyway.
            await self._etcd.delete(self.key, repeatable=self.may_return, within_s=_WITHDRAW_TIMEOUT_S)

    async def withdraw(self) -> bool:
        """Delete the key if it may be there. Where that cannot be made sure the session is lost, so that its lease takes
        the key along; then this is False."""
        withdrawn = not self._may_stand
        try:
            if self._may_stand:
                await self._delete()
                withdrawn = not self.may_return
        except EtcdError as error:
            emit(Events.CONNECTION_TROUBLE, reason=error)
        finally:
            if not withdrawn:
                self._session.lose("its key could not be deleted for good, and it must not be kept alive")
        return withdrawn
