"""Progress of one attempt on its way to the watchers: coalesced, fenced, on the term's lease."""

import asyncio

from leaderjob.engine.office import Office
from leaderjob.etcd import Put, modified_at
from leaderjob.model.run import Progress, Run
from leaderjob.records.fenced import Conflict
from leaderjob.records.stored import Stored

_PAUSE_S = 0.2


class ProgressWriter:
    """Writes the latest progress at most five times a second; what came between is left out."""

    def __init__(self, office: Office, run: Stored[Run], attempt: int) -> None:
        self._office = office
        self._run = run
        self._key = office.keys.progress(run.record.job, run.record.id, attempt)
        self._latest: Progress | None = None
        self._news = asyncio.Event()

    def report(self, progress: Progress) -> None:
        self._latest = progress
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled. The run is compared, so that nothing is written after its attempt ended."""
        lease = self._office.leadership.term.lease_id
        while True:
            await self._news.wait()
            self._news.clear()
            assert self._latest is not None
            put = Put(self._key, self._latest.to_bytes(), lease=lease)
            try:
                await self._office.writer.commit([modified_at(self._run.key, self._run.mod_revision)], [put])
            except Conflict:
                return
            await asyncio.sleep(_PAUSE_S)
