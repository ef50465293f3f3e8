"""Histories written by hand, for tests of the checker: what etcd would have committed, line by line."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from leaderjob.etcd import KeyValue
from leaderjob.model.artifact import Pointer, Staged, Version
from leaderjob.model.ids import fire_id
from leaderjob.model.job import Timetable
from leaderjob.model.member import Candidate, Holding, Member, Role
from leaderjob.model.record import Record
from leaderjob.model.run import Cause, Outcome, Run, State
from leaderjob.records.keys import Keys
from tests.faults.history.checker import check
from tests.faults.history.effects import Effect, What
from tests.faults.history.past import Change, History, Interval, Served
from tests.faults.history.told import Told
from tests.faults.history.violation import Bounds

NAMESPACE = "written"
EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
BOUNDS = Bounds(ttl_s=10, margin_s=2)
"""Trust ends 8 s after the keepalive that it stands on, a lease 10 s after."""

DIGEST = "blake3:" + 64 * "0"

A, B = 0xA, 0xB
"""The leases of r1 and r2."""


def instant(seconds: float) -> datetime:
    """The time of day of a boot time."""
    return EPOCH + timedelta(seconds=seconds)


@dataclass
class WrittenElection:
    """Revisions grow with each write; ``at`` is the boot time at which it happened, and was heard of at once."""

    keys: Keys = field(default_factory=lambda: Keys(NAMESPACE))
    revision: int = 1
    changes: list[Change] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    interventions: list[Interval] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    state: dict[str, KeyValue] = field(default_factory=dict)

    def history(self, *, at_rest: bool = False, **more: Any) -> History:
        rest = dict(self.state) if at_rest else None
        history = History(
            NAMESPACE,
            tuple(self.changes),
            tuple(self.effects),
            tuple(self.told),
            interventions=tuple(self.interventions),
            rest=rest,
            served=tuple(self.served) or None,
            booted=EPOCH,
        )
        return replace(history, **more)

    def write(self, at: float, *records: tuple[str, Record | bytes | None], lease: int = 0) -> int:
        """Put (or with None delete) keys in one transaction; returns its revision."""
        self.revision += 1
        for key, record in records:
            before = self.state.get(key)
            if record is None:
                self.state.pop(key, None)
                now = None
            else:
                value = record if isinstance(record, bytes) else record.to_bytes()
                created = before.create_revision if before else self.revision
                version = before.version + 1 if before else 1
                now = self.state[key] = KeyValue(key, value, created, self.revision, version, lease)
            self.changes.append(Change(self.revision, at, key, now, before, self.keys.locate(key)))
        return self.revision

    def tell(self, at: float, replica: str, event: str, *, process: int = 1, **fields: Any) -> None:
        self.told.append(Told(replica, event, at, process, fields))

    def stand(self, at: float, replica: str, lease: int, *, incarnation: str = "") -> int:
        """A candidate and its member record; returns the token that it will have."""
        key = f"{self.keys.election}{lease:x}"
        token = self.write(at, (key, _candidate(replica, incarnation, at)), lease=lease)
        self.write(at, (self.keys.member(replica), _member(replica, at)), lease=lease)
        return token

    def win(
        self, at: float, replica: str, lease: int, *, trusted_until: float | None = None, acts: bool = True
    ) -> int:
        """It proclaims, tells that it has won, and acts; returns its token."""
        key = f"{self.keys.election}{lease:x}"
        candidate = Candidate.from_bytes(self.state[key].value).model_copy(
            update={"leading_since": instant(at)}
        )
        revision = self.write(at, (key, candidate), lease=lease)
        token = self.state[key].create_revision
        until = at + 8.0 if trusted_until is None else trusted_until
        self.tell(at, replica, "term_won", term=token, revision=revision, trusted_until=until)
        if acts:
            self.tell(at, replica, "takes_office", term=token)
        return token

    def lead(self, at: float, replica: str, lease: int) -> int:
        """It stands, and wins at once; returns its token."""
        self.stand(at, replica, lease)
        return self.win(at, replica, lease)

    def extend(self, at: float, replica: str, token: int, *, until: float | None = None) -> None:
        trusted_until = at + 8.0 if until is None else until
        self.tell(at, replica, "trust_extended", term=token, trusted_until=trusted_until)

    def resign(self, at: float, replica: str, lease: int) -> None:
        """It gives up office in order; the lease goes on."""
        key = f"{self.keys.election}{lease:x}"
        token = self.state[key].create_revision
        self.tell(at, replica, "stepping_down", term=token, reason="asked")
        self.write(at, (key, None))
        self.tell(at, replica, "term_ended", term=token, reason="asked")

    def expire(self, at: float, lease: int) -> None:
        """The lease runs out, or is revoked."""
        self.write(at, *((key, None) for key, kv in list(self.state.items()) if kv.lease == lease))


@dataclass
class Written(WrittenElection):
    """With jobs as well: their runs, workers, results and timetables."""

    def admit(self, at: float, job: str, fire: float) -> Run:
        run = Run(
            id=fire_id(instant(fire)),
            job=job,
            cause=Cause.SCHEDULE,
            state=State.ADMITTED,
            created=instant(at),
            fire_time=instant(fire),
        )
        self.write(at, (self.keys.run(job, run.id), run))
        return run

    def begin(self, at: float, run: Run, token: int, replica: str, *, ttl_s: float = 10.0) -> Run:
        """An attempt is recorded, and its worker begins."""
        begun = run.begin(token=token, replica=replica, ttl_s=ttl_s, now=instant(at))
        self.write(at, (self.keys.run(run.job, run.id), begun))
        number = begun.attempt_count
        self.tell(at, replica, "run_started", job=run.job, run=run.id, attempt=number, term=token)
        self.act(at, begun, What.BEGAN)
        return begun

    def act(self, at: float, run: Run, what: What = What.BEAT, *, pid: int | None = None) -> None:
        """The worker of the latest attempt does something."""
        attempt = run.attempts[-1]
        process = 1000 * attempt.token + attempt.number if pid is None else pid
        self.effects.append(
            Effect(what, at, run.job, run.id, attempt.number, attempt.token, process, started=process)
        )

    def abandon(self, at: float, run: Run) -> Run:
        """Somebody records that the latest attempt has lost its leader, and that its worker is gone."""
        ended = run.end_attempt(Outcome.ABANDONED, now=instant(at))
        self.write(at, (self.keys.run(run.job, run.id), ended))
        return ended

    def publish(
        self,
        at: float,
        run: Run,
        token: int,
        version: int,
        *,
        digest: str = DIGEST,
        sequence: int | None = None,
    ) -> Run:
        """Pointer, version and success in one transaction."""
        pointer = Pointer(
            version=version,
            sequence=version if sequence is None else sequence,
            run=run.id,
            token=token,
            digest=digest,
            manifest_bytes=1,
            size_bytes=1,
            file_count=1,
            published=instant(at),
            fire_time=run.fire_time,
        )
        done = run.finish(Outcome.SUCCEEDED, now=instant(at), version=version)
        self.write(
            at,
            (self.keys.pointer(run.job), pointer),
            (self.keys.version(run.job, version), Version(**pointer.model_dump())),
            (self.keys.run(run.job, run.id), done),
        )
        return done

    def stage(self, at: float, run: Run, token: int) -> None:
        staged = Staged(
            job=run.job, run=run.id, token=token, digest=DIGEST, manifest_bytes=1, size_bytes=1, file_count=1
        )
        self.write(at, (self.keys.staged(run.job, run.id), staged))

    def watermark(
        self, at: float, job: str, reached: float, *, every_s: int = 10, next_fire: float | None = None
    ) -> None:
        due = instant(next_fire) if next_fire is not None else None
        timetable = Timetable(watermark=instant(reached), next_fire=due, schedule=(f"every {every_s}s",))
        self.write(at, (self.keys.timetable(job), timetable))

    def hold(self, at: float, replica: str, lease: int, job: str, version: int) -> None:
        """A replica says which version of a job it serves."""
        member = _member(replica, at).model_copy(update={"holds": {job: Holding(active=version)}})
        self.write(at, (self.keys.member(replica), member), lease=lease)


def _candidate(replica: str, incarnation: str, at: float) -> Candidate:
    return Candidate(
        replica=replica, incarnation=incarnation or f"{replica}-1", addresses={}, since=instant(at)
    )


def _member(replica: str, at: float) -> Member:
    return Member(
        replica=replica,
        incarnation=f"{replica}-1",
        role=Role.FOLLOWER,
        release="1",
        host="h",
        pid=int(replica[1:]),
        started=instant(at),
        addresses={},
    )


def violated(history: History, bounds: Bounds = BOUNDS) -> list[str]:
    """The names of what the checker finds."""
    return [violation.invariant for violation in check(history, bounds)]


def led() -> tuple[Written, int]:
    """r1 leads from boot time 0 on."""
    written = Written()
    return written, written.lead(0, "r1", A)


def taken_over(at: float = 10.5) -> tuple[Written, int, int]:
    """r1 leads from 0 on, with a confirmed keepalive at 0, until its lease runs out; then r2 does."""
    written, first = led()
    written.stand(1, "r2", B)
    written.expire(at, A)
    return written, first, written.win(at + 0.1, "r2", B)
