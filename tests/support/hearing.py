"""Events that a test waits for."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from leaderjob.telemetry.events import Events, listen


class Heard:
    """Every event since it was begun, with its fields."""

    def __init__(self) -> None:
        self.told: list[tuple[Events, Mapping[str, Any]]] = []
        self._more = asyncio.Event()

    def take(self, event: Events, fields: Mapping[str, Any]) -> None:
        self.told.append((event, fields))
        self._more.set()

    def all(self, event: Events) -> list[Mapping[str, Any]]:
        return [fields for each, fields in self.told if each is event]

    async def until(self, event: Events, count: int = 1) -> Mapping[str, Any]:
        """Return the fields of the one with that number, as soon as it has happened."""
        while len(self.all(event)) < count:
            self._more.clear()
            await self._more.wait()
        return self.all(event)[count - 1]


@contextmanager
def hearing() -> Iterator[Heard]:
    """What is emitted inside, by the thread of the event loop."""
    heard = Heard()
    stop = listen(heard.take)
    try:
        yield heard
    finally:
        stop()
