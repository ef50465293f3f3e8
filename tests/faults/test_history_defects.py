"""The checker can fail: replicas with a defect each, and the invariant that it violates, and only that.

Real replicas, a real etcd, real signals; and the same scene without the defect has no violations.
"""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.execution.process_tree import parent_of
from leaderjob.records.view import View
from tests.faults.history import Intervention, What
from tests.faults.history.scene import BOUNDS, Scene, scene
from tests.support.replicas import SHORT_TTL_S

Open = Callable[..., AbstractContextManager[Scene]]
NOTHING: set[str] = set()
PUBLISHING: dict[str, Any] = {
    "names": ["r1"],
    "jobs": ["builds"],
    "schedules": {"builds": "every 1s"},
    "params": {"builds": {"seconds": 0.1}},
}


@pytest.fixture
def a_scene(etcd: EmbeddedEtcd, namespace: str, tmp_path: Path) -> Open:
    return partial(scene, etcd.endpoint, namespace, tmp_path)


def last_in_line(view: View) -> int:
    return view.queue[-1].create_revision


def all_specs_are_of_the_leader(view: View) -> bool:
    leader = view.leader_key
    return bool(view.specs) and all(
        leader is not None and stored.record.token == leader.create_revision for stored in view.specs.values()
    )


def with_and_without(defect: str, *expected: str, takes_long: bool = False) -> pytest.MarkDecorator:
    """The test with a defect, which violates what is expected, and without it; the latter not in a hurry."""
    marks = [pytest.mark.slow] if takes_long else []
    return pytest.mark.parametrize(
        ("defect", "expected"),
        [
            pytest.param(defect, set(expected), id=defect, marks=marks),
            pytest.param(None, NOTHING, id="sound", marks=pytest.mark.slow),
        ],
    )


