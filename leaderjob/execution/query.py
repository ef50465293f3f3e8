"""Queries on published versions: a worker per job, started when it is first asked, swapped without a
failing query when a new version is activated, closed when nobody asks."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from leaderjob.durations import format_duration
from leaderjob.errors import NotFound
from leaderjob.execution.query_process import (
    Answered,
    Limits,
    Published,
    QueryFailed,
    QueryRefused,
    QueryWorker,
    WorkerGone,
)
from leaderjob.sdk import Json

__all__ = ["Answered", "Limits", "QueryFailed", "QueryPool", "QueryRefused"]

NO_LIMITS_GIVEN = Limits()


@dataclass(slots=True)
class _Slot:
    """What is to be served for one job, and the worker that serves now."""

    published: Published
    worker: QueryWorker | None = None


class QueryPool:
    """The query workers of one replica, as an async context manager: on the way out all are gone.

    :param log_dir: where workers' output goes, one file for each job.
    :param cwd: the workers' current directory, where job modules are looked for first.
    """

    def __init__(self, log_dir: Path, *, cwd: Path, limits: Limits = NO_LIMITS_GIVEN) -> None:
        self._log_dir = log_dir
        self._cwd = cwd
        self._limits = limits
        self._slots: dict[str, _Slot] = {}
        self._group = asyncio.TaskGroup()
        self._lives: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for life in self._lives:
            life.cancel()
        # Without the error under way: that one goes on by itself, not inside an ExceptionGroup.
        await self._group.__aexit__(None, None, None)

    async def activate(self, job: str, reference: str, version: int, directory: Path) -> None:
        """Answer from this version from now on.

        A worker is started only if one is running for the version before; it takes over when it is
        ready, and the old one finishes what is in flight. Of several activations of a job under way
        at once the last one counts.

        :raises QueryFailed: the version cannot be opened; the old one goes on answering while its
            worker lives.
        """
        published = Published(job, reference, version, directory)
        slot = self._slots.setdefault(job, _Slot(published))
        slot.published = published
        if slot.worker is None or slot.worker.over or slot.worker.published == published:
            return
        new = self._start(published)
        try:
            await new.ready()
        except WorkerGone as gone:
            raise QueryFailed(str(gone)) from gone
        except asyncio.CancelledError:
            new.retire()
            raise
        if slot.published is not published:
            new.retire()
            return
        old, slot.worker = slot.worker, new
        old.retire()

    async def ask(self, job: str, request: dict[str, Json], timeout_s: float) -> Answered:
        """The answer of the job's active version. A query whose worker ends is tried once more.

        :raises NotFound: no version of the job is active here.
        :raises QueryRefused: the query is wrong.
        :raises QueryFailed: there was no answer, in time or at all.
        """
        slot = self._slots.get(job)
        if slot is None:
            raise NotFound(
                f"no version of {job!r} is active on this replica: wait for its first result, or trigger a run"
            )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask_at_most_twice(slot, request)
        except TimeoutError as error:
            if slot.worker is not None:
                slot.worker.end_if_stuck()
            raise QueryFailed(
                f"{job} did not answer within {format_duration(timeout_s)}: its worker is still opening the "
                "version, or is busy with other queries; allow more time, or ask another replica"
            ) from error

    async def _ask_at_most_twice(self, slot: _Slot, request: dict[str, Json]) -> Answered:
        problem: WorkerGone | None = None
        for _ in range(2):
            try:
                worker = await self._ready_worker(slot)
                return await worker.ask(request)
            except WorkerGone as gone:
                problem = gone
        raise QueryFailed(f"the query was tried twice: {problem}; does it crash the job's code?") from problem

    async def _ready_worker(self, slot: _Slot) -> QueryWorker:
        while True:
            worker = slot.worker
            if worker is None or worker.over:
                worker = slot.worker = self._start(slot.published)
            await worker.ready()
            if not worker.over:
                return worker

    def _start(self, published: Published) -> QueryWorker:
        if self._closing:
            raise QueryFailed("this replica is stopping: ask another one")
        log_path = self._log_dir / f"query-{published.job}.log"
        worker = QueryWorker(published, log_path=log_path, cwd=self._cwd, limits=self._limits)
        life = self._group.create_task(worker.run(), name=f"query worker of {published.job}")
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        return worker
