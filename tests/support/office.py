"""A term's office without a replica around it: what the parts of a term work with, on a real etcd."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from leaderjob.clock import utcnow
from leaderjob.engine.definition import Assignment
from leaderjob.engine.office import Limits, Office
from leaderjob.engine.stepdown import StepDown
from leaderjob.etcd import Compare, Etcd, Op
from leaderjob.execution.attestation import attestation
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.history import History
from leaderjob.model.job import JobSpec, Policy
from leaderjob.model.member import Candidate
from leaderjob.recipes import Leadership, Timing
from leaderjob.records.feed import Feed
from leaderjob.records.fenced import Committed, FencedWriter
from leaderjob.records.keys import Keys
from leaderjob.results.store import Store
from leaderjob.scheduling.alarm import Alarm
from leaderjob.scheduling.triggers import parse_schedule
from tests.support.candidates import TIMING, Observed, Place

_ROOT = Path(__file__).parents[2]
_LIMITS = Limits(
    publish_after=0, publish_timeout_s=5.0, keep_versions=1, keep_runs=10, keep_skipped=10, kill_grace_s=1.0
)


class Interrupted(FencedWriter):
    """Does something else right before, or right after, the next write; counts the writes."""

    def __init__(self, leadership: Leadership) -> None:
        super().__init__(leadership)
        self.before: Callable[[], Awaitable[object]] | None = None
        self.after: Callable[[], Awaitable[object]] | None = None
        self.writes = 0

    async def commit_nested(self, compares: Sequence[Compare], ops: Sequence[Op]) -> Committed:
        self.writes += 1
        if self.before is not None:
            before, self.before = self.before, None
            await before()
        committed = await super().commit_nested(compares, ops)
        if self.after is not None:
            after, self.after = self.after, None
            await after()
        return committed


@dataclass(frozen=True, slots=True)
class Seat:
    """:param client: what the office uses. :param outside: what nobody observes, and no proxy is in the way of."""

    office: Office
    writer: Interrupted
    client: Observed
    outside: Etcd

    @property
    def keys(self) -> Keys:
        return self.office.keys

    @property
    def feed(self) -> Feed:
        return self.office.feed


@asynccontextmanager
async def seated(
    endpoint: str,
    namespace: str,
    directory: Path,
    *,
    through: str | None = None,
    fed_through: str | None = None,
    timing: Timing = TIMING,
) -> AsyncIterator[Seat]:
    """:param through: another address of that etcd, which the office uses. :param fed_through: and its feed.
    :param timing: of the session; give a short TTL only to a test that waits for it.
    """
    keys = Keys(namespace)
    place = Place(endpoint, namespace)
    place.prefix = keys.election
    with Store(directory / "store") as store:
        async with (
            place.candidate(timing=timing, endpoint=through) as (election, session, client),
            place.outside() as outside,
            Etcd([fed_through or endpoint]) as fed_by,
            Alarm() as alarm,
        ):
            candidate = Candidate(replica="r1", incarnation="1", addresses={}, since=utcnow())
            leadership = await election.campaign(session, candidate.to_bytes())
            feed, writer = Feed(fed_by, keys), Interrupted(leadership)
            following = asyncio.create_task(feed.run())
            office = Office(
                replica="r1",
                leadership=leadership,
                writer=writer,
                keys=keys,
                feed=feed,
                history=History(id="h"),
                store=store,
                alarm=alarm,
                work_dir=directory / "work",
                cwd=_ROOT,
                previous=lambda job: None,
                stepdown=StepDown(),
                attestation=lambda: attestation("127.0.0.1", "127.0.0.1", stay_s=1.0),
                limits=_LIMITS,
            )
            try:
                await feed.changed()
                yield Seat(office, writer, client, outside)
            finally:
                following.cancel()
                await asyncio.wait([following])


@asynccontextmanager
async def going_on(*parts: Awaitable[Any]) -> AsyncIterator[None]:
    """Parts of a term's work, beside the test; one that breaks breaks the test."""
    async with asyncio.TaskGroup() as group:

        async def run(part: Awaitable[Any]) -> None:
            await part

        tasks = [group.create_task(run(part)) for part in parts]
        yield
        for task in tasks:
            task.cancel()


def assigned(name: str, *schedule: str) -> Assignment:
    """A job that returns its parameter ``value``; no parameter is checked, and no fire is too late."""
    spec = JobSpec(
        name=name,
        reference="tests.support.jobs.results:value",
        schedule=schedule,
        policy=Policy(misfire_grace_s=1e10),
    )
    return Assignment(spec, parse_schedule(schedule, job=name))


def trigger(command: str, job: str, **params: Any) -> Command:
    now = utcnow()
    return Command(
        id=command,
        kind=CommandKind.TRIGGER,
        job=job,
        created=now,
        expires=now + timedelta(minutes=5),
        params=params,
    )
