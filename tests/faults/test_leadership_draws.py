"""What is drawn from a seed: always the same, and never more than a cluster may be asked to bear."""

from pathlib import Path

import pytest

from tests.faults.history import Violation
from tests.faults.sequences import FAULTS, Fault, Played, Step, Struck, draw, report
from tests.faults.sequences.faults import LONGEST_WITHOUT_QUORUM_S

_SEEDS = range(30)


def struck(name: str, *, acting_ms: float | None) -> Struck:
    step = draw(1, 1, [named(name)])[0]
    return Struck(step, at_s=1.0, before="r1", after="r2", acting_ms=acting_ms, orderly_s=0.5)


def named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


def test_a_seed_draws_the_same_sequence_each_time_and_another_one_another() -> None:
    assert draw(7, 20, FAULTS) == draw(7, 20, FAULTS)
    assert draw(7, 20, FAULTS) != draw(8, 20, FAULTS)


@pytest.mark.parametrize("seed", _SEEDS)
def test_so_many_faults_are_drawn_as_were_asked_for_and_each_lasts_as_long_as_it_may(seed: int) -> None:
    steps = draw(seed, 25, FAULTS)
    assert sum(len(step.faults) for step in steps) == 25
    for step in steps:
        for fault in step.faults:
            assert fault.lasts_s[0] <= step.lasts_s <= fault.lasts_s[1]


@pytest.mark.parametrize("seed", _SEEDS)
def test_two_at_once_leave_a_replica_to_lead_and_strike_etcd_and_disks_only_once(seed: int) -> None:
    pairs = [step.faults for step in draw(seed, 100, FAULTS) if len(step.faults) > 1]
    assert pairs, "two at once are never drawn"
    for pair in pairs:
        assert sum(fault.replicas for fault in pair) < 3
        assert sum(fault.etcd for fault in pair) <= 1
        assert sum(fault.disk for fault in pair) <= 1
        assert len(set(pair)) == 2


def test_no_fault_leaves_etcd_without_a_quorum_for_longer_than_stated() -> None:
    lasting = {fault.name: fault.lasts_s[1] for fault in FAULTS if fault.name.startswith("quorum lost")}
    assert len(lasting) == 2
    assert max(lasting.values()) <= LONGEST_WITHOUT_QUORUM_S


def test_every_fault_is_drawn_sooner_or_later() -> None:
    drawn = {fault.name for seed in _SEEDS for step in draw(seed, 30, FAULTS) for fault in step.faults}
    assert drawn == {fault.name for fault in FAULTS}


def test_the_table_tells_how_often_a_term_stayed_how_long_it_took_and_what_was_violated() -> None:
    played = Played(
        struck=(
            struck("leader killed", acting_ms=8.0),
            struck("leader killed", acting_ms=12.0),
            struck("guards killed", acting_ms=None),
        ),
        violations=(Violation("I6", "two workers of a job overlap"),),
    )
    lines = report.table(FAULTS, [played], {"seed": "7"}).splitlines()
    assert lines[0] == "**3 faults, 1 violations.** seed: 7."
    assert "| leader killed | 2 | 0 | 0 | 10 ms | 12 ms |" in lines
    assert "| guards killed | 1 | 0 | 1 | – | – |" in lines
    assert "- I6: two workers of a job overlap" in lines


def test_a_table_takes_the_place_of_the_one_before_and_of_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Faults\n\nKept.\n")
    report.write(page, "one", "first")
    report.write(page, "two", "other")
    report.write(page, "one", "second")
    text = page.read_text()
    assert text.startswith("# Faults\n\nKept.\n")
    assert "first" not in text
    assert text.index("second") < text.index("other")
    assert text.count("<!-- one -->") == 1


def test_a_line_names_the_fault_who_led_and_for_how_long_nobody_acted() -> None:
    kept, lost = struck("guards killed", acting_ms=None), struck("leader killed", acting_ms=9.4)
    assert "guards killed for" in report.line(kept)
    assert "r1 stays; all in line 0.5 s after healing" in report.line(kept)
    assert "r1 -> r2, acting after 9 ms" in report.line(lost)


def test_steps_are_told_by_all_their_faults() -> None:
    both = Step((named("leader killed"), named("guards killed")), 0.1, 1.0, 1.0, 7)
    assert both.name == "leader killed + guards killed"
