"""The feed as a story: changes of records become the events that watchers read, one at a time.

A public contract: ``leaderjob watch --json`` prints these.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

from leaderjob.clock import utcnow
from leaderjob.etcd import KeyValue
from leaderjob.model.artifact import Pointer
from leaderjob.model.member import Candidate, Member
from leaderjob.model.run import Progress, Run, State
from leaderjob.records.feed import Change, Changes
from leaderjob.records.keys import Kind
from leaderjob.records.view import View


class Story(StrEnum):
    """What can happen, as watchers see it."""

    MEMBER_JOINED = "member_joined"
    MEMBER_LEFT = "member_left"
    LEADER_ELECTED = "leader_elected"
    LEADER_LOST = "leader_lost"
    RUN_STARTED = "run_started"
    RUN_PROGRESS = "run_progress"
    RUN_FINISHED = "run_finished"
    PUBLISHED = "published"
    ACTIVATED = "activated"


def candidate_of(view: View, kv: KeyValue) -> Candidate | None:
    """The candidate record under an election key, or None: a foreign one."""
    found = next((stored for stored in view.records[Kind.CANDIDATE].values() if stored.key == kv.key), None)
    return found.record if found else None


def leader_facts(view: View) -> dict[str, Any] | None:
    """``{"replica", "token", "since"}`` of who leads. A foreign leader is shown by what it proclaims."""
    kv = view.leader_key
    if kv is None:
        return None
    history = view.history()
    token = kv.create_revision + (history.record.token_floor if history else 0)
    candidate = candidate_of(view, kv)
    if candidate is None:
        return {"replica": kv.value.decode(errors="replace"), "token": token, "since": None, "foreign": True}
    since = candidate.leading_since or candidate.since
    return {"replica": candidate.replica, "token": token, "since": stamp(since)}


def stamp(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Narrator:
    """Tells what changes mean. The first batch only says who is there and who leads, not old runs."""

    def __init__(self) -> None:
        self._leader: tuple[str, dict[str, Any]] | None = None
        self._begun = False

    def tell(self, batch: Changes, view: View) -> list[dict[str, Any]]:
        """The events of one batch; ``view`` already shows it."""
        initial, self._begun = not self._begun, True
        told = [
            event
            for change in batch.changes
            for event in _of_change(change)
            if not initial or _is_standing(event)
        ]
        told[0:0] = self._leader_lost(view)
        told.extend(self._leader_elected(view))
        return [{"at": stamp(utcnow()), **event} for event in told]

    def _leader_lost(self, view: View) -> Iterator[dict[str, Any]]:
        if self._leader is not None and self._leader[0] not in view.candidates:
            facts = self._leader[1]
            self._leader = None
            yield {"event": Story.LEADER_LOST, "replica": facts["replica"], "token": facts["token"]}

    def _leader_elected(self, view: View) -> Iterator[dict[str, Any]]:
        kv, facts = view.leader_key, leader_facts(view)
        if kv is None or facts is None or (self._leader and self._leader[0] == kv.key):
            return
        candidate = candidate_of(view, kv)
        if candidate is not None and candidate.leading_since is None:
            return  # first in line, but it has not said yet that it leads
        self._leader = (kv.key, facts)
        yield {"event": Story.LEADER_ELECTED, **facts}


def _is_standing(event: dict[str, Any]) -> bool:
    return event["event"] in (Story.MEMBER_JOINED, Story.ACTIVATED)


def _of_change(change: Change) -> Iterator[dict[str, Any]]:
    before = change.before.record if change.before else None
    now = change.now.record if change.now else None
    record = now or before
    if isinstance(record, Member):
        yield from _of_member(before, now)
    elif isinstance(now, Run):
        yield from _of_run(before if isinstance(before, Run) else None, now)
    elif isinstance(now, Progress):
        job, run, attempt = change.place.names
        yield {
            "event": Story.RUN_PROGRESS,
            "job": job,
            "run": run,
            "attempt": int(attempt),
            "done": now.done,
            "total": now.total,
            "message": now.message,
        }
    elif isinstance(now, Pointer):
        yield {
            "event": Story.PUBLISHED,
            "job": change.place.names[0],
            "version": now.version,
            "run": now.run,
            "token": now.token,
            "digest": now.digest,
            "size_bytes": now.size_bytes,
            "files": now.file_count,
            "result": now.result,
        }


def _of_member(before: Any, now: Any) -> Iterator[dict[str, Any]]:
    if now is None or (before is not None and before.incarnation != now.incarnation):
        yield {"event": Story.MEMBER_LEFT, "replica": before.replica, "incarnation": before.incarnation}
        before = None
    if now is None:
        return
    if before is None:
        yield {
            "event": Story.MEMBER_JOINED,
            "replica": now.replica,
            "incarnation": now.incarnation,
            "host": now.host,
            "pid": now.pid,
        }
    for job, holding in now.holds.items():
        former = before.holds.get(job) if before is not None else None
        if holding.active is not None and (former is None or former.active != holding.active):
            yield {
                "event": Story.ACTIVATED,
                "replica": now.replica,
                "job": job,
                "version": holding.active,
                "digest": holding.digest,
            }


def _of_run(before: Run | None, now: Run) -> Iterator[dict[str, Any]]:
    attempt = now.attempt
    if attempt is not None and (before is None or before.attempt_count < now.attempt_count):
        yield {
            "event": Story.RUN_STARTED,
            "job": now.job,
            "run": now.id,
            "attempt": attempt.number,
            "replica": attempt.replica,
            "token": attempt.token,
        }
    if now.state is State.DONE and (before is None or before.state is not State.DONE):
        yield {
            "event": Story.RUN_FINISHED,
            "job": now.job,
            "run": now.id,
            "outcome": now.outcome,
            "reason": now.reason,
            "version": now.version,
        }
