"""I12: who goes leaves nothing behind."""

from collections.abc import Iterator

from leaderjob.etcd import KeyValue
from leaderjob.model.member import Member
from leaderjob.model.run import Run
from leaderjob.records.keys import Kind
from tests.faults.history.past import History, Remains, decoded
from tests.faults.history.violation import Bounds, Violation


def nothing_is_left_behind(history: History, bounds: Bounds) -> list[Violation]:
    """I12: afterwards there are no orphan processes, no leaked leases, and no election key without a lease."""
    remains = history.remains
    if remains is None:
        return []
    state: dict[str, KeyValue] = {}
    for change in history.changes:
        if change.now is None:
            state.pop(change.key, None)
        else:
            state[change.key] = change.now
    return [
        *_keys_without_lease(history, state),
        *_leases(history, remains),
        *_processes(history, remains, state),
    ]


def _keys_without_lease(history: History, state: dict[str, KeyValue]) -> Iterator[Violation]:
    for key, kv in state.items():
        if key.startswith(history.keys.election) and kv.lease == 0:
            sentence = "a key of the election has no lease, and stays for ever"
            yield Violation("I12", sentence, {"key": key, "create_revision": kv.create_revision})


def _leases(history: History, remains: Remains) -> Iterator[Violation]:
    """A lease of a replica that is no more. Each has borne a member's record, or a candidate's key."""
    living: set[int] = set()
    owners: dict[int, str] = {}
    for change in history.of(Kind.MEMBER):
        member = change.record
        if isinstance(member, Member) and change.now is not None:
            owners[change.now.lease] = member.replica
            if member.pid in remains.replicas:
                living.add(change.now.lease)
    for lease in sorted(remains.leases - living):
        owner = owners.get(lease, "somebody")
        yield Violation("I12", f"{owner} has gone, and left a lease behind", {"lease": f"{lease:x}"})


def _processes(history: History, remains: Remains, state: dict[str, KeyValue]) -> Iterator[Violation]:
    under_way = {
        (run.job, run.id, attempt.number)
        for key, kv in state.items()
        if isinstance(run := decoded(history.keys.locate(key), kv), Run)
        for attempt in run.attempts
        if attempt.ended is None
    }
    told: set[tuple[int, int]] = set()
    for effect in history.effects:
        works = remains.replicas and (effect.job, effect.run, effect.attempt) in under_way
        if effect.process in remains.processes and not works and effect.process not in told:
            told.add(effect.process)
            sentence = f"a process of attempt {effect.attempt} of {effect.job}/{effect.run} is an orphan"
            yield Violation("I12", sentence, {"pid": effect.pid, "token": effect.token})
