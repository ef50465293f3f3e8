"""All invariants, one function each, over one history."""

from collections.abc import Callable, Mapping

from tests.faults.history.fires import every_fire_is_accounted_for
from tests.faults.history.followers import bytes_match_their_digest, views_do_not_go_back
from tests.faults.history.leadership import leaders_act_in_time, no_takeover_on_suspicion
from tests.faults.history.leftovers import nothing_is_left_behind
from tests.faults.history.past import History
from tests.faults.history.publications import (
    nothing_after_the_term,
    one_process_for_a_token,
    one_publication_for_a_fire,
    tokens_in_office,
)
from tests.faults.history.settlement import claims_agree_with_records
from tests.faults.history.standstill import nothing_stands_still
from tests.faults.history.trust import nothing_beyond_trust
from tests.faults.history.violation import Bounds, Violation
from tests.faults.history.workers import workers_do_not_overlap

Invariant = Callable[[History, Bounds], list[Violation]]

INVARIANTS: Mapping[str, Invariant] = {
    "I1": one_publication_for_a_fire,
    "I2": tokens_in_office,
    "I3": nothing_after_the_term,
    "I4": one_process_for_a_token,
    "I5": nothing_beyond_trust,
    "I6": workers_do_not_overlap,
    "I7": claims_agree_with_records,
    "I8": views_do_not_go_back,
    "I9": bytes_match_their_digest,
    "I10": lambda history, bounds: [
        *every_fire_is_accounted_for(history, bounds),
        *nothing_stands_still(history, bounds),
    ],
    "I11": leaders_act_in_time,
    "I12": nothing_is_left_behind,
    "I13": no_takeover_on_suspicion,
}
"""By their names in the design; each returns what violates it."""


def check(history: History, bounds: Bounds) -> list[Violation]:
    """Everything in the history that should not be; empty where all is well and everything is known."""
    unknown = [
        Violation(
            "unknown",
            f"what happened is not known: {gap.reason}",
            {"first_revision": gap.first, "last_revision": gap.last},
        )
        for gap in history.gaps
    ]
    found = [violation for invariant in INVARIANTS.values() for violation in invariant(history, bounds)]
    return unknown + found
