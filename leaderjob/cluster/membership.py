"""This replica's record under ``members/``: its lease is the heartbeat, its value says what it holds."""

import asyncio
from typing import Any

from leaderjob.cluster.identity import DuplicateReplica, Identity
from leaderjob.etcd import Etcd, EtcdError, Put, modified_at
from leaderjob.model.member import Holding, Member
from leaderjob.recipes import Session
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.view import View

_RETRY_PAUSE_S = 0.5


class Membership:
    """Keeps the member record in step with this replica; written on change only, and over nobody else's."""

    def __init__(self, etcd: Etcd, keys: Keys, feed: Feed, member: Member, identity: Identity) -> None:
        self.member = member
        self._identity = identity
        self._replaces = 0
        self._refusal: DuplicateReplica | None = None
        self._refused = asyncio.Event()
        self._etcd = etcd
        self._key = keys.member(member.replica)
        self._feed = feed
        self._dirty = asyncio.Event()

    def set(self, **changes: Any) -> None:
        """Change fields of the record; it is written soon."""
        changed = self.member.model_copy(update=changes)
        if changed != self.member:
            self.member = changed
            self._dirty.set()

    def hold(self, job: str, holding: Holding) -> None:
        """Say what this replica holds of one job."""
        self.set(holds={**self.member.holds, job: holding})

    async def refuse_duplicate(self) -> None:
        """:raises DuplicateReplica: a live process has this id. A record left by a dead one is taken over."""
        self._replaces = await self._identity.claim()

    async def withdraw_former(self, election: str) -> None:
        """Delete what former processes of this replica left in the election. :raises EtcdError: no answer."""
        await self._identity.withdraw_former(election)

    async def refused(self) -> DuplicateReplica:
        """Wait until another live process turns out to have this id; returns which one, and what to do."""
        await self._refused.wait()
        assert self._refusal is not None
        return self._refusal

    async def keep(self, session: Session) -> None:
        """Keep the record on the session's lease, until cancelled, the session is lost, or it is :meth:`refused`."""
        while not session.is_lost:
            self._dirty.clear()
            try:
                revision = await self._write(session.lease_id)
            except DuplicateReplica as refusal:
                self._refusal = refusal
                self._refused.set()
                return
            except EtcdError:
                await asyncio.sleep(_RETRY_PAUSE_S)
                continue
            await self._wait_for_work(session, revision)

    async def _write(self, lease_id: int) -> int:
        """Replace the record that is known to be ours to replace; returns the revision.

        An unanswered write cannot land after the one that follows it: both compare.

        :raises DuplicateReplica: it is another live process's by now.
        """
        while True:
            result = await self._etcd.txn(
                [modified_at(self._key, self._replaces)],
                [Put(self._key, self.member.to_bytes(), lease=lease_id)],
            )
            if result.succeeded:
                self._replaces = result.revision
                return result.revision
            self._replaces = await self._identity.claim()

    @staticmethod
    def _is_overwritten(view: View, replica: str, revision: int) -> bool:
        """Whether what was written at ``revision`` is no longer there: somebody deleted or replaced it."""
        if view.revision < revision:
            return False  # the view is still catching up with our own write
        found = view.get(Kind.MEMBER, replica)
        return found is None or found.mod_revision > revision

    async def _wait_for_work(self, session: Session, revision: int) -> None:
        replica = self.member.replica
        waits = [
            asyncio.ensure_future(self._dirty.wait()),
            asyncio.ensure_future(
                self._feed.until(lambda view: self._is_overwritten(view, replica, revision))
            ),
            asyncio.ensure_future(session.wait_lost()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
