"""What the benchmark of many jobs concludes from its figures."""

from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _figures(**changed: Any) -> Any:
    from scale import Figures, Phase

    facts: dict[str, Any] = {
        "jobs": 500,
        "runs": 100,
        "minutes": 3,
        "ready_s": 7.0,
        "armed_s": 9.0,
        "follower_ready_s": 6.0,
        "takeover_s": 1.5,
        "first_run_s": 2.0,
        "leader_changes": 0,
        "least_trust_s": 5.9,
        "phases": [Phase("first", "leads", worst_answer_s=0.04, cpu_percent=4.5, resident_mb=300)],
    }
    return Figures(**facts | changed)


def test_figures_within_the_limits_are_no_problem() -> None:
    assert _figures().problems() == []
    assert "slowest answer 40 ms" in _figures().render()


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"leader_changes": 2}, "leadership changed 2 times before the leader was killed"),
        ({"ready_s": 61.0}, "the leader was ready after 61 s: the limit is 60 s"),
        ({"armed_s": 75.0}, "all jobs were armed after 75 s: the limit is 60 s"),
        ({"follower_ready_s": 99.0}, "the follower was ready after 99 s: the limit is 60 s"),
        ({"takeover_s": 70.0}, "the next term had armed all jobs after 70 s: the limit is 60 s"),
    ],
)
def test_each_limit_that_is_exceeded_is_a_problem(changed: dict[str, Any], problem: str) -> None:
    figures = _figures(**changed)
    assert figures.problems() == [problem]
    assert problem in figures.render()


def test_without_a_confirmed_keepalive_no_trust_is_told() -> None:
    assert "least trust left       -" in _figures(least_trust_s=None).render()
