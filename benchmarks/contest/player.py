"""The process of one contestant, which takes its turns when it is asked to."""

import asyncio
import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contest.contestants import Contestant
from contest.turns import Calls, Outcome, Watching

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_ROOT = Path(__file__).resolve().parent.parent
_LINE_LIMIT_BYTES = 16 * 2**20
_GRACE_S = 2.0
_GREETED = b"greeted\n"


class TurnFailed(Exception):
    """A contestant did not do what it was asked to; the message says what is known."""


class Player:
    """Started by its first turn, and again after one that failed.

    :param endpoint: of its server. :param log: where its standard error goes.
    :param programs: the package that its program is in.
    """

    def __init__(
        self,
        contestant: Contestant,
        python: Path,
        endpoint: str,
        log: Path,
        *,
        programs: str = "contest.peers",
    ) -> None:
        self.contestant = contestant
        self._python = python
        self._address = endpoint.rsplit(":", 1)
        self._log = log
        self._programs = programs
        self._process: asyncio.subprocess.Process | None = None

    async def take(self, turn: Calls | Watching, *, timeout_s: float) -> Outcome:
        """:raises TurnFailed: no outcome."""
        await self.begin(turn)
        return await self.outcome(timeout_s=timeout_s)

    async def begin(self, turn: "DataclassInstance") -> None:
        """Ask for a turn; its outcome is to be fetched later."""
        if self._process is None:
            await self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(turn)).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # it has ended: asking for the outcome tells why
            await self._process.stdin.drain()

    async def greeted(self, *, timeout_s: float) -> None:
        """Return once the watch that was begun has told its first greeting. :raises TurnFailed: it has not."""
        line = await self._line(timeout_s)
        if line != _GREETED:
            await self._failed(f"said {line[:80]!r} where a greeting was due")

    async def outcome(self, *, timeout_s: float) -> Outcome:
        """:raises TurnFailed: there is none."""
        return Outcome(**await self.answer(timeout_s=timeout_s))

    async def answer(self, *, timeout_s: float) -> Any:
        """What it says to the turn that was begun. :raises TurnFailed: nothing."""
        return json.loads(await self._line(timeout_s))

    async def stop(self) -> None:
        """Return once the process is gone: at the end of its input it ends, unless it hangs."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_GRACE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _start(self) -> None:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._python,
                "-m",
                f"{self._programs}.{self.contestant.module}",
                *self._address,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=_LINE_LIMIT_BYTES,
                env={**os.environ, "PYTHONPATH": os.pathsep.join((str(_ROOT), str(_ROOT.parent)))},
            )

    async def _line(self, timeout_s: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            await self._failed(f"said nothing for {timeout_s:g} s")
        if not line:
            await self._failed("ended")
        return line

    async def _failed(self, how: str) -> None:
        await self.stop()
        words = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        raise TurnFailed(f"it {how}" + (f"; its last words: {words[-1].strip()[:200]}" if words else ""))
