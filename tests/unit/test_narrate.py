"""The story that watchers read: which change of a record tells what."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from leaderjob.etcd import KeyValue
from leaderjob.model.artifact import Pointer
from leaderjob.model.history import History
from leaderjob.model.member import Candidate, Holding, Member, Role
from leaderjob.model.record import Record
from leaderjob.model.run import Cause, Outcome, Progress, Run, State
from leaderjob.records.feed import Change, Changes
from leaderjob.records.keys import Keys, Kind, Place
from leaderjob.records.narrate import Narrator, leader_facts
from leaderjob.records.stored import Stored
from leaderjob.records.view import View

KEYS = Keys("test")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)

MEMBER = Member(
    replica="a",
    incarnation="1",
    role=Role.FOLLOWER,
    release="1",
    host="h",
    pid=7,
    started=NOW,
    addresses={},
)
RUN = Run(id="r1", job="index", cause=Cause.TRIGGER, state=State.ADMITTED, created=NOW)
POINTER = Pointer(
    version=4,
    sequence=9,
    run="r1",
    token=5,
    digest="blake3:" + "0" * 64,
    manifest_bytes=1,
    size_bytes=10,
    file_count=2,
    published=NOW,
)


class Store:
    """A view, and the changes that it goes through, told as they come."""

    def __init__(self) -> None:
        self.view = View()
        self.narrator = Narrator()

    def begin(self) -> list[dict[str, Any]]:
        """Hand out the state as it is now, as the feed does first."""
        listed = [
            Change(Place(kind, names), None, stored, stored.mod_revision)
            for kind, entries in self.view.records.items()
            for names, stored in entries.items()
        ]
        return self._tell(Changes(tuple(listed), self.view.revision, listed=True))

    def change(self, key: str, record: Record | None, *, foreign: bytes = b"") -> list[dict[str, Any]]:
        """One key is written, with a record or with foreign bytes, or deleted (``record`` is None)."""
        return self._tell(Changes(self._apply(key, record, foreign), self.view.revision, listed=False))

    def _apply(self, key: str, record: Record | None, foreign: bytes) -> tuple[Change, ...]:
        self.view.revision += 1
        revision = self.view.revision
        place = KEYS.locate(key)
        assert place is not None
        before = self.view.get(place.kind, *place.names)
        former = self.view.candidates.get(key)
        created = before.create_revision if before else former.create_revision if former else revision
        now = Stored(key, record, created, revision) if record else None
        self.view.set(place, now)
        if place.kind is Kind.CANDIDATE:
            if record is None and not foreign:
                del self.view.candidates[key]
            else:
                value = record.to_bytes() if record else foreign
                self.view.candidates[key] = KeyValue(key, value, created, revision, 1, 1)
        return (Change(place, before, now, revision),) if before or now else ()

    def _tell(self, changes: Changes) -> list[dict[str, Any]]:
        told = self.narrator.tell(changes, self.view)
        assert all(event.pop("at").endswith("Z") for event in told)
        return told


def names(told: list[dict[str, Any]]) -> list[str]:
    return [str(event["event"]) for event in told]


def candidate(replica: str, *, leads: bool) -> Candidate:
    since = NOW + timedelta(seconds=1) if leads else None
    return Candidate(replica=replica, incarnation="1", addresses={}, since=NOW, leading_since=since)


@pytest.fixture
def store() -> Store:
    begun = Store()
    assert begun.begin() == []
    return begun


def test_at_the_beginning_is_told_who_is_there_what_they_serve_and_who_leads_and_nothing_older() -> None:
    store = Store()
    store.change(KEYS.member("a"), MEMBER.model_copy(update={"holds": {"index": Holding(active=4)}}))
    store.change(f"{KEYS.election}1", candidate("a", leads=True))
    store.change(KEYS.run("index", "r1"), RUN.finish(Outcome.FAILED, now=NOW))
    store.change(KEYS.pointer("index"), POINTER)
    store.change(KEYS.progress("index", "r1", 1), Progress(done=1, total=2))
    store.narrator = Narrator()
    assert names(store.begin()) == ["member_joined", "activated", "leader_elected"]


def test_a_leader_is_elected_when_it_proclaims_that_it_leads_and_not_when_it_is_first_in_line(
    store: Store,
) -> None:
    assert store.change(f"{KEYS.election}1", candidate("a", leads=False)) == []
    (elected,) = store.change(f"{KEYS.election}1", candidate("a", leads=True))
    assert elected == {
        "event": "leader_elected",
        "replica": "a",
        "token": 1,
        "since": "2026-01-02T03:04:06.678Z",
    }
    assert store.change(f"{KEYS.election}1", candidate("a", leads=True)) == []


def test_a_leader_that_goes_is_lost_before_the_next_one_is_elected(store: Store) -> None:
    store.change(f"{KEYS.election}1", candidate("a", leads=True))
    store.change(f"{KEYS.election}2", candidate("b", leads=True))
    told = store.change(f"{KEYS.election}1", None)
    assert [(event["event"], event["replica"], event["token"]) for event in told] == [
        ("leader_lost", "a", 1),
        ("leader_elected", "b", 2),
    ]


def test_a_candidate_that_gives_up_its_place_in_the_queue_is_no_story(store: Store) -> None:
    store.change(f"{KEYS.election}1", candidate("a", leads=True))
    store.change(f"{KEYS.election}2", candidate("b", leads=False))
    assert store.change(f"{KEYS.election}2", None) == []


def test_a_foreign_leader_is_told_as_what_it_proclaims(store: Store) -> None:
    (elected,) = store.change(f"{KEYS.election}1", None, foreign=b"somebody")
    assert (elected["event"], elected["replica"], elected["foreign"]) == ("leader_elected", "somebody", True)


def test_the_token_in_the_story_has_the_floor_of_the_stores_history_in_it(store: Store) -> None:
    store.change(KEYS.history, History(id="h", token_floor=1000))
    (elected,) = store.change(f"{KEYS.election}1", candidate("a", leads=True))
    assert elected["token"] == 1002
    facts = leader_facts(store.view)
    assert facts is not None
    assert facts["token"] == 1002


def test_a_member_that_restarts_has_left_and_joined(store: Store) -> None:
    assert names(store.change(KEYS.member("a"), MEMBER)) == ["member_joined"]
    left, joined = store.change(KEYS.member("a"), MEMBER.model_copy(update={"incarnation": "2", "pid": 8}))
    assert left == {"event": "member_left", "replica": "a", "incarnation": "1"}
    assert joined == {
        "event": "member_joined",
        "replica": "a",
        "incarnation": "2",
        "host": "h",
        "pid": 8,
    }
    assert store.change(KEYS.member("a"), None) == [
        {"event": "member_left", "replica": "a", "incarnation": "2"}
    ]


def test_a_member_that_restarts_tells_again_what_it_serves(store: Store) -> None:
    serving = MEMBER.model_copy(update={"holds": {"index": Holding(active=4, digest="d")}})
    store.change(KEYS.member("a"), serving)
    told = store.change(KEYS.member("a"), serving.model_copy(update={"incarnation": "2"}))
    assert names(told) == ["member_left", "member_joined", "activated"]


def test_only_a_version_that_is_newly_served_is_told(store: Store) -> None:
    store.change(KEYS.member("a"), MEMBER)

    def hold(holding: Holding) -> list[dict[str, Any]]:
        return store.change(KEYS.member("a"), MEMBER.model_copy(update={"holds": {"index": holding}}))

    assert hold(Holding(manifests=("m",))) == []
    (activated,) = hold(Holding(active=4, digest="d", manifests=("m",)))
    assert activated == {
        "event": "activated",
        "replica": "a",
        "job": "index",
        "version": 4,
        "digest": "d",
    }
    assert hold(Holding(active=4, digest="d", manifests=("m", "n"))) == []
    assert store.change(KEYS.member("a"), MEMBER.model_copy(update={"role": Role.LEADER})) == []


def test_a_run_is_told_when_an_attempt_starts_and_when_it_is_over(store: Store) -> None:
    key = KEYS.run("index", "r1")
    assert store.change(key, RUN) == []
    first = RUN.begin(token=5, replica="a", ttl_s=10, now=NOW)
    (started,) = store.change(key, first)
    assert (started["event"], started["attempt"], started["replica"], started["token"]) == (
        "run_started",
        1,
        "a",
        5,
    )
    failed = first.end_attempt(Outcome.FAILED, now=NOW)
    assert store.change(key, failed) == []
    second = failed.begin(token=6, replica="b", ttl_s=10, now=NOW)
    assert [event["attempt"] for event in store.change(key, second)] == [2]
    (finished,) = store.change(key, second.finish(Outcome.SUCCEEDED, now=NOW, version=4))
    assert (finished["event"], finished["outcome"], finished["version"]) == ("run_finished", "succeeded", 4)
    assert store.change(key, second.finish(Outcome.SUCCEEDED, now=NOW, version=4)) == []
    assert store.change(key, None) == []


def test_a_run_that_was_skipped_is_told_as_over_with_its_reason(store: Store) -> None:
    (finished,) = store.change(
        KEYS.run("index", "r1"), RUN.finish(Outcome.SKIPPED, now=NOW, reason="too late")
    )
    assert (finished["event"], finished["outcome"], finished["reason"]) == (
        "run_finished",
        "skipped",
        "too late",
    )


def test_progress_is_told_with_the_attempt_whose_it_is_and_its_end_is_not(store: Store) -> None:
    key = KEYS.progress("index", "r1", 2)
    (told,) = store.change(key, Progress(done=1, total=4, message="reading"))
    assert told == {
        "event": "run_progress",
        "job": "index",
        "run": "r1",
        "attempt": 2,
        "done": 1,
        "total": 4,
        "message": "reading",
    }
    assert store.change(key, None) == []


def test_each_write_of_the_pointer_is_a_publication(store: Store) -> None:
    (told,) = store.change(KEYS.pointer("index"), POINTER)
    assert (told["event"], told["job"], told["version"], told["token"], told["files"]) == (
        "published",
        "index",
        4,
        5,
        2,
    )
    assert len(store.change(KEYS.pointer("index"), POINTER.model_copy(update={"sequence": 10}))) == 1
