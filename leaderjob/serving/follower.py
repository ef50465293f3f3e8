"""Following one job's results: copy what is staged, activate what is published, drop what is old.

Level-triggered: each round compares the feed's view with what is here, and does what is missing. A
published version that cannot be had yet, be it for the disk, is tried again; the one before goes on serving
meanwhile.
"""

import asyncio
import random
import ssl
from collections.abc import Callable

from leaderjob.cluster.membership import Membership
from leaderjob.errors import LeaderjobError
from leaderjob.execution.query import QueryFailed, QueryPool
from leaderjob.model.artifact import Pointer, Staged
from leaderjob.model.member import Holding, Role
from leaderjob.offload import run_in_thread
from leaderjob.records.feed import Feed
from leaderjob.records.view import View
from leaderjob.results.activation import Activation, Active
from leaderjob.results.errors import ArtifactDamaged, RecordDamaged
from leaderjob.results.store import Store
from leaderjob.results.transfer import fetch
from leaderjob.telemetry.events import Events, emit
from leaderjob.telemetry.trace import Trace

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 15.0

Failure = tuple[LeaderjobError | OSError, dict[str, object]]
"""Why something could not be had, and what."""

Goal = tuple[Pointer | None, frozenset[str]]
"""A pointer to activate, and the digests of the manifests that are staged."""


