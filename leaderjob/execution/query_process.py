"""One query worker in its guard: a version that is open, and the queries that are in flight on it."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from leaderjob.errors import LeaderjobError, SettingsError
from leaderjob.execution.guarded import StartFailed
from leaderjob.execution.messages import (
    QUERY_WORKER,
    Answer,
    Bad,
    Closed,
    Failed,
    ProtocolBroken,
    Ready,
    read,
)
from leaderjob.execution.process import GuardedProcess, signal_name
from leaderjob.execution.protocol import to_line
from leaderjob.json_text import QUERY_LIMIT_BYTES, InvalidJson, JsonTooLarge, encode
from leaderjob.sdk import Json
from leaderjob.telemetry.trace import Trace


class QueryFailed(LeaderjobError):
    """A query got no answer; the message says why. Asking again may help.

    :ivar trace: where the job's code failed; None if it is not to blame.
    """

    def __init__(self, reason: str, trace: Trace | None = None) -> None:
        super().__init__(reason)
        self.trace = trace


class QueryRefused(SettingsError):
    """The query is wrong: an unknown or missing field, a value that is not JSON, or one that the job cannot use."""


class WorkerGone(LeaderjobError):
    """The query worker ended while the query was in flight; another worker can be asked."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and the version that it was read from."""

    version: int
    value: Json


@dataclass(frozen=True, slots=True)
class Published:
    """A version of a job's artifact, as it lies on this replica."""

    job: str
    reference: str
    version: int
    directory: Path


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take.

    :param idle_s: a worker that was not asked for so long is closed; the next query starts another.
    :param open_s: how long opening a version may take.
    :param stuck_s: how long one query may keep a worker busy before the worker counts as stuck.
    """

    idle_s: float = 300.0
    open_s: float = 120.0
    stuck_s: float = 30.0


class QueryWorker:
    """Answers queries on one version, in order. ``run`` is its whole life; the rest is called meanwhile."""

    def __init__(self, published: Published, *, log_path: Path, cwd: Path, limits: Limits) -> None:
        self.published = published
        self._log_path = log_path
        self._cwd = cwd
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._in_flight: dict[int, asyncio.Future[Answered]] = {}
        self._last_id = 0
        self._busy_since = self._used_at = self._loop.time()
        self._process: GuardedProcess | None = None
        self._over = False
        self._idle_check: asyncio.TimerHandle | None = None

    @property
    def over(self) -> bool:
        """Whether it takes no more queries: it was retired, or its process is gone."""
        return self._over

    async def ready(self) -> None:
        """Until the version is open.

        :raises QueryFailed: the job's code could not open it.
        :raises WorkerGone: the process ended before that.
        """
        await asyncio.shield(self._ready)

    async def run(self) -> None:
        """Open the version, pass answers on, and fail what is in flight when the process ends."""
        problem = "it was closed"
        command = [sys.executable, "-m", "leaderjob.execution.query_worker"]
        # No deadline: an etcd outage must not stop serving. The guard's pipe still ends it with us.
        guarded = GuardedProcess(command, log_path=self._log_path, cwd=self._cwd, deadline=None, grace_s=0.0)
        try:
            async with guarded as process:
                self._process = process
                opening = {"reference": self.published.reference, "directory": str(self.published.directory)}
                process.send(to_line(opening))
                if self._over:
                    process.end_input()
                too_slow = self._loop.call_later(self._limits.open_s, self._end_if_not_ready)
                try:
                    async for message in process.messages():
                        self._take(read(QUERY_WORKER, message))
                finally:
                    too_slow.cancel()
                ended = await process.wait()
                if ended.signal is not None:
                    problem = f"it was killed by {signal_name(ended.signal)}"
                elif ended.code is not None:
                    problem = f"it exited with status {ended.code}"
                else:
                    problem = ended.reason
        except (StartFailed, ProtocolBroken) as error:
            problem = str(error)
        finally:
            self._end(problem)

    async def ask(self, query: dict[str, Json]) -> Answered:
        """One answer; the caller bounds the time.

        :raises QueryRefused: the job says that the query is wrong.
        :raises QueryFailed: the job's code failed on it.
        :raises WorkerGone: the process ended before it answered.
        """
        if self._over or self._process is None:
            raise WorkerGone(f"the query worker of {self._label} takes no more queries")
        self._last_id += 1
        number, now = self._last_id, self._loop.time()
        try:
            encode(query, QUERY_LIMIT_BYTES)
            line = to_line({"id": number, "query": query})
        except JsonTooLarge as error:
            raise QueryRefused(f"the query is too large: {error}; ask for less") from error
        except InvalidJson as error:
            raise QueryRefused(f"a query's fields have to be JSON values: {error}") from error
        if not self._in_flight:
            self._busy_since = now
        self._used_at = now
        answer = self._in_flight[number] = self._loop.create_future()
        self._process.send(line)
        answered: Answered = await answer
        return answered

    def retire(self) -> None:
        """Take no more queries, answer those in flight, then exit."""
        if not self._over:
            self._over = True
            if self._process is not None:
                self._process.end_input()
            self._loop.call_later(self._limits.stuck_s, self._kill)

    def end_if_stuck(self) -> None:
        """Kill the process if one query has kept it busy for too long; the others can go elsewhere."""
        if self._in_flight and self._loop.time() - self._busy_since >= self._limits.stuck_s:
            self._over = True
            self._kill()

    @property
    def _label(self) -> str:
        return f"{self.published.job} version {self.published.version}"

    def _take(self, said: Ready | Closed | Answer | Bad | Failed) -> None:
        now = self._loop.time()
        if isinstance(said, Ready):
            if not self._ready.done():
                self._ready.set_result(None)
            self._busy_since = self._used_at = now
            self._check_idle()
        elif isinstance(said, Closed):
            self._over = True
            if not self._ready.done():
                reason = f"{self._label} could not be opened for queries: {said.reason}"
                self._ready.set_exception(QueryFailed(reason, _trace(said)))
        else:
            self._busy_since = self._used_at = now
            answer = self._in_flight.pop(said.id, None)
            if answer is None or answer.done():
                return  # whoever asked did not wait
            if isinstance(said, Answer):
                answer.set_result(Answered(self.published.version, said.value))
            elif isinstance(said, Bad):
                answer.set_exception(QueryRefused(f"{self.published.job}: {said.reason}"))
            else:
                reason = f"{self._label} failed on the query: {said.reason}"
                answer.set_exception(QueryFailed(reason, _trace(said)))

    def _check_idle(self) -> None:
        idle_for_s = 0.0 if self._in_flight else self._loop.time() - self._used_at
        if idle_for_s >= self._limits.idle_s:
            self.retire()
        elif not self._over:
            delay_s = self._limits.idle_s - idle_for_s
            self._idle_check = self._loop.call_later(delay_s, self._check_idle)

    def _end_if_not_ready(self) -> None:
        if not self._ready.done():
            reason = f"{self._label} was not open for queries after {self._limits.open_s:g} s"
            self._ready.set_exception(QueryFailed(reason))
            self._over = True
            self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _end(self, problem: str) -> None:
        self._over = True
        if self._idle_check is not None:
            self._idle_check.cancel()
        gone = f"the query worker of {self._label} ended: {problem}"
        if not self._ready.done():
            self._ready.set_exception(WorkerGone(gone))
        self._ready.exception()  # nobody may be waiting for it
        for answer in self._in_flight.values():
            if not answer.done():
                answer.set_exception(WorkerGone(gone))
        self._in_flight.clear()


def _trace(said: Closed | Failed) -> Trace | None:
    return Trace.told(said.traceback, said.exceptions)
