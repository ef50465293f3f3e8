"""From the rounds of the coordination benchmark to its figures, its verdicts and its table."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _report(durations_s: dict[str, list[float]], *, failed: str | None = None, absent: str | None = None):
    """One load; per contestant how long each round took. ``failed`` and ``absent`` are peers."""
    from contest.contestants import Contestant
    from contest.figures import Score
    from contest.report import Machine, Report
    from contest.turns import Outcome

    scores = {
        name: Score(100, judged_by_latency=False, outcomes=[Outcome(0.0, one_s, 0.01, []) for one_s in all_s])
        for name, all_s in durations_s.items()
    }
    if failed is not None:
        scores[failed].failure = "it ended; its last words: no such thing"
    return Report(
        machine=Machine(cores=2, python="3.11.7", etcd="3.5.1", load=0.5),
        contestants=tuple(Contestant(name, "with_it", "1.0") for name in durations_s),
        absent={absent: "no such version"} if absent is not None else {},
        scores={"put": scores},
        elections=[],
    )


def test_a_percentile_is_one_of_the_values() -> None:
    from contest.figures import percentile

    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError):
        percentile([], 50)


def test_noise_that_hits_both_in_one_round_does_not_change_their_ratio() -> None:
    from contest.figures import Ratio

    ratio = Ratio.of([1.1, 2.2, 11.0], [1.0, 2.0, 10.0])
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((1.1, 1.1, 1.1))


def test_rounds_that_only_one_has_played_are_not_compared() -> None:
    from contest.figures import Ratio

    with pytest.raises(ValueError):
        Ratio.of([1.0, 1.0], [1.0])


def test_ahead_is_who_is_faster_in_three_rounds_of_four() -> None:
    report = _report(
        {
            "leaderjob": [1.0, 1.0, 1.0, 1.0, 1.0],
            "bare stubs": [1.0] * 5,
            "slower": [1.2, 1.2, 1.2, 1.2, 0.9],
            "equal": [1.2, 1.2, 1.2, 0.8, 0.8],
            "faster": [0.8, 0.8, 0.8, 0.8, 1.2],
        }
    )
    standings = [str(report.standing("put", peer)) for peer in ("slower", "equal", "faster")]
    assert standings == ["ahead", "even", "behind"]


def test_costing_more_than_the_target_misses_it() -> None:
    assert _report({"leaderjob": [1.14] * 3, "bare stubs": [1.0] * 3}).meets_targets
    over = _report({"leaderjob": [1.16] * 3, "bare stubs": [1.0] * 3})
    assert over.over_target() == ["put"]
    assert not over.meets_targets


def test_being_behind_a_peer_misses_the_target_unless_that_peer_is_ahead_of_the_limit_too() -> None:
    ours = {"leaderjob": [1.1] * 4, "bare stubs": [1.0] * 4}
    assert not _report({**ours, "aetcd": [1.05] * 4}).meets_targets
    assert _report({**ours, "other transport": [0.9] * 4}).meets_targets


def test_a_few_rounds_are_no_verdict() -> None:
    from contest.table import render

    for rounds, told in ((7, True), (8, False)):
        report = _report({"leaderjob": [2.0] * rounds, "bare stubs": [1.0] * rounds})
        assert ("too few for a verdict" in render(report)) is told
        assert report.as_json()["meets_targets"] is (None if told else False)


def test_a_peer_that_failed_is_shown_with_the_reason_and_not_called_beaten() -> None:
    from contest.table import render

    report = _report({"leaderjob": [1.0], "bare stubs": [1.0], "aetcd": []}, failed="aetcd")
    text = render(report)
    assert "failed: it ended; its last words: no such thing" in text
    assert "leaderjob beside aetcd: ahead 0, even 0, behind 0, it failed 1" in text
    assert report.as_json()["loads"]["put"]["aetcd"] == {"failure": "it ended; its last words: no such thing"}


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason() -> None:
    from contest.table import render

    report = _report({"leaderjob": [1.0], "bare stubs": [1.0]}, absent="aetcd")
    assert "aetcd         could not be installed: no such version" in render(report)
    assert report.as_json()["absent"] == {"aetcd": "no such version"}


def test_every_peer_that_is_installed_is_pinned() -> None:
    from contest.contestants import contestants

    requirements = [one for contestant in contestants() for one in contestant.requirements]
    assert requirements
    assert all("==" in one for one in requirements), requirements


def test_an_event_says_when_it_was_sent_to_a_nanosecond() -> None:
    from contest.turns import VALUE_BYTES, stamp_s, stamped

    for sent_s in (0.5, 12_345_678.123456789):
        value = stamped(sent_s)
        assert len(value) == VALUE_BYTES
        assert stamp_s(value) == pytest.approx(sent_s, abs=2e-9)
