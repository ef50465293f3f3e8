"""What others ask of a running replica over HTTP: is it alive, is it ready, how is it doing.

The routes are called in threads. What they tell of the replica's state is looked up in its event loop,
which proves in passing that the loop turns.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar

from leaderjob.clock import boottime, utcnow
from leaderjob.cluster.membership import Membership
from leaderjob.cluster.rank import count_jobs, name_some
from leaderjob.cluster.schema import why_not_lead
from leaderjob.leading import Leading
from leaderjob.model.member import Member
from leaderjob.recipes import Leadership
from leaderjob.records.feed import Feed
from leaderjob.records.view import View
from leaderjob.results.httpd import Reply, Request, Route, plain
from leaderjob.telemetry.metrics import CONTENT_TYPE, JobState, Metrics, Snapshot

LOOP_ANSWERS_WITHIN_S = 1.0

T = TypeVar("T")


class LoopStalled(Exception):
    """The event loop did not come to a question in time."""


class InLoop:
    """Asks an event loop, from threads. Made in that loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def ask(self, question: Callable[[], T], *, timeout_s: float = LOOP_ANSWERS_WITHIN_S) -> T:
        """What ``question`` returns there. :raises LoopStalled: the loop does not come to it in time."""
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()

        def put() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
                answer.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(put)
        except RuntimeError as error:
            raise LoopStalled("its event loop has ended") from error
        try:
            return answer.result(timeout_s)
        except TimeoutError as error:
            raise LoopStalled(f"its event loop has not turned for {timeout_s:g} s") from error


def state_of(view: View, member: Member, leadership: Leadership | None, unloaded: int = 0) -> Snapshot:
    """What the gauges tell. Only in the event loop, which changes the view in place."""
    now = utcnow()
    # Whoever cannot trust its term does not lead any more, though its work may still be coming to an end.
    term = leadership if leadership is not None and leadership.trusted else None
    published = {job: stored.record.version for job, stored in view.pointers().items()}
    served = {job: holding.active for job, holding in member.holds.items() if holding.active is not None}
    jobs = {}
    for job in {*view.specs, *published, *served}:
        timetable = view.timetable(job)
        next_fire = timetable.record.next_fire if timetable is not None else None
        since = _published(view, job, served[job]) if job in served else None
        jobs[job] = JobState(
            served_version=served.get(job),
            published_version=published.get(job),
            version_age_s=(now - since).total_seconds() if since is not None else None,
            next_fire=next_fire.timestamp() if next_fire is not None else None,
        )
    return Snapshot(
        is_leader=term is not None,
        term_age_s=boottime() - term.won_at if term is not None else 0.0,
        trust_left_s=max(0.0, term.trusted_until - boottime()) if term is not None else 0.0,
        members=len(view.members),
        unloaded=unloaded,
        jobs=jobs,
    )


def _published(view: View, job: str, version: int) -> datetime | None:
    """When a version was published. Its record may be gone, and the replica serve it still because it cannot
    have a newer one: then when the oldest one was that is on record, so that its age is at least as told."""
    on_record = (stored.record for stored in view.versions(job))
    return next((record.published for record in on_record if record.version >= version), None)


def why_not_ready(
    view: View, member: Member, *, session_is_up: bool, stopping: bool, unloaded: Sequence[str] = ()
) -> list[str]:
    """Why a replica should not be asked now; empty if it should. Only in the event loop.

    :param unloaded: modules that did not load, and why. They keep a replica from being ready only where it lacks jobs
        that are in force: a rolling update stops there, and a module that never worked stops nobody.
    """
    reasons = []
    if stopping:
        reasons.append("it is stopping")
    if not session_is_up:
        reasons.append("it has no session with etcd")
    if view.revision == 0:
        reasons.append("it has not read yet what is published")
    for job in sorted(view.pointers()):
        holding = member.holds.get(job)
        if holding is None or holding.active is None:
            reasons.append(f"it serves no version of {job} yet")
    if unloaded and (lacking := lacking_jobs(member)) is not None:
        reasons.append(lacking)
        reasons.extend(_not_loaded(unloaded))
    return reasons


def notes_of(member: Member, unloaded: Sequence[str]) -> list[str]:
    """What somebody should know of a replica that is ready."""
    lacking = lacking_jobs(member)
    return [*([lacking] if lacking is not None else []), *_not_loaded(unloaded)]


def lacking_jobs(member: Member) -> str | None:
    """Which jobs in force the replica lacks, as a sentence; None: none, as far as is known."""
    lacks = member.lacks
    if lacks is None or not lacks.count:
        return None
    return f"it lacks {count_jobs(lacks.count)} in force: {name_some(lacks.jobs, lacks.count)}"


def _not_loaded(unloaded: Sequence[str]) -> list[str]:
    return [f"module {failure}" for failure in unloaded]


class Probes:
    """``/healthz``, ``/readyz`` and ``/metrics`` of one replica. Made in its event loop."""

    def __init__(
        self,
        *,
        leading: Leading,
        feed: Feed,
        membership: Membership,
        release: str,
        unloaded: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._leading = leading
        self._unloaded = unloaded
        self._feed = feed
        self._membership = membership
        self._loop = InLoop()
        self._stopping = False
        self.metrics = Metrics(
            replica=membership.member.replica,
            namespace=feed.keys.namespace,
            release=release,
            snapshot=self._state,
        )

    def stopping(self) -> None:
        """From now on this replica is not ready, whatever else it is."""
        self._stopping = True

    def routes(self) -> dict[str, Route]:
        return {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics}

    def _snapshot(self) -> Snapshot:
        leadership = self._leading.leadership
        return state_of(self._feed.view, self._membership.member, leadership, len(self._unloaded()))

    def _notes(self) -> list[str]:
        problem = why_not_lead(self._feed.view)
        notes = notes_of(self._membership.member, self._unloaded())
        return notes if problem is None else [*notes, problem]

    def _why_not_ready(self) -> list[str]:
        return why_not_ready(
            self._feed.view,
            self._membership.member,
            session_is_up=self._leading.session_is_up,
            stopping=self._stopping,
            unloaded=self._unloaded(),
        )

    def _healthz(self, request: Request) -> Reply:
        try:
            self._loop.ask(lambda: None)
        except LoopStalled as stalled:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, str(stalled))
        return plain(HTTPStatus.OK, "alive")

    def _readyz(self, request: Request) -> Reply:
        try:
            reasons, notes = self._loop.ask(lambda: (self._why_not_ready(), self._notes()))
        except LoopStalled as stalled:
            reasons, notes = [str(stalled)], []
        if reasons:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(reasons))
        return plain(HTTPStatus.OK, "\n".join(["ready", *notes]))

    def _metrics(self, request: Request) -> Reply:
        return Reply(HTTPStatus.OK, {"Content-Type": CONTENT_TYPE}, self.metrics.exposition())

    def _state(self) -> Snapshot | None:
        """None where the loop does not answer: counters are worth telling all the same, but what was so
        when it last turned is not. Somebody else may lead by now."""
        try:
            return self._loop.ask(self._snapshot)
        except LoopStalled:
            return None
