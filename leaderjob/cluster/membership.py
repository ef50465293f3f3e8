"""This replica's record under ``members/``: its lease is the heartbeat, its value says what it holds."""

import asyncio
from typing import Any

from leaderjob.cluster.liveness import incarnation_at
from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd, EtcdError
from leaderjob.model.member import Holding, Member
from leaderjob.recipes import Session
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import CorruptRecord, decode
from leaderjob.records.view import View

_RETRY_PAUSE_S = 0.5


class DuplicateReplica(SettingsError):
    """Another live process has this replica's id."""


class Membership:
    """Keeps the member record in step with this replica; written on change only."""

    def __init__(self, etcd: Etcd, keys: Keys, feed: Feed, member: Member) -> None:
        self.member = member
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
        found = await self._etcd.get(self._key)
        if found is None:
            return
        try:
            other = decode(Kind.MEMBER, found).record
        except CorruptRecord:
            return
        if not isinstance(other, Member) or other.incarnation == self.member.incarnation:
            return
        address = other.addresses.get("liveness")
        if address and await incarnation_at(address) == other.incarnation:
            raise DuplicateReplica(
                f"replica {other.replica!r} is already running on host {other.host} with pid {other.pid}: "
                "give this one another --id, or stop that one"
            )

    async def keep(self, session: Session) -> None:
        """Keep the record on the session's lease, until cancelled or the session is lost."""
        while not session.is_lost:
            self._dirty.clear()
            try:
                revision = await self._etcd.put(self._key, self.member.to_bytes(), lease=session.lease_id)
            except EtcdError:
                await asyncio.sleep(_RETRY_PAUSE_S)
                continue
            await self._wait_for_work(session, revision)

    def _is_overwritten(self, view: View, revision: int) -> bool:
        """Whether what was written at ``revision`` is no longer there: somebody deleted it, or an earlier
        write of ours, which had got no answer, was done after it."""
        if view.revision < revision:
            return False  # the view is still catching up with our own write
        found = view.get(Kind.MEMBER, self.member.replica)
        return found is None or (
            found.mod_revision > revision and found.record.incarnation == self.member.incarnation
        )

    async def _wait_for_work(self, session: Session, revision: int) -> None:
        waits = [
            asyncio.ensure_future(self._dirty.wait()),
            asyncio.ensure_future(self._feed.until(lambda view: self._is_overwritten(view, revision))),
            asyncio.ensure_future(session.wait_lost()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
