"""A worker that is started ahead: it comes up while its replica still waits, and writes, before the attempt."""

import asyncio
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from leaderjob.execution.attestation import Attestation
from leaderjob.execution.guarded import StartFailed, uninterrupted
from leaderjob.execution.process import GuardedProcess

_COMMAND = (sys.executable, "-m", "leaderjob.execution.worker")


class WorkerAhead:
    """A guard and its worker, which knows nothing of the job until it gets its request.

    That makes up for most of what two interpreters take to start. Until then it needs no deadline either: it
    does nothing, and dies with this process.

    An async context manager: entering it begins the start and waits for nothing; on the way out nothing of
    them is left.

    :param log_path: the worker's standard output and error are appended to it.
    :param cwd: where job modules are looked for first.
    :param grace_s: from TERM to KILL, before the deadline that it gets later.
    :param attestation: where the guard attests, after this process's death, that no process is left.
    """

    def __init__(
        self, *, log_path: Path, cwd: Path, grace_s: float, attestation: Attestation | None = None
    ) -> None:
        self.grace_s = grace_s
        self._log_path = log_path
        self._cwd = cwd
        self._attestation = attestation
        self._guarded: GuardedProcess | None = None
        self._starting: asyncio.Future[GuardedProcess] | None = None

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await uninterrupted(self._leave())

    async def replace_dead(self) -> None:
        """Start another one if it has died, for whatever reason, while it waited: that is no matter of the job."""
        if self._guarded is not None and self._guarded.ended is not None:
            await uninterrupted(self._leave())
            self._start()

    async def process(self) -> GuardedProcess:
        """The worker that waits for its request. :raises StartFailed: there is none, and why."""
        if self._starting is None:
            raise RuntimeError("it was not entered")
        return await asyncio.shield(self._starting)

    @property
    def is_gone(self) -> bool:
        """No process is left of it, unless it runs still."""
        ended = None if self._guarded is None else self._guarded.ended
        return ended is None or ended.reaped

    def _start(self) -> None:
        self._guarded = GuardedProcess(
            _COMMAND,
            log_path=self._log_path,
            cwd=self._cwd,
            deadline=None,
            grace_s=self.grace_s,
            attestation=self._attestation,
        )
        self._starting = asyncio.ensure_future(self._guarded.__aenter__())

    async def _leave(self) -> None:
        try:
            process = await self.process()
        except StartFailed:
            return  # told to whoever asked for it
        if process.ended is None:
            process.kill()  # nobody asked for it: there is no work of it that could end in order
        await process.close()