@with_and_without("half-a-fence", "I2", "I5")
def test_half_a_fence_lets_a_queued_candidate_write(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(defect=defect) as it:
        it.start("r1")
        it["r2"].start()
        it.wait_until_told("r2", "takes_office" if defect else "waiting_for_predecessor")
        it.until("its definitions are in force", lambda view: len(view.specs) == len(it["r1"].jobs()))
        if defect:
            it.until(
                "r2 has written as well",
                lambda view: (
                    len({stored.record.token for stored in view.specs.values()} - {None}) == 1
                    and all(
                        stored.record.token == view.queue[-1].create_revision
                        for stored in view.specs.values()
                    )
                ),
            )
        assert it.violated() == expected


@with_and_without("no-fence-on-publication", "I2", "I3", takes_long=True)
def test_without_a_fence_a_leader_that_wakes_up_publishes(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(defect=defect, fault="stopped-at-publication") as it:
        first = it.start("r1").start("r2")["r1"]
        it.trigger("builds", seconds=0.1)
        it.wait_until_told("r2", "takes_office")
        it.until("r2 has written", all_specs_are_of_the_leader)
        first.send(signal.SIGCONT)
        it.wait_until_told("r1", "term_ended")
        if defect:
            it.until("it is published", lambda view: view.pointer("builds") is not None)
        assert it.violated() == expected


@with_and_without("trust-from-receipt", "I5", takes_long=True)
def test_trust_that_counts_from_a_receipt_outlasts_the_lease(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(names=["r1"], defect=defect, fault="stalled-with-an-answer", ttl_s=4, margin_s=0.65) as it:
        it.start()
        token = it.candidate_key("r1")
        it.until("the lease is gone", lambda view: all(found.key != token for found in view.queue))
        it.wait_until_told("r1", "term_ended")
        assert it.violated() == expected


@with_and_without("no-confirmation", "I5", takes_long=True)
def test_without_confirmation_a_term_outlasts_its_key(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(names=["r1"], defect=defect) as it:
        it.start()
        for _ in range(
            5 if defect else 1
        ):  # a write may be refused, and end the term, before a keepalive is sent
            it.delete(it.candidate_key("r1"))
            extended = it.times_told("r1", "trust_extended")
            it.wait_until_told(
                "r1", "trust_extended" if defect else "term_ended", extended + 5 if defect else 1
            )
            if it.violated():
                break
        assert it.violated() == expected


@with_and_without("no-look-before-a-win", "I5")
def test_who_does_not_look_before_a_win_wins_without_a_key(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(defect=defect) as it:
        it.start("r1").start("r2")
        it.delete(it.candidate_key("r2"))
        it.wait_until_told("r2", "term_won" if defect else "campaign_started", 1 if defect else 2)
        assert it.violated() == expected


@with_and_without("no-hold", "I5", takes_long=True)
def test_without_the_hold_rule_a_run_goes_on_too_early(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(defect=defect) as it:
        killed = it.start("r1").start("r2").watched()["r1"]
        it.trigger("builds", seconds=30)
        guard = parent_of(it.working("builds"))
        killed.send(signal.SIGSTOP)  # it would notice the death of the guard
        os.kill(guard, signal.SIGKILL)  # nobody is left to attest
        killed.kill()
        it.wait_for_effects("builds", What.BEGAN, 2)
        assert it.violated() == expected


@with_and_without("no-reaping", "I5", takes_long=True)
def test_a_guard_that_does_not_reap_lets_workers_outlive_trust(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(defect=defect) as it:
        stopped = it.start("r1").start("r2")["r1"]
        it.trigger("escapes", seconds=30)
        it.working("escapes")
        stopped.send(signal.SIGSTOP)
        it.wait_until_told("r2", "takes_office")
        assert it.violated() == expected


@with_and_without("fires-vanish", "I10", takes_long=True)
def test_a_fire_that_vanishes_is_missed(a_scene: Open, defect: str | None, expected: set[str]) -> None:
    with a_scene(names=["r1"], jobs=["ticks"], defect=defect) as it:
        it.start()
        it.wait_for_effects("ticks", What.ENDED, 3)
        assert it.violated() == expected


@with_and_without("leases-stay", "I12")
def test_what_is_left_behind_is_found(a_scene: Open, defect: str | None, expected: set[str]) -> None:
    with a_scene(defect=defect, ttl_s=10) as it:
        for replica in it.start().replicas.values():
            replica.terminate()
        assert it.violated(afterwards=True) == expected


@with_and_without("takeover-on-suspicion", "I13")
def test_a_takeover_on_suspicion_is_none_of_a_dead_leader(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(defect=defect) as it:
        it.start("r1").start("r2")
        it.wait_until_told("r1", "term_ended" if defect else "trust_extended", 1 if defect else 4)
        assert it.violated(healthy=True) == expected
        if defect:
            it.recorder.note(Intervention.REJECTION, since=0.0)
            assert it.violated() == NOTHING


@with_and_without("another-digest", "I9", takes_long=True)
def test_a_pointer_to_the_bytes_of_another_run_is_found(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(**PUBLISHING, defect=defect) as it:
        it.start()
        it.wait_until_told("r1", "published", 2)
        assert it.violated() == expected


@with_and_without("published-twice", "I1", takes_long=True)
def test_a_second_publication_of_a_run_is_found(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(**PUBLISHING, defect=defect) as it:
        it.start()
        it.wait_until_told("r1", "published", 2)
        assert it.violated() == expected


@with_and_without("views-go-back", "I8", takes_long=True)
def test_a_follower_that_goes_back_is_found(a_scene: Open, defect: str | None, expected: set[str]) -> None:
    with a_scene(**PUBLISHING, defect=defect) as it:
        it.start()
        it.wait_until_told("r1", "activated", 3)
        assert it.violated() == expected


@with_and_without("never-again", "I11", takes_long=True)
def test_an_election_in_which_nobody_stands_any_more_is_found(
    a_scene: Open, defect: str | None, expected: set[str]
) -> None:
    with a_scene(names=["r1"], defect=defect) as it:
        it.start()
        it.delete(it.candidate_key("r1"))
        it.wait_until_told("r1", "term_ended")
        if not defect:
            it.wait_until_told("r1", "takes_office", 2)
        else:
            it.let_pass(SHORT_TTL_S + 3.0)
        assert it.violated(at_rest=True) == expected


@with_and_without("stands-still", "I10", takes_long=True)
def test_a_run_that_never_begins_is_found(a_scene: Open, defect: str | None, expected: set[str]) -> None:
    with a_scene(names=["r1"], jobs=["ticks"], defect=defect) as it:
        it.start()
        it.wait_for_effects("ticks", What.ENDED, 2 if defect else 6, timeout_s=60.0)
        if defect:
            it.let_pass(3.0 + 1.5 * BOUNDS.stands_still_s)
        assert it.violated() == expected


@with_and_without("no-fires", "I10", takes_long=True)
def test_a_fire_that_nobody_looks_at_is_found(a_scene: Open, defect: str | None, expected: set[str]) -> None:
    with a_scene(names=["r1"], jobs=["ticks"], defect=defect) as it:
        it.start()
        it.let_pass(3.0 + 1.5 * BOUNDS.stands_still_s)
        assert it.violated() == expected


@with_and_without("never-acts", "I11", takes_long=True)
def test_a_winner_that_never_acts_is_found(a_scene: Open, defect: str | None, expected: set[str]) -> None:
    with a_scene(names=["r1"], defect=defect) as it:
        it["r1"].start()
        it.wait_until_told("r1", "term_won")
        it.let_pass(BOUNDS.acting_bound_s + 1.0)
        assert it.violated(at_rest=True) == expected
