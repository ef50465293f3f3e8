"""Who should lead: the replica that lacks the fewest jobs, then the preferred one; and nobody goes to and fro."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderjob.cluster.lacking import NAMES_LIMIT, count_lacks
from leaderjob.cluster.queue import must_let_pass
from leaderjob.cluster.rank import better_leader, jobs_of, name_some, rank_of, why_better, why_worse
from leaderjob.model.job import JobSpec
from leaderjob.model.rank import Rank, Standing, is_better
from leaderjob.model.transfer import Transfer
from tests.support.ranks import KEYS, NOW, Line, unfinished

JOBS = ("a", "b", "c")
RANKS = st.none() | st.builds(Rank, runs=st.integers(0, 2), jobs=st.integers(0, 2))
STANDINGS = st.builds(Standing, RANKS, st.booleans())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Standing(Rank(0, 0)), Standing(Rank(0, 1))),
        (Standing(Rank(0, 3)), Standing(Rank(1, 1))),
        (Standing(Rank(0, 0)), Standing(Rank(0, 1), preferred=True)),
        (Standing(Rank(0, 1), preferred=True), Standing(Rank(0, 1))),
        (Standing(None, preferred=True), Standing(Rank(0, 0))),
    ],
)
def test_fewer_lacking_jobs_count_before_preference(one: Standing, other: Standing) -> None:
    assert is_better(one, other)
    assert not is_better(other, one)


@given(one=STANDINGS, other=STANDINGS)
def test_no_two_replicas_are_each_better_than_the_other(one: Standing, other: Standing) -> None:
    assert not (is_better(one, other) and is_better(other, one))


def test_equals_keep_their_places() -> None:
    line = Line({"leader": JOBS, "r1": ["a"], "r2": ["b"], "r3": ["a"]}, JOBS)
    assert [must_let_pass(line.view, each, token_floor=0) for each in line.order] == [None] * 4


def test_a_candidate_that_lacks_jobs_lets_a_better_one_pass() -> None:
    line = Line({"leader": JOBS, "r1": ["a"], "r2": ["a", "b"]}, JOBS)
    passing = must_let_pass(line.view, "r1", token_floor=0)
    assert passing == ("r2", "it has more of the jobs: r1 lacks b, c")


def test_a_replica_whose_release_does_not_count_jobs_is_neither_better_nor_worse() -> None:
    line = Line({"leader": None, "r1": [], "r2": None}, JOBS)
    assert must_let_pass(line.view, "r1", token_floor=0) is None
    assert better_leader(line.view, "leader") is None
    assert why_worse(line.view, "r2") is None


def test_an_unfinished_run_weighs_more_than_any_number_of_jobs() -> None:
    line = Line({"leader": ["b", "c"], "other": ["a"]}, JOBS)
    assert better_leader(line.view, "leader") is None
    line.put(KEYS.run("a", "r"), unfinished("a"))
    assert rank_of(line.view, "leader") == Rank(runs=1, jobs=1)
    assert better_leader(line.view, "leader") == "other"


def test_a_leader_gives_way_to_a_preferred_replica_only_if_that_lacks_no_more() -> None:
    line = Line({"leader": JOBS, "short": ["a"], "wanted": JOBS}, JOBS, preferred=["short", "wanted"])
    assert better_leader(line.view, "leader") == "wanted"
    assert why_better(line.view, "leader", "wanted") == "wanted is preferred"
    line = Line({"leader": JOBS, "short": ["a"]}, JOBS, preferred=["short"])
    assert better_leader(line.view, "leader") is None


def test_a_leader_gives_way_to_the_best_and_among_equals_to_the_first_in_line() -> None:
    line = Line({"leader": [], "r1": ["a"], "r2": JOBS, "r3": JOBS}, JOBS)
    assert better_leader(line.view, "leader") == "r2"
    assert why_better(line.view, "leader", "r2") == "r2 has more of the jobs: leader lacks a, b, c"


def test_office_passes_to_a_replica_that_lacks_jobs_only_where_nobody_lacks_less() -> None:
    line = Line({"leader": ["a"], "r1": ["a"], "r2": ["b", "a"]}, JOBS)
    assert why_worse(line.view, "r2") is None
    reason = why_worse(line.view, "r1")
    assert reason is not None
    assert reason.startswith(
        "r1 lacks 2 jobs that it could not run as the leader (b, c), and r2 has more of them"
    )


def test_who_is_to_lead_by_an_operators_word_lets_nobody_pass() -> None:
    line = Line({"leader": JOBS, "r1": JOBS, "meant": [], "r2": JOBS}, JOBS)
    leader = line.view.leader_key
    assert leader is not None
    line.put(KEYS.transfer, Transfer(to="meant", token=leader.create_revision))
    passing = must_let_pass(line.view, "r1", token_floor=0)
    assert passing is not None
    assert passing.to == "meant"
    assert must_let_pass(line.view, "meant", token_floor=0) is None


def test_jobs_that_were_removed_do_not_count() -> None:
    line = Line({"leader": ["a", "b"]}, JOBS)
    line.put(KEYS.spec("c"), JobSpec(name="c", reference="m:f", removed=NOW))
    line.put(KEYS.run("c", "r"), unfinished("c"))
    assert rank_of(line.view, "leader") == Rank(0, 0), "not even before the replica has counted again"
    counted = count_lacks(line.view, ["a", "c"])
    assert (counted.jobs, counted.count, counted.returned) == (("b",), 1, ("c",))


def test_the_names_of_lacking_jobs_are_bounded_and_all_of_them_are_counted() -> None:
    line = Line({"leader": []}, [f"j{number}" for number in range(NAMES_LIMIT + 5)])
    counted = count_lacks(line.view, ())
    assert (len(counted.jobs), counted.count) == (NAMES_LIMIT, NAMES_LIMIT + 5)
    assert rank_of(line.view, "leader") == Rank(0, NAMES_LIMIT + 5)
    assert name_some(counted.jobs, counted.count) == f"{', '.join(counted.jobs[:10])} and 995 more"


def settle(line: Line, data: Any) -> None:
    """Let the candidates, in any order, do what they do about what they see, until nobody has anything to do.

    Each may queue again once per candidate that can be better, and the leader gives way as often as there are better ones.
    """
    steps = 0
    while True:
        leader = line.order[0]
        moves = [each for each in line.order if must_let_pass(line.view, each, token_floor=0) is not None]
        if (better := better_leader(line.view, leader)) is not None:
            moves.append(leader)
        if not moves:
            return
        steps += 1
        assert steps <= 2 * len(line.order) ** 2, f"they go to and fro: {line.order}"
        mover = data.draw(st.sampled_from(moves))
        if mover == leader:
            # make_next(): those before the better one queue again, then the leader goes.
            for each in line.order[1 : line.order.index(str(better))]:
                line.stand(each)
        line.stand(mover)


@given(data=st.data())
def test_nobody_goes_to_and_fro_while_ranks_change_at_random(data: Any) -> None:
    replicas = [f"r{number}" for number in range(data.draw(st.integers(1, 5)))]
    some = st.none() | st.sets(st.sampled_from(JOBS))
    preferred = data.draw(st.sets(st.sampled_from(replicas)))
    line = Line({each: data.draw(some) for each in replicas}, JOBS, preferred)
    for _ in range(data.draw(st.integers(1, 4))):
        settle(line, data)
        leader, *candidates = line.order
        ranks = {each: rank for each in line.order if (rank := rank_of(line.view, each)) is not None}
        assert all(ranks[leader] <= ranks[each] for each in candidates if leader in ranks and each in ranks)
        in_line = [ranks[each] for each in candidates if each in ranks]
        assert in_line == sorted(in_line)
        changes = data.draw(st.sampled_from(["run", "jobs", "definition"]))
        if changes == "run":
            job = data.draw(st.sampled_from(JOBS))
            line.put(KEYS.run(job, f"r{data.draw(st.integers(0, 3))}"), unfinished(job))
        elif changes == "jobs":
            line.has(data.draw(st.sampled_from(replicas)), data.draw(st.sets(st.sampled_from(JOBS))))
        else:
            removed = data.draw(st.none() | st.just(NOW))
            line.put(KEYS.spec("a"), JobSpec(name="a", reference="m:f", removed=removed))


def test_whether_a_replica_has_a_job_is_not_known_before_it_has_counted_the_definition() -> None:
    line = Line({"a": ["x"], "b": None}, defined=["x"])
    assert jobs_of(line.view, "a")("x") is True
    line.put(KEYS.spec("y"), JobSpec(name="y", reference="m:f"))
    assert jobs_of(line.view, "a")("y") is None
    assert jobs_of(line.view, "b")("x") is None
    line.has("a", ["x"])
    assert jobs_of(line.view, "a")("y") is False
    line.has("a", ["x", "y"])
    assert jobs_of(line.view, "a")("y") is True
