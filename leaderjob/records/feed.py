"""The namespace, followed: changes as decoded records, and a view that is kept current by them."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Iterator, Set
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from leaderjob.etcd import Batch, Etcd, EtcdError, Event, follow
from leaderjob.model.record import Record
from leaderjob.records.keys import Keys, Kind, Place
from leaderjob.records.stored import CorruptRecord, NewerRecord, Stored, decode
from leaderjob.records.view import Quarantined, View
from leaderjob.telemetry.events import Events, emit

_RETRY_PAUSE_S = 0.5
_RECORDS_PER_TURN = 100
"""How many records are decoded (some 30 µs each) before the event loop gets its turn, for a keepalive perhaps."""


@dataclass(frozen=True, slots=True)
class Change:
    """One record was created (``before`` is None), replaced, or deleted (``now`` is None)."""

    place: Place
    before: Stored[Record] | None
    now: Stored[Record] | None
    revision: int


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes up to ``revision``; ``listed`` if they come from a listing and not from a watch.

    ``jobs`` are those of which a record changed, also one that cannot be read.
    """

    changes: tuple[Change, ...]
    revision: int
    listed: bool
    jobs: frozenset[str] = frozenset()


async def read_feed(
    etcd: Etcd, keys: Keys, view: View, *, below: str | None = None
) -> AsyncGenerator[Changes, None]:
    """What is there, then each change; ``view`` is current whenever a batch is handed out.

    :param below: the prefix of the only keys to read; by default all of the namespace.

    A value that cannot be decoded is quarantined: reported once, listed in the view, and otherwise
    treated as absent. Runs until closed. :raises EtcdError: etcd cannot be listed.
    """
    async with aclosing(follow(etcd, keys.root if below is None else below)) as batches:
        async for batch in batches:
            with _collector_paused(len(batch.events) > _RECORDS_PER_TURN):
                changes, jobs = await _apply(view, keys, batch)
            yield Changes(changes, batch.revision, batch.listed, jobs)


@contextmanager
def _collector_paused(large: bool) -> Iterator[None]:
    """Pause the cyclic garbage collector for a large batch: what is decoded stays, and to look through all of it
    time and again stalls the event loop for a third of a second with 50,000 records."""
    paused = large and gc.isenabled()
    if paused:
        gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


async def _apply(view: View, keys: Keys, batch: Batch) -> tuple[tuple[Change, ...], frozenset[str]]:
    """Decode a batch, which may be a listing of a hundred thousand records, without stalling the event loop."""
    decoded = []
    for number, event in enumerate(batch.events, start=1):
        decoded.append(_decode(keys, event))
        if number % _RECORDS_PER_TURN == 0:
            await asyncio.sleep(0)
    changes = []
    unseen = view.revision == 0
    for number, (event, found) in enumerate(zip(batch.events, decoded, strict=True), start=1):
        if (change := _apply_one(view, keys, event, found)) is not None:
            changes.append(change)
        # Readers of a view that was handed out before may not see half of a batch.
        if unseen and number % _RECORDS_PER_TURN == 0:
            await asyncio.sleep(0)
    view.revision = batch.revision
    jobs = {found[0].job for found in decoded if found is not None}
    return tuple(changes), frozenset(job for job in jobs if job is not None)


_Found = tuple[Place, Stored[Record] | Quarantined | None] | None
"""What stands under a key of ours after an event; None: the key is not ours."""


def _decode(keys: Keys, event: Event) -> _Found:
    place = keys.locate(event.key)
    if place is None:
        return None
    if event.now is None:
        return place, None
    try:
        return place, decode(place.kind, event.now)
    except (CorruptRecord, NewerRecord) as error:
        return place, Quarantined(event.now, place, str(error), newer=isinstance(error, NewerRecord))


def _apply_one(view: View, keys: Keys, event: Event, found: _Found) -> Change | None:
    if event.key.startswith(keys.election):
        if event.now is None:
            view.candidates.pop(event.key, None)
        else:
            view.candidates[event.key] = event.now
    if found is None:
        return None
    place, now = found
    unreadable = now if isinstance(now, Quarantined) else None
    view.set_unreadable(event.key, place, unreadable)
    if isinstance(now, Quarantined):
        _tell_unreadable(now)
        now = None
    before = view.get(place.kind, *place.names)
    view.set(place, now)
    return Change(place, before, now, event.revision) if before or now else None


def _tell_unreadable(found: Quarantined) -> None:
    if found.newer:
        emit(Events.RECORD_NEWER, key=found.kv.key, reason=found.reason)
    elif found.place.kind is Kind.CANDIDATE:
        emit(Events.FOREIGN_CANDIDATE, reason=found.reason)
    else:
        emit(Events.RECORD_QUARANTINED, reason=found.reason)


class Feed:
    """Keeps a view current for as long as :meth:`run` runs; readers wait for the state they need.

    Level-triggered on purpose: readers look at the state, so that none can miss an event. A reader that names
    its job wakes up for that job only: hundreds of readers that wake up at each change would stall the event loop.
    """

    def __init__(self, etcd: Etcd, keys: Keys) -> None:
        self.view = View()
        self._etcd = etcd
        self.keys = keys
        self._changed = asyncio.Event()
        self._job_changed: dict[str, asyncio.Event] = {}
        self._following: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow the namespace until cancelled; where etcd cannot be listed, try again."""
        try:
            while True:
                self._following = asyncio.create_task(self._follow(), name="feed: stream")
                await asyncio.wait([self._following])
                if not self._following.cancelled():
                    self._following.result()
        finally:
            if self._following is not None:
                self._following.cancel()
                await asyncio.gather(self._following, return_exceptions=True)

    async def read_again(self) -> None:
        """Drop what is followed and list anew: the store is another one, or silent. Returns once the view shows it."""
        old = self.view
        if self._following is not None:
            self._following.cancel()
        await self.until(lambda view: view is not old)

    async def _follow(self) -> None:
        troubled = False
        while True:
            fresh = View()
            try:
                async with aclosing(read_feed(self._etcd, self.keys, fresh)) as batches:
                    async for batch in batches:
                        of_every_job = batch.listed or self.view is not fresh
                        self.view = fresh
                        troubled = False
                        if of_every_job:
                            self.wake()
                        else:
                            self._wake(batch.jobs)
            except EtcdError as error:
                if not troubled:
                    emit(Events.CONNECTION_TROUBLE, reason=error)
                troubled = True
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def changed(self, timeout_s: float | None = None) -> None:
        """Return at the next change, or after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def until(self, condition: Callable[[View], bool], *, job: str | None = None) -> View:
        """Return the view as soon as ``condition`` holds on it.

        :param job: look again only when a record of this job changes, and after :meth:`wake`.
        """
        while not condition(self.view):
            await (
                self._changed if job is None else self._job_changed.setdefault(job, asyncio.Event())
            ).wait()
        return self.view

    def wake(self) -> None:
        """Let every reader look again: something changed that is not in the view, but that conditions depend on."""
        self._wake(set(self._job_changed))

    def _wake(self, jobs: Set[str]) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        for job in jobs & self._job_changed.keys():
            self._job_changed.pop(job).set()
