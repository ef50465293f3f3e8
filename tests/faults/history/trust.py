"""I5: nothing runs without office, beyond trust, or beside what a former term may have left."""

from collections.abc import Iterator

from tests.faults.history.effects import What
from tests.faults.history.holds import HoldRule
from tests.faults.history.past import History, Intervention
from tests.faults.history.terms import Election, Standing, Trust, trusts
from tests.faults.history.violation import Bounds, Violation

_ROUNDING_S = 0.01


def nothing_beyond_trust(history: History, bounds: Bounds) -> list[Violation]:
    """I5: no run starts at or after ``trusted_until``, without a verified win, or against the hold rule; workers
    are dead at ``trusted_until``; and no trust outlasts what it stands on."""
    election, by_token = Election(history), trusts(history.told)
    return [
        *_wins(election, by_token),
        *_trust(history, bounds, election, by_token),
        *_workers(history, bounds, by_token),
        *HoldRule(history, bounds, election, by_token).broken(),
    ]


def _wins(election: Election, by_token: dict[int, list[Trust]]) -> Iterator[Violation]:
    """A win is verified where, at the revision that it is told for, the key was there, and none before it."""
    for token, every in by_token.items():
        own = election.of_token(token)
        for trust in every:
            revision = trust.won.fields["revision"]
            there = own is not None and _stands_after(own, revision)
            before = [
                each
                for each in election.standings
                if own is not None
                and each.create_revision < own.create_revision
                and _stands_after(each, revision)
            ]
            if there and not before:
                continue
            why = f"{before[0].replica} was before it" if before else "its key was not there"
            yield Violation(
                "I5",
                f"{trust.won.replica} took itself for the winner of term {token}, while {why}",
                {"revision": revision, "at": trust.won.at},
            )


def _stands_after(standing: Standing, revision: int) -> bool:
    return standing.create_revision <= revision and not (
        standing.deleted is not None and standing.deleted.revision <= revision
    )


def _trust(
    history: History, bounds: Bounds, election: Election, by_token: dict[int, list[Trust]]
) -> Iterator[Violation]:
    """Trust stands on a keepalive that was sent before the key was read, and the key was there then; and it ends
    before the lease can run out. The recorder hears of a deletion when it has happened, never earlier."""
    for token, every in by_token.items():
        own = election.of_token(token)
        if own is None or own.deleted is None:
            continue
        gone_at = own.deleted.at
        ran_out = _ran_out(history, own) and not history.excused(
            Intervention.REVOCATION, gone_at, about=f"{own.lease:x}"
        )
        for trust in every:
            evidence = {
                "token": token,
                "trusted_until": round(trust.until, 3),
                "key_gone_at": round(gone_at, 3),
            }
            if trust.until > gone_at + bounds.ttl_s - bounds.margin_s + _ROUNDING_S:
                sentence = f"{trust.won.replica} extended its trust after its key was deleted"
                yield Violation("I5", sentence, evidence)
            elif ran_out and trust.over_at > gone_at + _ROUNDING_S:
                sentence = f"{trust.won.replica} trusted its term beyond the end of its lease"
                yield Violation("I5", sentence, evidence)


def _ran_out(history: History, standing: Standing) -> bool:
    """Whether the key went with its lease: with all that was on it, at once."""
    gone = standing.deleted
    return gone is not None and any(
        change.revision == gone.revision
        and change.key != standing.key
        and change.now is None
        and change.before is not None
        and change.before.lease == standing.lease
        for change in history.changes
    )


def _workers(history: History, bounds: Bounds, by_token: dict[int, list[Trust]]) -> Iterator[Violation]:
    told: set[tuple[str, str, int, int]] = set()
    for effect in history.effects:
        who = f"attempt {effect.attempt} of {effect.job}/{effect.run}"
        evidence = {"token": effect.token, "pid": effect.pid, "at": round(effect.at, 3)}
        key = (effect.job, effect.run, effect.attempt, effect.pid)
        every = by_token.get(effect.token)
        if every is None:
            if key not in told:
                told.add(key)
                yield Violation("I5", f"{who} ran in a term that nobody has told to have won", evidence)
            continue
        over_at = max(trust.over_at for trust in every)
        evidence["trust_over_at"] = round(over_at, 3)
        if effect.at > over_at + bounds.lateness_s and key not in told:
            told.add(key)
            did = "began" if effect.what is What.BEGAN else "went on"
            yield Violation("I5", f"{who} {did} after its term could no longer be trusted", evidence)
