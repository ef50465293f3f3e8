"""This replica's part in the election, over and over: session, campaign, term, and again."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TypeVar

from leaderjob.clock import boottime, utcnow
from leaderjob.cluster.fitness import Fitness
from leaderjob.cluster.history import HistoryCheck, HistoryInQuestion, StateUnwritable, shows_another
from leaderjob.cluster.liveness import witness
from leaderjob.cluster.membership import Membership
from leaderjob.cluster.queue import campaign_and_let_pass
from leaderjob.cluster.schema import (
    only_serve,
    until_schema_is_read,
    until_schema_is_too_new,
    why_not_lead,
)
from leaderjob.engine.definition import Assignment
from leaderjob.engine.office import Limits, Office
from leaderjob.engine.stepdown import StepDown, SteppedDown
from leaderjob.engine.succession import see_all_before
from leaderjob.engine.term import serve_term
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import (
    AuthenticationFailed,
    Etcd,
    EtcdError,
    HistoryWentBack,
    NobodyKnown,
    PermissionDenied,
)
from leaderjob.execution.attestation import Attestation, attestation
from leaderjob.model.history import History
from leaderjob.model.member import Candidate, Priority, Role
from leaderjob.model.schema import READS_SCHEMA
from leaderjob.recipes import (
    CampaignLost,
    Election,
    Leadership,
    NotLeader,
    Session,
    SessionLost,
    TermLost,
    Timing,
)
from leaderjob.records.feed import Feed
from leaderjob.records.fenced import FencedWriter
from leaderjob.records.keys import Keys
from leaderjob.records.stored import NewerRecord
from leaderjob.results.activation import Activation
from leaderjob.results.errors import ArtifactDamaged, RecordDamaged
from leaderjob.results.store import Store
from leaderjob.scheduling.alarm import Alarm
from leaderjob.settings import Settings
from leaderjob.telemetry.events import Events, emit

_PAUSE_S = 1.0
_REFUSED_PAUSE_S = 10.0
_NOTE_EVERY_S = 10.0
_LOOK_EVERY_S = 5.0
_UNFIT_FOR_S = 10.0
_STOPS = "the replica stops"

ErrorT = TypeVar("ErrorT", bound=Exception)


class Leading:
    """Stands for election whenever it can, and does a term's work when it has won.

    :param all_loaded: whether every module of this replica loaded.
    :param assignments: the jobs that this replica has. :param until_more: returns when there are more than those given.
    :param hosts: where guards listen, and what others are told of that.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        etcd: Etcd,
        keys: Keys,
        feed: Feed,
        timing: Timing,
        membership: Membership,
        history_check: HistoryCheck,
        store: Store,
        activation: Activation,
        assignments: Mapping[str, Assignment],
        all_loaded: Callable[[], bool],
        until_more: Callable[[Collection[str]], Awaitable[None]],
        hosts: tuple[str, str],
    ) -> None:
        self._hosts = hosts
        self._fitness = Fitness(settings.state_dir)
        self._settings = settings
        self._etcd = etcd
        self._keys = keys
        self._feed = feed
        self._timing = timing
        self._membership = membership
        self._history_check = history_check
        self._store = store
        self._activation = activation
        self._assignments = assignments
        self._all_loaded = all_loaded
        self._until_more = until_more
        self._history: History | None = None
        self._session: Session | None = None
        self._stepdown: StepDown | None = None
        self._leaving = False
        self._out_of_office = asyncio.Event()
        self._out_of_office.set()
        self.leadership: Leadership | None = None
        """The term in office, while this replica leads."""

    @property
    def history_id(self) -> str | None:
        """The id of the store's history, once it is known that it is the one seen before."""
        return self._history.id if self._history else None

    @property
    def _term(self) -> int | None:
        return self.leadership.term.token if self.leadership is not None else None

    @property
    def session_is_up(self) -> bool:
        """Whether the lease may be thought to live, by the last keepalive that was acknowledged."""
        session = self._session
        return (
            session is not None
            and not session.is_lost
            and boottime() < session.acknowledged_at + session.ttl_s
        )

    async def run(self) -> None:
        """Until cancelled: then the term's work is stopped, office given up, and the lease revoked."""
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(self._fitness.run(), name="fitness: measured")
            try:
                await self._take_part_for_ever()
            finally:
                measuring.cancel()

    async def _take_part_for_ever(self) -> None:
        told = ""
        went_back: HistoryWentBack | None = None
        while True:
            reason = refused = ""
            try:
                if went_back is not None:
                    await self._history_check.doubt(went_back)
                    went_back = None
                try:
                    # In a task of its own, as each attempt of keep_running(), and for the same reason.
                    await asyncio.ensure_future(self._one_session())
                finally:
                    self._out_of_office.set()
            except* (SessionLost, CampaignLost, TermLost, NotLeader, SteppedDown):
                pass  # told by events where it happened; a new session, and another campaign
            except* HistoryWentBack as errors:
                went_back = _first(errors)
            except* (AuthenticationFailed, NobodyKnown, PermissionDenied) as errors:
                # In whatever words: with each session the key has another name.
                refused = type(_first(errors)).__name__
                if refused != told:
                    emit(Events.ETCD_REFUSES, reason=_first(errors))
                reason = refused
            except* LeaderjobError as errors:
                reason = str(_first(errors))
                if reason != told:
                    emit(Events.CONNECTION_TROUBLE, reason=reason)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # what ended with it by itself, at that moment, hid it
            told = reason
            await asyncio.sleep(_REFUSED_PAUSE_S if refused else _PAUSE_S)

    def leave(self) -> None:
        """Give up office for good, in order: runs under way may end, for as long as the settings allow."""
        self._leaving = True
        if self._stepdown is not None:
            self._stepdown.ask(_STOPS)

    async def out_of_office(self) -> None:
        """Return when this replica does not lead, and its term's work has stopped."""
        await self._out_of_office.wait()

    async def _one_session(self) -> None:
        session = await Session.open(self._etcd, self._timing)
        async with session:
            self._session = session
            # Nothing is written before it is known that this is the store that we knew.
            try:
                history = await self._history_check.check()
            except HistoryInQuestion as question:
                emit(Events.STORE_WENT_BACK, reason=question)
                await self._beside(session, question.history, session.wait_lost())
                return
            except NewerRecord as newer:
                emit(Events.RECORD_NEWER, key=self._keys.history, reason=newer)
                await only_serve(self._feed, self._membership, session, self._keys.history)
                return
            except StateUnwritable:
                # Its disk takes nothing. The connection knows the store as well, so it may stay a member of it.
                if self._history is None or await self._fitness.problem() is None:
                    raise
                await self._beside(session, self._history, self._until_fit(session))
                return
            self._history = history
            self._feed.wake()  # followers wait for a history that they may act on
            try:
                await self._beside(session, history, self._take_part(session, history))
            finally:
                await self._note()

    async def _beside(self, session: Session, history: History, work: Coroutine[Any, Any, Any]) -> None:
        """Do ``work``; beside it, be a member, and see to it that the history stays the one that it is."""
        if shows_another(self._feed.view, history):
            # It may wait for revisions that the store has lost, and hear nothing.
            await self._feed.read_again()
        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(self._membership.keep(session), name="heartbeat record"),
                group.create_task(self._lose_with_the_history(session, history), name="history: watched"),
                group.create_task(self._keep_noting(), name="history: noted"),
                group.create_task(self._step_down_if_unfit(session), name="fitness: looked at"),
            ]
            try:
                await work
            finally:
                for other in others:
                    other.cancel()

    async def _lose_with_the_history(self, session: Session, history: History) -> None:
        """End the session when somebody doubts the store, or accepts it as it is."""
        await self._feed.until(lambda view: shows_another(view, history))
        session.lose("the record of the store's history has changed")

    async def _keep_noting(self) -> None:
        while True:
            await asyncio.sleep(_NOTE_EVERY_S)
            await self._note()

    async def _note(self) -> None:
        try:
            await self._history_check.note()
        except StateUnwritable as error:
            emit(Events.CONNECTION_TROUBLE, reason=error)

    async def _take_part(self, session: Session, history: History) -> None:
        await self._membership.withdraw_former(self._keys.election)
        if self._membership.member.priority is Priority.OBSERVER or self._leaving:
            session.check()
            await session.wait_lost()
            return
        await self._until_fit(session)
        await until_schema_is_read(self._feed, session)
        watching = asyncio.ensure_future(self._leave_with_the_schema(session))
        try:
            await self._campaign_and_lead(session, history)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _leave_with_the_schema(self, session: Session) -> None:
        """Give up office, or the place in the queue, when the keys get a layout that this release does not read."""
        problem = await until_schema_is_too_new(self._feed)
        if self._stepdown is not None:
            self._stepdown.ask(problem)
        else:
            session.lose(problem)

    async def _until_fit(self, session: Session) -> None:
        """:raises SessionLost: it is no member any more, and needs a session to be one again."""
        told = False
        while (problem := await self._fitness.problem()) is not None:
            if not told:
                emit(Events.UNFIT, reason=problem)
            told = True
            await asyncio.sleep(_LOOK_EVERY_S)
            session.check()

    async def _step_down_if_unfit(self, session: Session) -> None:
        """Two looks in a row: a fault that passes at once costs more when office changes hands.

        What is under way may hang on the very fault, so office ends with the session if not by then.
        """
        former: str | None = None
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            problem = await self._fitness.problem()
            if problem is not None and former is not None and self._stepdown is not None:
                emit(Events.UNFIT, reason=problem, term=self._term)
                self._stepdown.ask(problem, in_order=False)
                timing = self._settings.election
                await asyncio.sleep(timing.drain + timing.kill_grace_s + _UNFIT_FOR_S)
                session.lose(f"it is unfit to lead, and could not end its work in time: {problem}")
            former = problem

    async def _campaign_and_lead(self, session: Session, history: History) -> None:
        member = self._membership.member
        candidate = Candidate(
            replica=member.replica,
            incarnation=member.incarnation,
            addresses=member.addresses,
            since=utcnow(),
            margin_s=session.margin_s,
            reads_schema=READS_SCHEMA,
        )
        election = Election.below(self._etcd, self._keys.election, token_floor=history.token_floor)
        fast = self._settings.election.takeover_fast
        leadership = await campaign_and_let_pass(
            lambda: election.campaign(
                session,
                candidate.to_bytes(),
                witness=witness if fast else None,
                proclaims=lambda: candidate.model_copy(update={"leading_since": utcnow()}).to_bytes(),
            ),
            self._feed,
            member.replica,
            token_floor=history.token_floor,
        )
        self.leadership = leadership
        self._stepdown = stepdown = StepDown()
        self._out_of_office.clear()
        if self._leaving:
            stepdown.ask(_STOPS)
        try:
            self._membership.set(role=Role.LEADER)
            await see_all_before(self._feed, leadership, stepdown)
            if (problem := why_not_lead(self._feed.view)) is not None:
                stepdown.ask(problem)
                return  # an earlier term has changed the keys since this candidate queued
            after_ms = (
                None if leadership.free_at is None else round((boottime() - leadership.free_at) * 1000, 1)
            )
            emit(Events.TAKES_OFFICE, term=leadership.term.token, after_ms=after_ms)
            session.renew_now()  # trust counts from the keepalive before the win
            async with Alarm() as alarm:
                office = self._office(leadership, history, alarm, stepdown)
                await serve_term(office, self._assignments, self._until_more)
        finally:
            # Here the term's work has stopped, so office may go to the next one.
            self.leadership = None
            self._stepdown = None
            with suppress(EtcdError):
                await election.resign(leadership, stepdown.reason or "resigned")
            # Not before: whoever is next waits for the one write, and not for the other.
            self._membership.set(role=Role.FOLLOWER, draining=False)
            emit(Events.TERM_ENDED, term=leadership.term.token, reason=leadership.reason)

    def _office(self, leadership: Leadership, history: History, alarm: Alarm, stepdown: StepDown) -> Office:
        results = self._settings.results
        return Office(
            replica=self._membership.member.replica,
            leadership=leadership,
            writer=FencedWriter(leadership),
            keys=self._keys,
            feed=self._feed,
            history=history,
            store=self._store,
            alarm=alarm,
            stepdown=stepdown,
            work_dir=self._settings.state_dir / "work",
            cwd=Path.cwd(),
            previous=self._previous,
            attestation=self._attestation,
            limits=Limits(
                publish_after=results.publish_after,
                publish_timeout_s=results.publish_timeout,
                keep_versions=results.keep,
                keep_runs=results.keep_runs,
                keep_skipped=results.keep_skipped,
                kill_grace_s=self._settings.election.kill_grace_s,
                drain_s=self._settings.election.drain,
                remove_after_s=results.remove_after,
            ),
            all_loaded=self._all_loaded,
            draining=lambda: self._membership.set(draining=True),
        )

    def _attestation(self) -> AbstractContextManager[Attestation | None]:
        # Whoever leads next may have to wait for the TTL before it wins, and again if it dies.
        return attestation(*self._hosts, stay_s=2 * self._timing.ttl_s + _PAUSE_S)

    def _previous(self, job: str) -> Path | None:
        try:
            active = self._activation.active(job)
        except (ArtifactDamaged, RecordDamaged) as damaged:
            emit(Events.SERVING_FAILED, job=job, reason=damaged)
            return None
        return active.path if active else None


def _first(group: BaseExceptionGroup[ErrorT]) -> ErrorT:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
