"""Giving up office in order: nothing new is begun, what runs may end or is handed over, and then the term is over."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol

from leaderjob.errors import LeaderjobError
from leaderjob.telemetry.events import Events, emit


class SteppedDown(LeaderjobError):
    """The term ends because its leader was asked to give up office, and was still trusted to the end."""


class StepDown:
    """Whether this term was asked to end, and why. The first reason stays."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.deciding = asyncio.Lock()
        """Held while somebody prepares to ask."""
        self.reason = ""
        self.in_order = False
        """Whether it was asked for a reason that no job can have caused."""

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def ask(self, reason: str, *, in_order: bool = True) -> None:
        """:param in_order: False: a job may have brought that about, and must not do so to one replica after the other."""
        if not self.asked:
            self.reason = reason
            self.in_order = in_order
            self._asked.set()

    async def wait(self) -> str:
        """Wait until it was asked; returns why."""
        await self._asked.wait()
        return self.reason


class Busy(Protocol):
    """What may have work under way."""

    @property
    def busy(self) -> bool:
        """Whether it has some at this moment."""

    async def idle(self) -> None:
        """Return when it has none."""


async def all_idle(parts: Collection[Busy]) -> None:
    """Return at a moment at which none has work under way: while one is waited for, another may begin."""
    while busy := [part for part in parts if part.busy]:
        await busy[0].idle()


async def step_down_when_asked(
    stepdown: StepDown,
    parts: Collection[Busy],
    *,
    term: int,
    drain_s: float,
    draining: Callable[[], None] = lambda: None,
) -> None:
    """:param draining: called if there is work under way when it is asked.

    :raises SteppedDown: it was asked, and what was under way has ended, or had ``drain_s`` to do so.
    """
    reason = await stepdown.wait()
    emit(Events.STEPPING_DOWN, term=term, reason=reason)
    if any(part.busy for part in parts):
        draining()
    with suppress(TimeoutError):
        async with asyncio.timeout(drain_s):
            await all_idle(parts)
    raise SteppedDown(f"term {term} steps down: {reason}")
