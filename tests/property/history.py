"""What was written below a prefix: the model that a watch is held against."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from leaderjob.etcd import Batch, Event, EventKind, KeyValue

Change = tuple[str, bytes | None, int]
"""A key, its new value (None: it was deleted), and the lease that the value is on (0: none)."""


class History:
    """Revision after revision, as the writer knows it.

    ``compactions`` are the revisions below which the server has forgotten what happened: it had forgotten
    what was before ``compacted`` when this history began.
    """

    def __init__(self, compacted: int) -> None:
        self.events: list[Event] = []
        self.now: dict[str, KeyValue] = {}
        self.compactions = [compacted]

    @property
    def revision(self) -> int:
        """The last one that changed anything; 0: none did."""
        return self.events[-1].revision if self.events else 0

    def record(self, revision: int, changes: Sequence[Change]) -> None:
        """What one revision changed, in the order in which etcd tells of it. Deleting nothing is no change."""
        for key, value, lease in changes:
            before = self.now.pop(key, None)
            if value is None:
                if before is not None:
                    self.events.append(Event(EventKind.DELETED, key, None, before, revision))
                continue
            created = before.create_revision if before else revision
            version = before.version + 1 if before else 1
            self.now[key] = now = KeyValue(key, value, created, revision, version, lease)
            kind = EventKind.UPDATED if before else EventKind.CREATED
            self.events.append(Event(kind, key, now, before, revision))

    def between(self, after: int, until: int) -> tuple[Event, ...]:
        """What happened after one revision, and until another one, which is included."""
        first, end = (bisect_right(self.events, revision, key=_revision) for revision in (after, until))
        return tuple(self.events[first:end])

    def state_at(self, revision: int) -> dict[str, KeyValue]:
        state: dict[str, KeyValue] = {}
        for event in self.between(0, revision):
            step(state, event)
        return state

    def forgotten(self, after: int) -> bool:
        """Whether the server may be unable to tell what happened next after a revision: of a compaction's own
        revision it tells what was written, but perhaps not what was deleted."""
        return any(after < compacted for compacted in self.compactions)

    def check(self, batches: Sequence[Batch]) -> dict[str, KeyValue]:
        """What one consumer was told; returns the state that this leads to.

        :raises AssertionError: it was told something else than what was written.
        """
        state: dict[str, KeyValue] = {}
        for number, batch in enumerate(batches):
            last = batches[number - 1].revision if number else 0
            if batch.listed:
                assert not number or self.forgotten(last), (
                    f"a listing at {batch.revision} instead of what happened after {last}"
                )
                _follow_difference(state, batch)
                expected = self.state_at(batch.revision)
                assert state == expected, f"the difference at {batch.revision} leads to another state"
            else:
                assert number, "changes before there was any state"
                assert batch.events == self.between(last, batch.revision), (
                    f"other events than those after {last} and until {batch.revision}"
                )
                assert batch.events, f"news at {batch.revision} without any event"
                for event in batch.events:
                    step(state, event)
            assert not number or batch.revision >= last
        return state


def _revision(event: Event) -> int:
    return event.revision


def step(state: dict[str, KeyValue], event: Event) -> None:
    """What an event does to a state."""
    if event.now is None:
        del state[event.key]
    else:
        state[event.key] = event.now


def _follow_difference(state: dict[str, KeyValue], batch: Batch) -> None:
    told: Mapping[str, KeyValue] = dict(state)
    for event in batch.events:
        assert event.before == state.get(event.key), f"{event.key} was not as the difference says"
        assert event.now != told.get(event.key), f"{event.key} has not changed at all"
        kinds = (event.before is not None, event.now is not None)
        assert event.kind is {
            (False, True): EventKind.CREATED,
            (True, True): EventKind.UPDATED,
            (True, False): EventKind.DELETED,
        }.get(kinds), f"{event.key} was not {event.kind}"
        step(state, event)
