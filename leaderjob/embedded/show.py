"""The show of ``leaderjob demo``: a build, searches, a murder, a takeover, the next build.

Everything that is reported was observed from outside: through etcd's watch, the replicas' own answers,
and the bytes on their disks.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from leaderjob.client import Client
from leaderjob.embedded.cluster import ReplicaProcess
from leaderjob.embedded.verify import serves
from leaderjob.embedded.words import queries_for
from leaderjob.errors import LeaderjobError
from leaderjob.model.run import Outcome
from leaderjob.records.narrate import Narrator, Story, leader_facts
from leaderjob.records.view import View

JOB = "search_index"
MODULE = "jobs.search_index"
NAMESPACE = "demo"
_START_TIMEOUT_S = 60.0
_BUILD_TIMEOUT_S = 600.0
_TAKEOVER_TIMEOUT_S = 60.0
_CHECK_S = 0.5


class ShowFailed(LeaderjobError):
    """The show did not go as it should; the message says what was missing."""


class Display(Protocol):
    """Who watches the show."""

    def note(self, text: str) -> None:
        """A sentence on what comes, or has come."""

    def event(self, event: dict[str, Any], view: View) -> None:
        """Something happened in the cluster."""

    def answer(self, replica: str, version: int, value: dict[str, Any]) -> None:
        """A replica answered a search."""


@dataclass(frozen=True, slots=True)
class Build:
    version: int
    leader: str
    token: int
    documents: int
    seconds: float


@dataclass(slots=True)
class Report:
    """What the show found; the field names are those of ``leaderjob demo --json``."""

    replicas: int
    builds: list[Build] = field(default_factory=list)
    followers: dict[str, dict[str, Any]] = field(default_factory=dict)
    queries: list[dict[str, Any]] = field(default_factory=list)
    failover: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def problems(self) -> list[str]:
        """What is not as it should be; empty if the show proved what it set out to prove."""
        found = []
        if [build.version for build in self.builds] != [1, 2]:
            found.append(f"versions {[build.version for build in self.builds]} were built, not 1 and 2")
        elif self.builds[0].token >= self.builds[1].token or self.builds[0].leader == self.builds[1].leader:
            found.append("the second build is not that of a newer term of another leader")
        if not all(build.documents > 0 for build in self.builds):
            found.append("a build indexed no documents")
        if len(self.followers) != self.replicas - 1:
            found.append(f"{len(self.followers)} replicas follow at the end, not {self.replicas - 1}")
        for replica, state in self.followers.items():
            if state != {"version": 2, "verified": True}:
                found.append(f"{replica} serves {state}")
        if len({query["replica"] for query in self.queries}) != self.replicas:
            found.append("not every replica answered a search")
        found.extend(
            f"{query['replica']} found nothing for {query['query']!r}"
            for query in self.queries
            if query["hits"] < 1
        )
        if not self.failover or self.failover["new_leader"] != self.builds[-1].leader:
            found.append("the replica that took over is not the one that built next")
        return found


def replica_config(corpus: str) -> str:
    """The settings of the demo's replicas: builds are triggered by the show, not by the clock."""
    return f'[overrides.{JOB}]\nschedule = ""\n[overrides.{JOB}.params]\ncorpus = {json.dumps(corpus)}\n'


