"""What must have happened between two listings, as events."""

from hypothesis import given
from hypothesis import strategies as st

from leaderjob.etcd import EventKind, KeyValue, RangeResult
from leaderjob.etcd.mirror import difference


def kv(key: str, create_revision: int, mod_revision: int | None = None) -> KeyValue:
    mod_revision = mod_revision or create_revision
    return KeyValue(key, str(mod_revision).encode(), create_revision, mod_revision, 1, 0)


def listing(*kvs: KeyValue, revision: int = 100) -> RangeResult:
    return RangeResult(kvs, len(kvs), revision)


def test_what_did_not_change_is_no_event() -> None:
    unchanged = kv("/a", 3, 5)
    assert difference({"/a": unchanged}, listing(unchanged)) == ()


def test_a_key_that_is_gone_was_deleted_at_the_latest_by_the_listing() -> None:
    before = kv("/a", 3)
    (event,) = difference({"/a": before}, listing(revision=70))
    assert (event.kind, event.now, event.before, event.revision) == (EventKind.DELETED, None, before, 70)


def test_a_key_with_another_create_revision_was_deleted_and_created() -> None:
    before, now = kv("/a", 3), kv("/a", 8, 9)
    deleted, created = difference({"/a": before}, listing(now))
    assert (deleted.kind, deleted.before, deleted.now) == (EventKind.DELETED, before, None)
    assert (created.kind, created.before, created.now) == (EventKind.CREATED, None, now)


def test_an_update_carries_what_was_there_before() -> None:
    before, now = kv("/a", 3, 4), kv("/a", 3, 9)
    (event,) = difference({"/a": before}, listing(now))
    assert (event.kind, event.before, event.now, event.revision) == (EventKind.UPDATED, before, now, 9)


revisions = st.integers(1, 50)
stored = st.tuples(st.sampled_from("abcdef"), revisions, revisions).map(
    lambda drawn: kv(f"/{drawn[0]}", min(drawn[1:]), max(drawn[1:]))
)
listings = st.lists(stored, unique_by=lambda kv: kv.key)


@given(listings, listings)
def test_the_events_turn_the_old_state_into_the_new_one(old: list[KeyValue], new: list[KeyValue]) -> None:
    state = {kv.key: kv for kv in old}
    for event in difference(dict(state), listing(*new)):
        assert state.get(event.key) == event.before
        match event.kind:
            case EventKind.CREATED:
                assert event.key not in state
            case EventKind.UPDATED | EventKind.DELETED:
                assert event.key in state
        if event.now is None:
            del state[event.key]
        else:
            state[event.key] = event.now
    assert state == {kv.key: kv for kv in new}


@given(listings, listings)
def test_creations_and_updates_are_told_in_the_order_of_their_revisions(
    old: list[KeyValue], new: list[KeyValue]
) -> None:
    events = difference({kv.key: kv for kv in old}, listing(*new))
    told = [event.revision for event in events if event.kind is not EventKind.DELETED]
    assert told == sorted(told)
