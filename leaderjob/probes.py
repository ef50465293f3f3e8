"""What others ask of a running replica over HTTP: is it alive, is it ready, how is it doing.

The routes are called in threads. What they tell of the replica's state is looked up in its event loop,
which proves in passing that the loop turns.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from leaderjob.clock import boottime, utcnow
from leaderjob.cluster.membership import Membership
from leaderjob.leading import Leading
from leaderjob.model.member import Role
from leaderjob.records.feed import Feed
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


class Probes:
    """``/healthz``, ``/readyz`` and ``/metrics`` of one replica. Made in its event loop."""

    def __init__(self, *, leading: Leading, feed: Feed, membership: Membership, release: str) -> None:
        self._leading = leading
        self._feed = feed
        self._membership = membership
        self._loop = InLoop()
        self._stopping = False
        self._last = Snapshot()
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

    def snapshot(self) -> Snapshot:
        """The state now. Only in the event loop."""
        leadership, view, now = self._leading.leadership, self._feed.view, utcnow()
        holds = self._membership.member.holds
        jobs = {}
        for job in {*view.specs, *view.pointers(), *holds}:
            pointer, timetable, holding = view.pointer(job), view.timetable(job), holds.get(job)
            served = holding.active if holding is not None else None
            version = next((v.record for v in view.versions(job) if v.record.version == served), None)
            next_fire = timetable.record.next_fire if timetable is not None else None
            jobs[job] = JobState(
                served_version=served,
                published_version=pointer.record.version if pointer is not None else None,
                version_age_s=(now - version.published).total_seconds() if version is not None else None,
                next_fire=next_fire.timestamp() if next_fire is not None else None,
            )
        leads = leadership is not None and self._membership.member.role is Role.LEADER
        return Snapshot(
            is_leader=leads,
            term_age_s=boottime() - leadership.won_at if leads and leadership is not None else 0.0,
            trust_left_s=max(0.0, leadership.trusted_until - boottime())
            if leads and leadership is not None
            else 0.0,
            members=len(view.members),
            jobs=jobs,
        )

    def not_ready(self) -> list[str]:
        """Why this replica should not be asked now; empty if it should. Only in the event loop."""
        reasons = []
        if self._stopping:
            reasons.append("it is stopping")
        if not self._leading.session_is_up:
            reasons.append("it has no session with etcd")
        holds = self._membership.member.holds
        for job in sorted(self._feed.view.pointers()):
            holding = holds.get(job)
            if holding is None or holding.active is None:
                reasons.append(f"it serves no version of {job} yet")
        return reasons

    def _healthz(self, request: Request) -> Reply:
        try:
            self._loop.ask(lambda: None)
        except LoopStalled as stalled:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, str(stalled))
        return plain(HTTPStatus.OK, "alive")

    def _readyz(self, request: Request) -> Reply:
        try:
            reasons = self._loop.ask(self.not_ready)
        except LoopStalled as stalled:
            reasons = [str(stalled)]
        if reasons:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(reasons))
        return plain(HTTPStatus.OK, "ready")

    def _metrics(self, request: Request) -> Reply:
        return Reply(HTTPStatus.OK, {"Content-Type": CONTENT_TYPE}, self.metrics.exposition())

    def _state(self) -> Snapshot:
        """The last known state where the loop does not answer: counters are worth telling all the same."""
        try:
            self._last = self._loop.ask(self.snapshot)
        except LoopStalled:
            return self._last
        return self._last
