"""Progress that one side reports, and any number watch: the last word is there for late comers, the end is told.

``<root>latest`` is the last report; it stays until it is removed. ``<root>reporter`` is on the lease of whoever
reports: where it is gone although the last report says that it goes on, the reporter has died.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from leaderjob.errors import LeaderjobError, NotFound
from leaderjob.etcd import AmbiguousWrite, Delete, Etcd, Get, Op, Put, absent, modified_at
from leaderjob.recipes.errors import AlreadyReported, UnreadableRecord
from leaderjob.recipes.moments import moments
from leaderjob.recipes.place import place
from leaderjob.recipes.progress_report import ProgressState, Report, checked, encode_report, read_report
from leaderjob.recipes.record import encode
from leaderjob.recipes.reporter import Reporter
from leaderjob.recipes.session import Session
from leaderjob.recipes.settled import on_lease, until_answered
from leaderjob.telemetry.events import Events, emit

_TIDY_TIMEOUT_S = 1.0
_IN_DOUBT = "it is not known whether it reports, and its lease must not be kept alive"


class Progress:
    """Reports and watches the progress of one thing::

        async with Progress(etcd, "import").reporting(session) as reporter:
            for done in range(100):
                reporter.set(done, f"line {done}")

    :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key.
    """

    def __init__(self, etcd: Etcd, name: str, *, namespace: str = "default") -> None:
        self._etcd = etcd
        self._root = place("reports", name, namespace)
        self._what = f"progress {name}"

    @asynccontextmanager
    async def reporting(self, session: Session) -> AsyncIterator[Reporter]:
        """Report: begins with 0 %, and ends with the block: as ``ended``, or as ``failed`` if it raises.

        What is reported is written at most ten times a second; the last one always is.

        :raises AlreadyReported: somebody reports it. :raises SessionLost: the lease is gone.
        :raises ReporterLost: at the end: the lease was gone before it, or somebody else wrote; watchers were told.
        :raises UnreadableRecord: what is there is no report. :raises EtcdError: etcd does not answer, or refuses.
        """
        reporter = await self._begin(session)
        try:
            yield reporter
        except BaseException:
            try:
                await reporter.end(ProgressState.FAILED)
            except LeaderjobError as error:  # what the block raised is the news
                emit(Events.CONNECTION_TROUBLE, reason=error)
            raise
        await reporter.end(ProgressState.ENDED)

    async def set(self, percent: float, message: str = "") -> int:
        """Report once, without a session: nobody is told if whoever does it dies. 100 is the end. Returns the revision.

        :raises SettingsError: no percentage. :raises AlreadyReported: somebody reports it with a session.
        :raises UnreadableRecord: what is there is no report.
        :raises AmbiguousWrite: etcd did not answer for long: it may be done or not, or be done later; do it again.
        :raises EtcdError: etcd does not answer, or refuses; nothing was written.
        """
        state = ProgressState.ENDED if checked(percent) == 100 else ProgressState.RUNNING
        by = secrets.token_hex(8)
        return await self._first([], encode_report(percent, message, state, by, on_lease=False))

    async def latest(self) -> Report | None:
        """The last report; None: there was none. :raises EtcdError: etcd does not answer, or refuses."""
        found = await self._etcd.range(self._root)
        return read_report({kv.key.removeprefix(self._root): kv for kv in found.kvs}, found.revision)

    async def remove(self) -> None:
        """Delete the last report, also one that nobody can read. Who watches is told nothing of that.

        Remove it once nobody reports any more: a first report that got no answer could be done after this.

        :raises NotFound: there is none. :raises AlreadyReported: somebody reports it.
        :raises EtcdError: etcd does not answer, or refuses.
        """
        latest_key, reporter_key = f"{self._root}latest", f"{self._root}reporter"
        found = await self._etcd.get(latest_key)
        if found is None:
            raise NotFound(f"{self._what}: there is nothing to remove")
        while found is not None:
            result = await self._etcd.txn(
                [modified_at(latest_key, found.mod_revision), absent(reporter_key)],
                [Delete(latest_key)],
                [Get(latest_key), Get(reporter_key)],
                repeatable=True,
            )
            if result.succeeded:
                return
            found, other = result.range(0).first, result.range(1).first
            if other is not None:
                raise AlreadyReported(self._what)

    async def watch(self) -> AsyncGenerator[Report, None]:
        """The last report, if there is one; then each that is written, up to one that is the end. After a compaction
        only the last of those that came meanwhile.

        :raises EtcdError: etcd does not answer when it begins (later, it waits until etcd does), or refuses.
        """
        told: Report | None = None
        async with aclosing(moments(self._etcd, self._root)) as seen:
            async for keys, revision in seen:
                report = read_report(keys, revision)
                if report is None or report == told:
                    continue
                told = report
                yield report
                if report.is_end:
                    return

    async def _begin(self, session: Session) -> Reporter:
        """Cancelled, or without an answer, it leaves nothing behind: at the worst the session is lost."""
        session.check()
        by = secrets.token_hex(8)
        first = encode_report(0, "", ProgressState.RUNNING, by, on_lease=True)
        ops: list[Op] = [Put(f"{self._root}reporter", encode(by=by), lease=session.lease_id)]
        writing = asyncio.ensure_future(self._first(ops, first))
        try:
            with on_lease(session):
                revision = await asyncio.shield(writing)
        except asyncio.CancelledError:
            await self._take_back(session, by, writing)
            raise
        except AmbiguousWrite:
            session.lose(_IN_DOUBT)
            raise
        reporter = self._reporter(session, by, revision)
        reporter.start()
        return reporter

    async def _take_back(self, session: Session, by: str, writing: asyncio.Future[int]) -> None:
        """End what was begun, if it was."""
        known = False
        try:
            await asyncio.wait([writing], timeout=_TIDY_TIMEOUT_S)
            known = writing.done() and not isinstance(writing.exception(), AmbiguousWrite)
        finally:  # cancelled once more or not
            if not known:
                writing.cancel()
                session.lose(_IN_DOUBT)
        if known and writing.exception() is None:
            try:
                await self._reporter(session, by, writing.result()).end(ProgressState.FAILED)
            except LeaderjobError as error:  # that it is cancelled is the news; the session is lost by this
                emit(Events.CONNECTION_TROUBLE, reason=error)

    def _reporter(self, session: Session, by: str, revision: int) -> Reporter:
        return Reporter(self._etcd, session, self._root, what=self._what, by=by, revision=revision)

    async def _first(self, ops: list[Op], value: bytes) -> int:
        """Write ``value``, and do ``ops``, where nobody reports; returns the revision."""
        latest_key, reporter_key = f"{self._root}latest", f"{self._root}reporter"
        found = await self._etcd.get(latest_key)
        while True:
            if found is not None and read_report({"latest": found}, 0) is None:
                raise UnreadableRecord(self._what, latest_key)
            seen = 0 if found is None else found.mod_revision
            answer = await until_answered(
                self._etcd,
                [modified_at(latest_key, seen), absent(reporter_key)],
                [*ops, Put(latest_key, value)],
                [Get(latest_key), Get(reporter_key)],
            )
            if answer.result.succeeded:
                return answer.result.revision
            found, other = answer.result.range(0).first, answer.result.range(1).first
            if found is not None and found.value == value:
                return found.mod_revision
            if other is not None:
                raise AlreadyReported(self._what)
