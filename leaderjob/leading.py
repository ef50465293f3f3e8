"""This replica's part in the election, over and over: session, campaign, term, and again."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from leaderjob.clock import utcnow
from leaderjob.cluster.history import HistoryCheck
from leaderjob.cluster.liveness import witness
from leaderjob.cluster.membership import Membership
from leaderjob.engine.office import Assignment, Limits, Office
from leaderjob.engine.term import serve_term
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import Etcd, EtcdError, HistoryWentBack
from leaderjob.model.history import History
from leaderjob.model.member import Candidate, Role
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
from leaderjob.results.activation import Activation
from leaderjob.results.errors import ArtifactDamaged, RecordDamaged
from leaderjob.results.store import Store
from leaderjob.scheduling.alarm import Alarm
from leaderjob.settings import Settings
from leaderjob.telemetry.events import Events, emit

_PAUSE_S = 1.0


class Leading:
    """Stands for election whenever it can, and does a term's work when it has won."""

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
    ) -> None:
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
        self._history: History | None = None

    @property
    def history_id(self) -> str | None:
        """The id of the store's history, once it is known that it is the one seen before."""
        return self._history.id if self._history else None

    async def run(self) -> None:
        """Until cancelled: then the term's work is stopped, office given up, and the lease revoked."""
        while True:
            try:
                await self._one_session()
            except* (SessionLost, CampaignLost, TermLost, NotLeader):
                pass  # told by events where it happened; a new session, and another campaign
            except* LeaderjobError as errors:
                emit(Events.CONNECTION_TROUBLE, reason="; ".join(str(error) for error in errors.exceptions))
            await asyncio.sleep(_PAUSE_S)

    async def _one_session(self) -> None:
        session = await Session.open(self._etcd, self._timing)
        async with session, asyncio.TaskGroup() as group:
            heartbeat = group.create_task(self._membership.keep(session), name="heartbeat record")
            try:
                self._history = await self._history_check.check()
            except HistoryWentBack as error:
                emit(Events.STORE_WENT_BACK, reason=error)
                await session.wait_lost()
                return
            try:
                await self._campaign_and_lead(session, self._history)
            finally:
                heartbeat.cancel()

    async def _campaign_and_lead(self, session: Session, history: History) -> None:
        member = self._membership.member
        candidate = Candidate(
            replica=member.replica,
            incarnation=member.incarnation,
            addresses=member.addresses,
            since=utcnow(),
        )
        election = Election(self._etcd, self._keys.election, token_floor=history.token_floor)
        fast = self._settings.election.takeover_fast
        leadership = await election.campaign(session, candidate.to_bytes(), witness=witness if fast else None)
        try:
            leading = candidate.model_copy(update={"leading_since": utcnow()})
            revision = await election.proclaim(leadership, leading.to_bytes())
            self._membership.set(role=Role.LEADER)
            await self._catch_up(leadership, revision)
            async with Alarm() as alarm:
                await serve_term(self._office(leadership, history, alarm), self._assignments)
        finally:
            # Here the term's work has stopped, so office may go to the next one.
            self._membership.set(role=Role.FOLLOWER)
            with suppress(EtcdError):
                await election.resign(leadership)
            emit(Events.TERM_ENDED, term=leadership.term.token, reason=leadership.reason)

    async def _catch_up(self, leadership: Leadership, revision: int) -> None:
        """Wait until the feed shows all that earlier terms wrote. :raises TermLost: the term ended first."""
        caught_up = asyncio.ensure_future(self._feed.until(lambda view: view.revision >= revision))
        ended = asyncio.ensure_future(leadership.wait_ended())
        try:
            await asyncio.wait({caught_up, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            caught_up.cancel()
            ended.cancel()
            await asyncio.gather(caught_up, ended, return_exceptions=True)
        leadership.check()

    def _office(self, leadership: Leadership, history: History, alarm: Alarm) -> Office:
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
            work_dir=self._settings.state_dir / "work",
            cwd=Path.cwd(),
            previous=self._previous,
            limits=Limits(
                publish_after=results.publish_after,
                publish_timeout_s=results.publish_timeout,
                keep_versions=results.keep,
                keep_runs=results.keep_runs,
                kill_grace_s=self._settings.election.kill_grace_s,
            ),
        )

    def _previous(self, job: str) -> Path | None:
        try:
            active = self._activation.active(job)
        except (ArtifactDamaged, RecordDamaged) as damaged:
            emit(Events.SERVING_FAILED, job=job, reason=damaged)
            return None
        return active.path if active else None
