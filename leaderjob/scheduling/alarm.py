"""The alarm clock of a term: one alarm per job, and a queue of those that rang.

APScheduler keeps the alarms, and is told nothing else. What was missed, what is too late and what is
due at all is for ``plan`` to say: an alarm only means "look now".
"""

import asyncio
import logging
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from apscheduler.executors.debug import DebugExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger

from leaderjob.errors import LeaderjobError
from leaderjob.model.fire import Fire

RECHECK_S = 1.0
"""The timers of an event loop are relative and do not count suspend: a clock that is set forward, or a
machine that wakes up, would be noticed only when the old delay has passed. So look this often: whatever was due
meanwhile is late by that much at the most, and to look costs 0.03 % of a core."""


class AlarmNotRunning(LeaderjobError):
    """An alarm was set outside ``async with``: nothing would ever ring. This is a defect of leaderjob."""

    def __init__(self, job: str) -> None:
        super().__init__(f"the alarm of job {job!r} was set while the alarm clock is not running")


class Alarm:
    """An async context manager; use it in one event loop, and once entered at a time.

    An alarm rings once. ``fires`` holds at most one fire for each ``set()``, and what is in it stays
    there: a consumer asks ``plan`` whether the fire is (still) due. After the exit nothing is added.
    """

    def __init__(self, *, recheck_s: float = RECHECK_S) -> None:
        self.fires: asyncio.Queue[Fire] = asyncio.Queue()
        self._recheck_s = recheck_s
        self._armed: dict[str, Fire] = {}
        self._scheduler: AsyncIOScheduler | None = None
        self._rechecking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # It reports each alarm that is set and each that rings; ours are reported as events of the job.
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._scheduler = AsyncIOScheduler(
            jobstores={"default": MemoryJobStore()},
            # Calls in the event loop's thread, at once; the default executor uses a pool of threads
            # and drops an alarm whose predecessor is under way.
            executors={"default": DebugExecutor()},
            timezone=UTC,
        )
        self._scheduler.start()
        self._rechecking = asyncio.create_task(self._recheck(self._scheduler), name="alarm recheck")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The scheduler shuts down in a later turn of the loop and may ring until then: disarm first.
        self._armed.clear()
        scheduler, rechecking = self._scheduler, self._rechecking
        self._scheduler = self._rechecking = None
        if scheduler is not None:
            scheduler.shutdown(wait=False)
        if rechecking is not None:
            rechecking.cancel()
            await asyncio.wait({rechecking})  # by then the scheduler has had its turn, too

    def set(self, job: str, at: datetime) -> None:
        """Ring for ``job`` at the aware instant ``at``, at once if that is past. Replaces its alarm.

        :raises AlarmNotRunning: outside ``async with``.
        """
        if self._scheduler is None:
            raise AlarmNotRunning(job)
        fire = Fire(job, at.astimezone(UTC))
        self._armed[job] = fire
        self._scheduler.add_job(
            self._ring,
            DateTrigger(fire.at),
            args=(fire,),
            id=job,
            replace_existing=True,
            misfire_grace_time=None,
        )

    def clear(self, job: str) -> None:
        """Do not ring for ``job``. Does nothing where no alarm is set."""
        if self._armed.pop(job, None) is not None and self._scheduler is not None:
            self._scheduler.remove_job(job)

    def _ring(self, fire: Fire) -> None:
        if self._armed.get(fire.job) is fire:
            del self._armed[fire.job]
            self.fires.put_nowait(fire)

    async def _recheck(self, scheduler: AsyncIOScheduler) -> None:
        while True:
            await asyncio.sleep(self._recheck_s)
            scheduler.wakeup()
