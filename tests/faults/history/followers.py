"""I8 and I9: what followers show, and whether the bytes are those that were published."""

from collections.abc import Iterator, Mapping

from leaderjob.etcd import KeyValue
from leaderjob.model.artifact import Pointer, Version
from leaderjob.model.member import Member
from leaderjob.records.keys import Kind
from tests.faults.history.past import Change, History, decoded
from tests.faults.history.violation import Bounds, Violation

Sequences = Mapping[tuple[str, int], list[int]]
"""The sequences that a version of a job had, in the order in which it was put in force."""


def views_do_not_go_back(history: History, bounds: Bounds) -> list[Violation]:
    """I8: a follower's view, at rest, equals a range read; its stream never goes back."""
    pointers = [
        (change.names[0], record)
        for change in history.of(Kind.POINTER)
        if isinstance(record := change.record, Pointer)
    ]
    sequences: dict[tuple[str, int], list[int]] = {}
    for job, pointer in pointers:
        sequences.setdefault((job, pointer.version), []).append(pointer.sequence)
    found = [*_activated(history, sequences), *_held(history, sequences)]
    if history.rest is not None and not history.gaps:
        found += [*_replayed(history, history.rest), *_shown_at_rest(history, history.rest)]
    return found


class _Line:
    """What one replica activated of one job, one after the other."""

    def __init__(self) -> None:
        self._reached = 0

    def goes_on(self, possible: list[int]) -> bool:
        """Whether the next version may be one that had these sequences."""
        later = [sequence for sequence in possible if sequence >= self._reached]
        if later:
            self._reached = min(later)
        return bool(later)


def _activated(history: History, sequences: Sequences) -> Iterator[Violation]:
    lines: dict[tuple[str, str], _Line] = {}
    for told in history.told:
        if told.event != "activated":
            continue
        job, version = told.fields["job"], told.fields["version"]
        line = lines.setdefault((told.replica, job), _Line())
        if not line.goes_on(sequences.get((job, version), [])):
            sentence = (
                f"{told.replica} activated version {version} of {job} after a later one, or out of nowhere"
            )
            yield Violation(
                "I8", sentence, {"at": round(told.at, 3), "sequences": sequences.get((job, version))}
            )


def _held(history: History, sequences: Sequences) -> Iterator[Violation]:
    lines: dict[tuple[str, str], _Line] = {}
    for change in history.of(Kind.MEMBER):
        member = change.record
        if not isinstance(member, Member):
            continue
        for job, holding in member.holds.items():
            if holding.active is None:
                continue
            line = lines.setdefault((member.replica, job), _Line())
            if not line.goes_on(sequences.get((job, holding.active), [])):
                sentence = f"{member.replica} says that it serves version {holding.active} of {job} after a later one"
                yield Violation("I8", sentence, {"revision": change.revision})


def _replayed(history: History, rest: Mapping[str, KeyValue]) -> Iterator[Violation]:
    state: dict[str, KeyValue] = {}
    for change in history.changes:
        if change.now is None:
            state.pop(change.key, None)
        else:
            state[change.key] = change.now
    for key in sorted(state.keys() | rest.keys()):
        if state.get(key) != rest.get(key):
            evidence = {"watched": state.get(key), "read": rest.get(key)}
            yield Violation("I8", f"a watch shows {key} as something else than a read", evidence)


def _shown_at_rest(history: History, rest: Mapping[str, KeyValue]) -> Iterator[Violation]:
    records = {key: decoded(history.keys.locate(key), kv) for key, kv in rest.items()}
    pointers = {
        place.names[0]: record
        for key, record in records.items()
        if isinstance(record, Pointer) and (place := history.keys.locate(key)) is not None
    }
    for member in records.values():
        if not isinstance(member, Member):
            continue
        for job, pointer in pointers.items():
            holding = member.holds.get(job)
            active = holding.active if holding else None
            if active != pointer.version:
                sentence = (
                    f"at rest, {member.replica} serves version {active} of {job}, not {pointer.version}"
                )
                yield Violation("I8", sentence, {"sequence": pointer.sequence})


def bytes_match_their_digest(history: History, bounds: Bounds) -> list[Violation]:
    """I9: every pointer's digest matches the bytes under it, and these are what its run made."""
    pointers = [
        (change, record)
        for change in history.of(Kind.POINTER)
        if isinstance(record := change.record, Pointer) and record.file_count
    ]
    found = [*_unlike_its_version(history)]
    if history.served is None:
        return found
    latest = {change.names[0]: pointer for change, pointer in pointers}
    for change, pointer in pointers:
        job = change.names[0]
        copies = [each for each in history.served if (each.job, each.digest) == (job, pointer.digest)]
        evidence = {"revision": change.revision, "version": pointer.version, "digest": pointer.digest}
        for copy in copies:
            if not copy.whole:
                sentence = f"the bytes that {copy.replica} has of {job} do not match their digest"
                found.append(Violation("I9", sentence, evidence))
            elif copy.run not in (None, pointer.run):
                sentence = (
                    f"the pointer of {job} says run {pointer.run}, and the bytes under it say {copy.run}"
                )
                found.append(Violation("I9", sentence, evidence))
        if not copies and latest[job] is pointer:
            found.append(Violation("I9", f"nobody has the bytes that the pointer of {job} names", evidence))
    return found


def _unlike_its_version(history: History) -> Iterator[Violation]:
    versions: dict[tuple[str, int], tuple[Change, Version]] = {}
    for change in history.of(Kind.VERSION, Kind.POINTER):
        record = change.record
        if not isinstance(record, Version):
            continue
        _, first = versions.setdefault((change.names[0], record.version), (change, record))
        if first.digest != record.digest:
            sentence = f"version {record.version} of {change.names[0]} has two digests"
            yield Violation(
                "I9", sentence, {"revision": change.revision, "digests": [first.digest, record.digest]}
            )
