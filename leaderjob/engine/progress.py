"""Progress of one attempt on its way to the watchers: coalesced, fenced, on the term's lease."""

import asyncio

from leaderjob.engine.office import Office
from leaderjob.etcd import Put, modified_at
from leaderjob.model.run import Progress, Run
from leaderjob.recipes import NotLeader, TermLost
from leaderjob.records.fenced import Conflict
from leaderjob.records.stored import Stored
from leaderjob.telemetry.events import Events, emit

_PAUSE_S = 0.2


class ProgressWriter:
    """Writes the latest progress at most five times a second; what came between is left out."""

    def __init__(self, office: Office, run: Stored[Run], attempt: int) -> None:
        self._office = office
        self._run = run
        self._key = office.keys.progress(run.record.job, run.record.id, attempt)
        self._revision = 0
        self._latest: Progress | None = None
        self._news = asyncio.Event()
        self._refused = False

    def report(self, progress: Progress) -> None:
        self._latest = progress
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled, or the attempt is over. What cannot be written is left out, and the next is tried."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                if not await self._write():
                    return
            except (NotLeader, TermLost):
                return
            except Exception as error:  # noqa: BLE001 - a message that etcd refuses, or that is not text, costs itself
                if not self._refused:
                    emit(
                        Events.PROGRESS_LOST, job=self._run.record.job, run=self._run.record.id, reason=error
                    )
                self._refused = True
            await asyncio.sleep(_PAUSE_S)

    async def _write(self) -> bool:
        """Whether the attempt goes on. The run is compared, so that nothing is written after its attempt ended, and the
        key, so that what got no answer does not land after what was written later."""
        assert self._latest is not None
        writer = self._office.writer
        compares = [
            modified_at(self._run.key, self._run.mod_revision),
            modified_at(self._key, self._revision),
        ]
        put = Put(self._key, self._latest.to_bytes(), lease=self._office.leadership.term.lease_id)
        try:
            self._revision = await writer.commit(compares, [put])
        except Conflict:
            run = await writer.read(self._run.key)
            if run is None or run.mod_revision != self._run.mod_revision:
                return False
            # Somebody else's hand was in it: the latest word is ours.
            found = await writer.read(self._key)
            self._revision = found.mod_revision if found else 0
            self._news.set()
        return True