class Follower:
    """Follows one job on this replica.

    :param reference: where the job's code is, if it answers queries here; else None.
    :param history: the id of the store's history, once it is known; whoever changes it wakes the feed's readers.
    :param keep: how many versions before the active one stay on disk.
    :param tls: encrypts what is fetched, and checks who delivers; None: nothing is encrypted.
    """

    def __init__(
        self,
        job: str,
        *,
        feed: Feed,
        membership: Membership,
        store: Store,
        activation: Activation,
        queries: QueryPool,
        reference: str | None,
        history: Callable[[], str | None],
        keep: int,
        max_total_bytes: int,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._job = job
        self._feed = feed
        self._membership = membership
        self._store = store
        self._activation = activation
        self._queries = queries
        self._reference = reference
        self._history = history
        self._keep = keep
        self._max_total_bytes = max_total_bytes
        self._tls = tls
        self._active: Active | None = None
        self._copies: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        await self._resume()
        pause_s = _FIRST_PAUSE_S
        while True:
            tried = self._goal(self._feed.view)
            failure = await self._round(self._feed.view)
            if failure is None:
                pause_s = _FIRST_PAUSE_S
                await self._feed.until(self._has_work, job=self._job)
            else:
                error, fields = failure
                # Of a disk that fails, the place is said too: such an error may name no file.
                trace = Trace.of(error) if isinstance(error, OSError) else None
                again_in_s = round(pause_s, 1)
                emit(Events.FETCH_FAILED, **fields, reason=error, again_in_s=again_in_s, trace=trace)
                changed = await self._pause(pause_s, tried)
                pause_s = _FIRST_PAUSE_S if changed else min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _pause(self, pause_s: float, tried: Goal) -> bool:
        """Wait before another try, but not if something else is wanted by now: whether that is so."""
        try:
            async with asyncio.timeout(pause_s):
                await self._feed.until(lambda view: self._goal(view) != tried, job=self._job)
        except TimeoutError:
            return False
        return True

    def _goal(self, view: View) -> Goal:
        """What there is to copy and to activate."""
        return self._wanted(view), frozenset(staged.digest for staged in self._staged(view))

    async def _resume(self) -> None:
        """Serve what was active before this process started; etcd is not needed for that."""
        try:
            self._active = await asyncio.to_thread(self._activation.active, self._job)
        except (ArtifactDamaged, RecordDamaged, OSError) as damaged:
            emit(Events.SERVING_FAILED, job=self._job, reason=damaged)
        if self._active is not None:
            await self._serve(self._active)
            self._announce()

    def _has_work(self, view: View) -> bool:
        return (
            self._wanted(view) is not None or {staged.digest for staged in self._staged(view)} != self._copies
        )

    async def _round(self, view: View) -> Failure | None:
        """One look at what there is. What cannot be had does not stand in the way of the rest."""
        failure: Failure | None = None
        pointer = self._wanted(view)
        if pointer is not None:
            try:
                await self._activate(pointer)
            except (LeaderjobError, OSError) as error:
                failure = error, _identity(self._job, pointer)
        staged = self._staged(view)
        for entry in staged:
            if entry.digest in self._copies:
                continue
            try:
                await self._copy(entry.digest, entry.manifest_bytes)
            except (LeaderjobError, OSError) as error:
                failure = error, {"job": self._job, "run": entry.run, "term": entry.token}
                continue
            self._copies.add(entry.digest)
            self._announce()
        gone = self._copies - {entry.digest for entry in staged}
        if gone or pointer is not None:
            self._copies -= gone
            for digest in gone:
                self._store.settle(digest)
            self._announce()
            await asyncio.to_thread(
                self._activation.retain, keep=self._keep, keep_manifests=frozenset(self._copies)
            )
        return failure

    def _staged(self, view: View) -> list[Staged]:
        return [stored.record for stored in view.staged(self._job)]

    def _wanted(self, view: View) -> Pointer | None:
        """The published version, if it is not the active one. What would go back is left alone."""
        stored, history = view.pointer(self._job), self._history()
        if stored is None or history is None:
            return None
        pointer = stored.record
        if self._active is not None and self._active.history == history:
            return pointer if pointer.sequence > self._active.sequence else None
        return pointer

    async def _copy(self, digest: str, manifest_bytes: int) -> None:
        """Bring an artifact here; nothing to do for what was made here. Ends early when cancelled."""
        sources = self._sources(digest)
        await run_in_thread(
            lambda cancelled: fetch(
                self._store,
                digest,
                manifest_bytes,
                sources,
                max_total_bytes=self._max_total_bytes,
                cancelled=cancelled,
                tls=self._tls() if self._tls is not None else None,
            )
        )

    def _sources(self, digest: str) -> list[str]:
        """Who may have it: followers who say so first, then the leader, which made it or took it over, then
        the others. Asking one of those in vain takes long where it does not answer at all."""
        ranked = []
        for replica, stored in self._feed.view.members.items():
            address = stored.record.addresses.get("http")
            if replica == self._membership.member.replica or address is None:
                continue
            holding = stored.record.holds.get(self._job)
            holds = holding is not None and (digest == holding.digest or digest in holding.manifests)
            leads = stored.record.role is Role.LEADER
            ranked.append((not (holds or leads), leads, random.random(), address))
        return [address for *_, address in sorted(ranked)]

    async def _activate(self, pointer: Pointer) -> None:
        history = self._history()
        assert history is not None
        await self._copy(pointer.digest, pointer.manifest_bytes)
        path = await asyncio.to_thread(
            self._activation.activate,
            self._job,
            history=history,
            sequence=pointer.sequence,
            version=pointer.version,
            digest=pointer.digest,
        )
        self._active = Active(history, pointer.sequence, pointer.version, pointer.digest, path)
        emit(Events.ACTIVATED, **_identity(self._job, pointer))
        await self._serve(self._active, pointer)
        self._announce()

    async def _serve(self, active: Active, pointer: Pointer | None = None) -> None:
        if self._reference is None:
            return
        try:
            await self._queries.activate(self._job, self._reference, active.version, active.path)
        except LeaderjobError as error:
            trace = error.trace if isinstance(error, QueryFailed) else None
            known = (
                _identity(self._job, pointer) if pointer else {"job": self._job, "version": active.version}
            )
            emit(Events.SERVING_FAILED, **known, reason=error, trace=trace)

    def _announce(self) -> None:
        active = self._active
        digests = {active.digest} if active else set()
        self._membership.hold(
            self._job,
            Holding(
                active=active.version if active else None,
                digest=active.digest if active else None,
                manifests=tuple(sorted(digests | self._copies)),
            ),
        )


def _identity(job: str, pointer: Pointer) -> dict[str, object]:
    """Which version that is, and where it comes from."""
    return {"job": job, "version": pointer.version, "run": pointer.run, "term": pointer.token}
