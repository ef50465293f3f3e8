"""Whether this replica is fit to lead: faults of its own that another replica need not have.

What is everybody's fault, an etcd that is full or has lost its quorum, is none: there another leader would
be as useless.
"""

import asyncio
import os
from collections import deque
from pathlib import Path

from leaderjob.clock import boottime
from leaderjob.offload import in_own_thread

PROBE = "writable"
_TICK_S = 0.25
_WINDOW_S = 30.0
_HELD_UP_SHARE = 0.5
_DISK_TIMEOUT_S = 10.0


def disk_problem(directory: Path) -> str | None:
    """Why nothing can be written there, or None. Writes a few bytes, and waits until the disk has them.

    They are not left there: a full disk would give their room back, and take them again each time.
    """
    path = directory / PROBE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, b"\0" * 4096)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError as error:
        return f"nothing can be written to {path}: {error.strerror}"
    return None


class Fitness:
    """Looks at the disk when asked, and at the event loop all the time that :meth:`run` runs.

    :param directory: where a leader has to write.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lags: deque[tuple[float, float]] = deque()
        self._probe: asyncio.Future[str | None] | None = None

    async def run(self) -> None:
        """Measure how late the loop is, until cancelled."""
        while True:
            due = boottime() + _TICK_S
            await asyncio.sleep(_TICK_S)
            now = boottime()
            self._lags.append((now, max(0.0, now - due)))
            while self._lags[0][0] < now - _WINDOW_S:
                self._lags.popleft()

    async def problem(self) -> str | None:
        """Why this replica should not lead, or None."""
        held_up_s = sum(lag for _, lag in self._lags)
        if held_up_s > _WINDOW_S * _HELD_UP_SHARE:
            return f"its event loop was held up for {held_up_s:.0f} s of the last {_WINDOW_S:g} s"
        return await self._disk_problem()

    async def _disk_problem(self) -> str | None:
        if self._probe is None or self._probe.done():
            self._probe = in_own_thread(lambda: disk_problem(self._directory), "disk probe")
        probe = self._probe  # several may wait for the same one
        done, _ = await asyncio.wait([probe], timeout=_DISK_TIMEOUT_S)
        return probe.result() if done else f"its disk has not taken a few bytes within {_DISK_TIMEOUT_S:g} s"
