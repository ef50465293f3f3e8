"""From the rounds of the benchmark of the recipes to its figures, its targets and its page."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROW = "lock and unlock"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _report(durations_s: dict[str, Sequence[float]], *, waited_for: float = 2, **more: Any) -> Any:
    """One row, judged by how long each round took; ``kazoo`` and ``tooz`` are peers in Python."""
    from contest.contestants import Contestant
    from contest.report import Machine
    from contest.turns import Outcome
    from tournament.arena import Played
    from tournament.entrants import Entrant
    from tournament.events import LOCK, Event, Measure
    from tournament.handovers import HandoverCost
    from tournament.report import Report

    def score(all_s: Sequence[float]) -> Played:
        outcomes = [Outcome(0.0, one_s, 0.01, []) for one_s in all_s]
        return Played(
            10, judged_by_latency=False, outcomes=outcomes, numbers=list(range(1, len(outcomes) + 1))
        )

    rounds = len(durations_s["leaderjob"])
    scores = {"two bare puts": score([1.0] * rounds)} | {name: score(s) for name, s in durations_s.items()}
    return Report(
        machine=Machine(cores=2, python="3.11.7", etcd="3.5.1", load=0.5),
        entrants=[
            Entrant(Contestant(name, "with_it", "1.0"), in_python=name in ("tooz", "kazoo"))
            for name in scores
        ],
        events=[Event(LOCK, 10, 1, (Measure("each", ROW, **more),))],
        scores={ROW: scores},
        handover=HandoverCost(50, 20, waited_for, {"Txn": 2.0}, 0.002, 3.5),
    )


def test_a_lock_that_costs_more_than_one_and_a_half_times_two_puts_misses_the_target() -> None:
    assert _report({"leaderjob": [1.5] * 6}).problems == []
    (problem,) = _report({"leaderjob": [1.6] * 6}).problems
    assert problem == "a lock that nobody disputes takes 1.60 times two puts, not 1.5"


def test_a_handover_that_waits_for_more_than_three_answers_misses_the_target() -> None:
    assert _report({"leaderjob": [1.0] * 6}, waited_for=3).problems == []
    (problem,) = _report({"leaderjob": [1.0] * 6}, waited_for=4).problems
    assert problem == "a handover waits for 4 answers, not 3"


def test_being_even_with_a_python_peer_is_not_enough_and_being_behind_another_program_is_no_problem() -> None:
    ours = [1.0] * 6
    assert _report({"leaderjob": ours, "kazoo": [1.1] * 6, "etcdctl lock": [0.5] * 6}).problems == []
    even = _report({"leaderjob": ours, "kazoo": [1.1, 0.9] * 3})
    assert even.problems == [f"{ROW}: even beside kazoo, not ahead"]
    behind = _report({"leaderjob": ours, "tooz": [0.9] * 6})
    assert behind.problems == [f"{ROW}: behind beside tooz, not ahead"]


def test_a_row_that_compares_unlike_things_is_shown_and_not_judged() -> None:
    from tournament.table import render

    report = _report({"leaderjob": [1.0] * 6, "kazoo": [0.5] * 6}, judged=False)
    assert report.problems == []
    assert "0.50 (0.50 to 0.50)" in render(report)


def test_ratios_are_of_the_same_round() -> None:
    report = _report({"leaderjob": [1.0, 10.0, 2.0], "kazoo": [2.0, 20.0, 4.0]})
    assert dataclasses.astuple(report.of_ours(ROW, "kazoo")) == pytest.approx((2.0, 2.0, 2.0))


def test_who_plays_some_rounds_only_is_compared_in_those() -> None:
    report = _report({"leaderjob": [1.0, 100.0, 2.0, 100.0], "tooz": [2.0, 4.0]})
    report.scores[ROW]["tooz"].numbers = [1, 3]
    assert dataclasses.astuple(report.of_ours(ROW, "tooz")) == pytest.approx((2.0, 2.0, 2.0))


def test_a_peer_that_failed_is_told_and_not_called_beaten() -> None:
    from tournament.table import render

    report = _report({"leaderjob": [1.0] * 6, "kazoo": []})
    report.scores[ROW]["kazoo"].failure = "it ended; its last words: no such node"
    assert report.problems == []
    assert f"failed: kazoo, {ROW}: it ended; its last words: no such node" in render(report)
    assert report.as_json()["rows"][ROW]["kazoo"] == {"failure": "it ended; its last words: no such node"}


def test_who_has_no_such_feature_has_a_dash_and_a_reason() -> None:
    from tournament.table import markdown, render

    report = _report({"leaderjob": [1.0] * 6, "tooz": []})
    del report.scores[ROW]["tooz"]
    report.entrants[-1] = dataclasses.replace(report.entrants[-1], lacks={"lock": "it has no locks"})
    for text in (render(report), markdown(report)):
        assert "no tooz in some rows: it has no locks" in text
    assert "|  | tooz | - |  |  |  |" in markdown(report)
    assert report.problems == []


def test_who_is_left_out_is_named_with_how_to_get_it() -> None:
    from tournament.table import markdown, render

    how = "there is no java here: apt install zookeeper"
    report = dataclasses.replace(_report({"leaderjob": [1.0] * 6}), absent={"kazoo": how})
    for text in (render(report), markdown(report)):
        assert f"left out: kazoo: {how}" in text


def test_every_row_of_the_markdown_has_as_many_cells_as_its_heading() -> None:
    from tournament.table import markdown

    table = markdown(_report({"leaderjob": [1.0] * 6, "kazoo": [1.2] * 6})).split("\n")
    assert {row.count("|") for row in table if row.startswith("|")} == {7}
    assert len([row for row in table if row.startswith("|")]) == 2 + 3


def test_the_page_of_the_documentation_has_a_place_for_the_table() -> None:
    from recipes import MARKS
    from takeover.pages import with_table

    page = (BENCHMARKS.parent / "docs" / "benchmarks.md").read_text()
    assert "\n\nthe table\n\n" in with_table(page, "the table", MARKS)


@pytest.mark.parametrize(
    ("rounds", "arguments", "code"), [(6, [], 1), (5, [], 0), (6, ["--quick"], 0)], ids=str
)
def test_a_missed_target_is_exit_code_1_unless_there_were_too_few_rounds_to_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rounds: int, arguments: list[str], code: int
) -> None:
    import recipes

    async def measured(*_: Any, **__: Any) -> Any:
        return _report({"leaderjob": [9.0] * rounds})

    monkeypatch.setattr(recipes, "measure", measured)
    written = tmp_path / "all.json"
    assert recipes.main([*arguments, "--json", str(written)]) == code
    assert json.loads(written.read_text())["meets_targets"] is (False if rounds == 6 else None)


def test_what_cannot_be_measured_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import recipes
    from contest.player import TurnFailed

    async def failing(*_: Any, **__: Any) -> Any:
        raise TurnFailed("leaderjob, lock: it ended")

    monkeypatch.setattr(recipes, "measure", failing)
    assert recipes.main([]) == 2
    assert capsys.readouterr().err == "recipes: leaderjob, lock: it ended\n"


def test_a_part_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    import recipes

    with pytest.raises(SystemExit):
        recipes.main(["--only", "lock,barrier"])
    assert "no part is called barrier; there are lock, handover" in capsys.readouterr().err


def test_each_turn_divides_its_items_evenly_among_those_who_work() -> None:
    from recipes import FULL, QUICK
    from tournament.entrants import entrants
    from tournament.events import CLAIMS, QUEUE, events

    for extent in (FULL, QUICK):
        for event in [event.divided_by(extent.divisor) for event in events()]:
            for entrant in entrants():
                if event.kind in (QUEUE, CLAIMS) and event.kind not in entrant.lacks:
                    assert event.repeated_less(entrant.divisor).count % event.crowd == 0, event
