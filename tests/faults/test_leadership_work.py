"""Guards and workers that are killed or stopped, and jobs that kill: the leader stays, the work ends in order."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leaderjob.model.run import Outcome
from leaderjob.records.keys import Kind
from leaderjob.records.view import View
from tests.faults.harness.beating import lives, never_two, whole
from tests.faults.harness.children import guards_of, send, wait_for_worker, workers_of
from tests.faults.harness.replicas import Fleet, fleet
from tests.support.machines import needs_machines
from tests.support.replicas import gone_within, told, wait_for

_TTL_S = 5
_SILENCE_S = 3.0
"""After which a guard that says nothing counts as lost."""

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(
        tmp_path_factory.mktemp("work"),
        jobs="tests.faults.harness.beating",
        ttl_s=_TTL_S,
        config='[overrides.ticks]\nschedule = ""\n',
    ) as three:
        yield three


@pytest.fixture
def three(cluster: Fleet) -> Iterator[Fleet]:
    with told(cluster.mend()):
        yield cluster


@pytest.mark.parametrize(
    ("whom", "number", "why"),
    [
        ("worker", signal.SIGKILL, "the kernel's out-of-memory killer does this"),
        pytest.param("guard", signal.SIGKILL, "the worker's guard died", marks=slow),
        pytest.param("guard", signal.SIGSTOP, "the worker's guard stopped answering", marks=slow),
    ],
    ids=["worker killed", "guard killed", "guard stopped"],
)
@pytest.mark.long
def test_a_lost_guard_or_worker_costs_one_run_and_nobody_office(
    three: Fleet, tmp_path: Path, whom: str, number: signal.Signals, why: str
) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    run = three.trigger("beats", effects=str(effects), gate=str(gate))
    wait_for(effects)
    leader, token = three.leader(), three.token()
    worker = wait_for_worker(leader.pid)
    send([worker] if whom == "worker" else guards_of(leader.pid), number)
    assert gone_within(worker, _SILENCE_S + 1.0), "the worker lives on"
    done = three.ended("beats", run)
    assert (done.outcome, len(done.attempts)) == (Outcome.FAILED, 1)
    assert why in str(done.reason)
    assert done.attempts[0].workers_gone
    gate.touch()
    again = three.ended("beats", three.trigger("beats", effects=str(effects), gate=str(gate)))
    assert again.outcome is Outcome.SUCCEEDED
    assert never_two(lives(effects))
    assert {attempt.token for attempt in (*done.attempts, *again.attempts)} == {token}
    assert three.token() == token
    assert workers_of(leader.pid) == []


def test_a_job_that_kills_its_replica_each_time_is_given_up(three: Fleet, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    run = three.trigger("kills_its_replica", effects=str(effects))
    for number in (1, 2, 3):
        view = three.until(f"it began {number} times", attempts(number, run))
        stored = view.get(Kind.RUN, "kills_its_replica", run)
        assert stored is not None
        killed = three[stored.record.attempts[number - 1].replica]
        killed.process.wait(_TTL_S)
        # Whoever manages services starts it again, which must not go on for ever.
        killed.start()
    done = three.ended("kills_its_replica", run)
    assert done.outcome is Outcome.ABANDONED
    assert "abandoned 3 times, more than the job allows" in str(done.reason)
    began = [line for line in whole(effects) if line["what"] == "began"]
    assert [line["attempt"] for line in began] == [1, 2, 3]


def attempts(number: int, run: str) -> Callable[[View], bool]:
    """Whether so many attempts of it have begun."""

    def condition(view: View) -> bool:
        stored = view.get(Kind.RUN, "kills_its_replica", run)
        return stored is not None and len(stored.record.attempts) >= number

    return condition


@slow
@needs_machines
def test_a_leader_whose_disk_is_full_hands_office_over_and_stands_again(three: Fleet) -> None:
    leader, token = three.leader(), three.token()
    leader.disk.fill()
    new = three.next_leader(leader.name, timeout_s=30)
    assert three.token() > token
    three.until(
        "it stands no more, and is a member",
        lambda view: (
            leader.name in view.members and leader.name not in [found.record.replica for found in view.queue]
        ),
    )
    assert "nothing can be written" in leader.said("stepping_down")[-1]["reason"]
    leader.disk.mend()
    three.until("it stands again", lambda view: len(view.queue) == 3, timeout_s=30)
    assert three.leader() is new