class Show:
    """Watches the cluster while it runs, and takes it through its acts."""

    def __init__(
        self, client: Client, replicas: Sequence[ReplicaProcess], corpus: str, display: Display
    ) -> None:
        self._client = client
        self._replicas = {replica.name: replica for replica in replicas}
        self._corpus = corpus
        self._display = display
        self._view = View()
        self._changed = asyncio.Event()
        self._led: list[tuple[float, dict[str, Any]]] = []
        self.report = Report(replicas=len(replicas))

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """While in this context, the display is told what happens."""
        watch = asyncio.create_task(self._watch(), name="watch the cluster")
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def run(self) -> None:
        """All acts. :raises ShowFailed: one did not come about. :raises ReplicaEnded: see there."""
        for replica in self._replicas.values():
            replica.start()
        everybody = len(self._replicas)
        self._display.note(f"started {everybody} replicas: {', '.join(self._replicas)}")
        await self._until(
            "all replicas are there and one leads",
            lambda view: len(view.members) == everybody and bool(self._led) and JOB in view.specs,
            _START_TIMEOUT_S,
        )
        self._display.note("the leader builds the index; the others wait for it")
        await self._build()
        await self._everybody_serves(1)
        self._display.note("every replica has its own verified copy; each one answers a search")
        await self._search()
        await self._kill_the_leader()
        self._display.note("the new leader builds the next version; the killed one comes back and catches up")
        self._replicas[self.report.failover["killed"]].start()
        await self._build()
        await self._everybody_serves(2)
        await self._verify()

    async def _build(self) -> None:
        run_id = await self._client.trigger(JOB)
        view = await self._until(
            f"run {run_id} is over",
            lambda view: any(run.record.id == run_id and run.record.outcome for run in view.runs(JOB)),
            _BUILD_TIMEOUT_S,
        )
        run = next(stored.record for stored in view.runs(JOB) if stored.record.id == run_id)
        attempt, pointer = run.attempt, view.pointer(JOB)
        if (
            run.outcome is not Outcome.SUCCEEDED
            or attempt is None
            or attempt.ended is None
            or pointer is None
        ):
            raise ShowFailed(f"the build {run.outcome}: {run.reason}")
        self.report.builds.append(
            Build(
                version=pointer.record.version,
                leader=attempt.replica,
                token=attempt.token,
                documents=int((pointer.record.result or {}).get("documents", 0)),
                seconds=round((attempt.ended - attempt.started).total_seconds(), 1),
            )
        )

    async def _everybody_serves(self, version: int) -> None:
        await self._until(
            f"every replica serves version {version}",
            lambda view: (
                sum(_served(view, replica) == version for replica in view.members) == len(self._replicas)
            ),
            _START_TIMEOUT_S,
        )

    async def _search(self) -> None:
        queries = await asyncio.to_thread(queries_for, self._corpus, len(self._replicas))
        for replica, query in zip(self._replicas, queries, strict=False):
            answer = await self._client.query(JOB, {"q": query, "limit": 10}, replica=replica)
            value = answer.value
            top = value["results"][0]["title"] if value["results"] else None
            self.report.queries.append(
                {"replica": answer.replica, "query": query, "hits": value["hits"], "top": top}
            )
            self._display.answer(answer.replica, answer.version, value)

    async def _kill_the_leader(self) -> None:
        leader = leader_facts(self._view)
        if leader is None or leader["replica"] not in self._replicas:
            raise ShowFailed("nobody of ours leads any more, before anybody was killed")
        killed = self._replicas[leader["replica"]]
        self._display.note(f"killing the leader: kill -9 {killed.pid} ({killed.name})")
        known = len(self._led)
        killed_at = time.monotonic()
        killed.kill()
        await self._until("another replica leads", lambda view: len(self._led) > known, _TAKEOVER_TIMEOUT_S)
        elected_at, facts = self._led[-1]
        self.report.failover = {
            "killed": killed.name,
            "new_leader": facts["replica"],
            "milliseconds": round((elected_at - killed_at) * 1000, 1),
        }
        self._display.note(f"{facts['replica']} took over after {self.report.failover['milliseconds']} ms")

    async def _verify(self) -> None:
        """Re-hash what the followers serve, from their disks."""
        leader, pointer = leader_facts(self._view), self._view.pointer(JOB)
        if leader is None or pointer is None:
            raise ShowFailed("nobody leads at the end, or nothing is published")
        for name, replica in self._replicas.items():
            if name != leader["replica"]:
                verified = await asyncio.to_thread(serves, replica.state_dir, JOB, pointer.record.digest)
                self.report.followers[name] = {"version": _served(self._view, name), "verified": verified}

    async def _watch(self) -> None:
        narrator = Narrator()
        async with aclosing(self._client.follow()) as batches:
            async for batch, view in batches:
                self._view = view
                for event in narrator.tell(batch, view):
                    if event["event"] == Story.LEADER_ELECTED:
                        self._led.append((time.monotonic(), event))
                    self._display.event(event, view)
                self._changed.set()

    async def _until(self, what: str, condition: Callable[[View], bool], timeout_s: float) -> View:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout_s
        while not condition(self._view):
            for replica in self._replicas.values():
                replica.check()
            if loop.time() >= give_up_at:
                raise ShowFailed(f"after {timeout_s:g} s it is still not so that {what}")
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_S):
                    await self._changed.wait()
        return self._view


def _served(view: View, replica: str) -> int | None:
    member = view.members.get(replica)
    holding = member.record.holds.get(JOB) if member else None
    return holding.active if holding else None
