"""What a replica's gauges and its readiness are made of: the view, what it holds, and its term."""

from collections.abc import Sequence
from datetime import timedelta

from leaderjob.clock import boottime, utcnow
from leaderjob.etcd import Etcd
from leaderjob.model.artifact import Pointer, Version
from leaderjob.model.member import Holding, Lacks, Member, Role
from leaderjob.model.record import Record
from leaderjob.model.term import Term
from leaderjob.probes import notes_of, state_of, why_not_ready
from leaderjob.recipes import Leadership, Session, Timing
from leaderjob.records.keys import Keys
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from leaderjob.telemetry.metrics import Snapshot
from tests.support.loop import run_async

KEYS = Keys("n")
NOW = utcnow()
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
VERSION = Version(
    version=1,
    sequence=1,
    run="r",
    token=5,
    digest="blake3:" + "0" * 64,
    manifest_bytes=1,
    size_bytes=1,
    file_count=1,
    published=NOW,
)


def view_of(**records: Record) -> View:
    """A view that was read, with the records under keys of the namespace, ``__`` for ``/``."""
    view = View(revision=1)
    for name, record in records.items():
        key = KEYS.root + name.replace("__", "/")
        place = KEYS.locate(key)
        assert place is not None
        view.set(place, Stored(key, record, 1, 1))
    return view


def version(number: int, *, age_s: float) -> Version:
    return VERSION.model_copy(update={"version": number, "published": utcnow() - timedelta(seconds=age_s)})


def pointer(number: int) -> Pointer:
    return Pointer(**{**VERSION.model_dump(), "version": number})


def serving(**versions: int | None) -> Member:
    holds = {job: Holding(active=active) for job, active in versions.items()}
    return MEMBER.model_copy(update={"holds": holds})


def unready(
    view: View,
    member: Member,
    *,
    session_is_up: bool = True,
    stopping: bool = False,
    unloaded: Sequence[str] = (),
) -> list[str]:
    return why_not_ready(view, member, session_is_up=session_is_up, stopping=stopping, unloaded=unloaded)


def test_a_replica_is_ready_where_nothing_is_published() -> None:
    assert unready(view_of(), MEMBER) == []


def test_a_replica_that_has_not_looked_yet_does_not_take_that_for_nothing() -> None:
    assert unready(View(), MEMBER) == ["it has not read yet what is published"]


def test_an_older_version_is_good_enough_while_the_next_one_is_fetched() -> None:
    assert unready(view_of(results__j__current=pointer(2)), serving(j=1)) == []


def test_each_reason_is_told() -> None:
    view = view_of(results__j__current=pointer(2), results__k__current=pointer(1))
    assert unready(view, serving(j=None), session_is_up=False, stopping=True) == [
        "it is stopping",
        "it has no session with etcd",
        "it serves no version of j yet",
        "it serves no version of k yet",
    ]


def test_the_age_is_that_of_the_version_which_is_served_and_not_of_the_newest() -> None:
    view = view_of(
        results__j__current=pointer(3),
        results__j__versions__2=version(2, age_s=200),
        results__j__versions__3=version(3, age_s=100),
    )
    state = state_of(view, serving(j=2), None).jobs["j"]
    assert (state.served_version, state.published_version) == (2, 3)
    assert state.version_age_s is not None
    assert 200 <= state.version_age_s < 300


def test_a_version_whose_record_is_gone_is_at_least_as_old_as_the_oldest_on_record() -> None:
    view = view_of(
        results__j__versions__8=version(8, age_s=200), results__j__versions__9=version(9, age_s=100)
    )
    age_s = state_of(view, serving(j=2), None).jobs["j"].version_age_s
    assert age_s is not None
    assert 200 <= age_s < 300


def test_of_what_is_not_there_nothing_is_told() -> None:
    view = view_of(results__new__current=pointer(1))
    state = state_of(view, serving(gone=4), None)
    assert (state.jobs["new"].served_version, state.jobs["new"].version_age_s) == (None, None)
    assert (state.jobs["gone"].published_version, state.jobs["gone"].version_age_s) == (None, None)


def led(*, confirmed_s_ago: float) -> Snapshot:
    """The state of a leader with a TTL of 10 s and a margin of 2 s."""

    async def main() -> Snapshot:
        async with Etcd(["127.0.0.1:1"]) as etcd:
            session = Session(etcd, 1, Timing(ttl_s=10, margin_s=2), 10, boottime())
            term = Term(prefix="p/", lease_id=1, create_revision=7)
            leadership = Leadership(
                etcd, session, term, confirmed_at=boottime() - confirmed_s_ago, won_revision=1, key_revision=1
            )
            return state_of(view_of(), MEMBER, leadership)

    return run_async(main())


def test_a_leader_tells_how_long_it_may_trust_itself() -> None:
    state = led(confirmed_s_ago=1)
    assert state.is_leader
    assert 0 < state.term_age_s < 5
    assert 2 < state.trust_left_s <= 7


def test_whoever_cannot_trust_its_term_any_more_does_not_lead() -> None:
    assert led(confirmed_s_ago=9) == Snapshot()


def lacking(*jobs: str) -> Member:
    return MEMBER.model_copy(update={"lacks": Lacks(jobs=jobs, count=len(jobs))})


def test_a_replica_whose_modules_did_not_load_is_not_ready_while_it_lacks_jobs_in_force() -> None:
    assert unready(view_of(), lacking("a", "b"), unloaded=["jobs.typo: there is no such module"]) == [
        "it lacks 2 jobs in force: a, b",
        "module jobs.typo: there is no such module",
    ]


def test_a_module_that_never_worked_keeps_no_replica_from_being_ready() -> None:
    assert unready(view_of(), lacking(), unloaded=["jobs.typo: there is no such module"]) == []
    assert notes_of(lacking(), ["jobs.typo: there is no such module"]) == [
        "module jobs.typo: there is no such module"
    ]


def test_a_replica_with_an_older_set_of_jobs_is_ready_and_says_what_it_lacks() -> None:
    assert unready(view_of(), lacking("new")) == []
    assert notes_of(lacking("new"), ()) == ["it lacks 1 job in force: new"]
