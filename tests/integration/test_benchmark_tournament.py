"""The benchmark of the recipes, in small, without the peers that would have to be installed."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd import program
from tests.support.streams import run_with_streams

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _measure(tmp_path: Path, taking_part: Any, **more: Any) -> Any:
    from recipes import Extent, measure
    from takeover.servers import Servers

    extent = Extent(rounds=1, limit_s=60.0, divisor=25, waiting=3, handovers=3)
    return run_with_streams(
        measure(
            extent,
            taking_part=taking_part,
            servers=Servers(jars=tmp_path),
            venvs=tmp_path / "venvs",
            binary=program("etcd"),
            **more,
        ),
        timeout_s=120.0,
    )


def test_every_recipe_has_a_row_and_a_handover_waits_for_the_release_and_for_one_look(tmp_path: Path) -> None:
    from tournament.entrants import entrants
    from tournament.events import events
    from tournament.table import markdown, render

    report = _measure(tmp_path, [entrant for entrant in entrants() if entrant.is_needed])
    failures = [score.failure for scores in report.scores.values() for score in scores.values()]
    assert set(failures) == {None}
    assert report.handover.waited_for == 2
    assert report.handover.in_all["Txn"] == 2, "one is woken, and not all"
    assert len(report.scores) == sum(len(event.measures) for event in events())
    for text in (render(report), markdown(report)):
        for row, scores in report.scores.items():
            assert row in text
            assert 0 < scores["leaderjob"].durations_s[0] < 60
    assert report.as_json()["meets_targets"] is None, "one round is no verdict"


@pytest.mark.slow
def test_a_lock_that_is_held_by_a_process_takes_part(tmp_path: Path) -> None:
    from tournament.entrants import entrants

    report = _measure(
        tmp_path, [entrant for entrant in entrants() if not entrant.in_python], parts=("lock", "handover")
    )
    for scores in report.scores.values():
        assert scores["etcdctl lock"].failure is None
        assert 0 < scores["etcdctl lock"].durations_s[0] < 60


def test_a_peer_whose_server_is_not_installed_is_left_out_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contest.contestants import Contestant
    from tournament.entrants import Entrant, entrants

    monkeypatch.setenv("PATH", str(tmp_path))
    other = Entrant(Contestant("other", "with_other", "1.0"), server="zookeeper")
    needed = [entrant for entrant in entrants() if entrant.is_needed]
    report = _measure(tmp_path, [*needed, other], parts=("lock",))
    assert [entrant.name for entrant in report.entrants] == ["leaderjob", "two bare puts"]
    assert report.absent["other"].endswith("apt install zookeeper")


def test_a_peer_that_ends_in_its_turn_is_out_of_that_event_alone(tmp_path: Path) -> None:
    from contest.contestants import Contestant
    from tournament.entrants import Entrant, entrants

    needed = [entrant for entrant in entrants() if entrant.is_needed]
    other = Entrant(Contestant("other", "with_two_puts", "it knows nothing but locks"))
    report = _measure(tmp_path, [*needed, other], parts=("lock", "queue"))
    failures = {row: scores["other"].failure for row, scores in report.scores.items()}
    assert failures.pop("lock and unlock") is None
    assert all("KeyError: 'queue'" in failure for failure in failures.values())
    assert len(failures) == 2
