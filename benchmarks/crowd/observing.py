"""What is seen from outside: who leads, which jobs are armed, and how long an event loop takes to answer."""

import asyncio
import http.client
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus

from leaderjob.embedded.cluster import ReplicaProcess
from leaderjob.etcd import Etcd, follow
from leaderjob.model.job import JobSpec, Timetable
from leaderjob.model.member import Member
from leaderjob.records.keys import Keys

_POLL_S = 0.1
_ASK_EVERY_S = 0.02
_ANSWER_TIMEOUT_S = 30.0


@asynccontextmanager
async def leaders(etcd: Etcd, keys: Keys) -> AsyncIterator[list[int]]:
    """The create revisions of the leader's key, as they come; 0 while nobody leads. Grows until the exit."""
    seen: list[int] = []

    async def watch() -> None:
        candidates: dict[str, int] = {}
        async with aclosing(follow(etcd, keys.election)) as batches:
            async for batch in batches:
                for event in batch.events:
                    candidates.pop(event.key, None)
                    if event.now is not None:
                        candidates[event.key] = event.now.create_revision
                leader = min(candidates.values(), default=0)
                if not seen or seen[-1] != leader:
                    seen.append(leader)

    watching = asyncio.create_task(watch(), name="leaders")
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def address_of(etcd: Etcd, keys: Keys, replica: ReplicaProcess) -> str:
    """Where it answers over HTTP, once it is a member. :raises ReplicaEnded: it ended by itself."""
    while True:
        replica.check()
        found = await etcd.get(keys.member(replica.name))
        if found is not None and (member := Member.from_bytes(found.value)).pid == replica.pid:
            return member.addresses["http"]
        await asyncio.sleep(_POLL_S)


async def until_ready(address: str) -> None:
    while await asyncio.to_thread(_status, address, "/readyz") != HTTPStatus.OK:  # noqa: ASYNC110 - it has to be asked
        await asyncio.sleep(_POLL_S)


async def until_armed(etcd: Etcd, keys: Keys, jobs: int, *, after: int = 0) -> int:
    """Wait until one term, later than ``after``, has put every job's definition in force and knows when each is due;
    returns its token."""
    while True:
        found = (await etcd.range(keys.jobs)).kvs
        tokens = {JobSpec.from_bytes(kv.value).token for kv in found if kv.key.endswith("/spec")}
        due = [Timetable.from_bytes(kv.value).next_fire for kv in found if kv.key.endswith("/schedule")]
        if len(found) == 2 * jobs and len(due) == jobs and None not in due and len(tokens) == 1:
            token = tokens.pop()
            if token is not None and token > after:
                return token
        await asyncio.sleep(_POLL_S)


class LoopWatch(threading.Thread):
    """Asks a replica all the time whether it is alive, which its event loop has to answer.

    What is taken includes a request over HTTP, some 2 ms, and waiting for a processor.
    """

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._ended = threading.Event()
        self._answers: list[tuple[float, float]] = []

    def run(self) -> None:
        while not self._ended.wait(_ASK_EVERY_S):
            began_at = time.monotonic()
            _status(self._address, "/healthz")
            self._answers.append((began_at, time.monotonic() - began_at))

    def worst_s(self, since: float, until: float) -> float:
        """The longest answer to what was asked between these monotonic times."""
        return max((took_s for at, took_s in self._answers if since <= at < until), default=0.0)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _status(address: str, path: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=_ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
