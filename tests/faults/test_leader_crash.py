"""The leader dies: who takes over and when, and what becomes of the work that it had begun."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.execution.process_tree import parent_of
from leaderjob.model.run import Attempt, Outcome, Run
from leaderjob.records.keys import Kind
from leaderjob.records.view import View
from tests.support.commands import Lines
from tests.support.replicas import (
    SHORT_TTL_S,
    Cluster,
    Replica,
    gone_within,
    leads,
    told,
    wait_for,
    witnessed,
)

_JOBS = "tests.support.jobs.witnessed,tests.support.jobs.results"
_BY_TRIGGER = '[overrides.ticks]\nschedule = ""\n'


@pytest.fixture(scope="module")
def long_term(etcd: EmbeddedEtcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("long")
    with Cluster(etcd.endpoint, "crash-long", directory, jobs=_JOBS, ttl_s=10, config=_BY_TRIGGER) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def short_term(etcd: EmbeddedEtcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Replicas that wait for a copy on every live follower before they publish."""
    config = f'[results]\npublish_after = 9\npublish_timeout = "60s"\n{_BY_TRIGGER}'
    directory = tmp_path_factory.mktemp("short")
    with Cluster(
        etcd.endpoint, "crash-short", directory, jobs=_JOBS, ttl_s=SHORT_TTL_S, config=config
    ) as cluster:
        yield cluster


@pytest.fixture
def patient(long_term: Cluster) -> Iterator[Cluster]:
    """A TTL of 10 s, far longer than what is tested here may take."""
    with told(long_term.complete().watched()):
        yield long_term


@pytest.fixture
def brief(short_term: Cluster) -> Iterator[Cluster]:
    """A TTL that may pass during a test."""
    with told(short_term.complete().watched()):
        yield short_term


def attempts(number: int, job: str, run: str) -> Callable[[View], bool]:
    """Whether so many attempts of a run have begun."""

    def condition(view: View) -> bool:
        stored = view.get(Kind.RUN, job, run)
        return stored is not None and len(stored.record.attempts) >= number

    return condition


def attempts_of(cluster: Cluster, job: str, run: str) -> tuple[Attempt, ...]:
    stored = cluster.view().get(Kind.RUN, job, run)
    assert stored is not None
    record: Run = stored.record
    return record.attempts


def led_since(view: View) -> float:
    leader = view.leader
    assert leader is not None
    assert leader.record.leading_since is not None
    return leader.record.leading_since.timestamp()


def crash(leader: Replica, *effects: Path) -> None:
    """Kill a leader with the guards of its workers, so that nobody is left to attest that these are gone.

    :param effects: of the jobs that it runs.
    """
    guards = {parent_of(line["pid"]) for path in effects for line in witnessed(path)[-1:]}
    leader.send(signal.SIGSTOP)  # it would notice, and kill the workers itself
    for guard in guards:
        os.kill(guard, signal.SIGKILL)
    leader.kill()


def test_another_leads_long_before_the_ttl_has_passed_since_the_death_of_an_idle_leader(
    patient: Cluster,
) -> None:
    for _ in range(2):
        killed = patient.watched().leader()
        killed_at = time.monotonic()
        killed.kill()
        new = patient.next_leader(killed.name)
        assert time.monotonic() - killed_at < 4.0, "that is no verdict: its lease has run out"
        assert "verdict" in new.log()
    assert patient.view().members.keys() == {patient.leader().name}, "the leases of the dead are still there"


def test_jobs_without_an_unfinished_run_start_at_once_while_the_others_are_held_back(
    patient: Cluster, tmp_path: Path
) -> None:
    effects, others = tmp_path / "effects", tmp_path / "others"
    held = patient.trigger("gated", effects=str(effects), gate=str(tmp_path / "never"))
    wait_for(effects)
    killed = patient.leader()
    crash(killed, effects)
    killed_at = time.monotonic()
    new = patient.next_leader(killed.name)
    done = patient.ended("quick", patient.trigger("quick", effects=str(others)))
    assert time.monotonic() - killed_at < 5.0
    assert (done.outcome, done.attempts[-1].replica) == (Outcome.SUCCEEDED, new.name)
    patient.until("it says what it holds back", lambda view: "holding_back" in new.log())
    assert len(attempts_of(patient, "gated", held)) == 1
    assert [line["attempt"] for line in witnessed(effects)] == [1]


def test_a_run_goes_on_at_once_when_the_guard_attests_that_its_worker_is_gone(
    patient: Cluster, tmp_path: Path
) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    run = patient.trigger("gated_too", effects=str(effects), gate=str(gate))
    wait_for(effects)
    killed = patient.leader()
    killed.kill()
    new = patient.next_leader(killed.name)
    patient.until("the run starts again", attempts(2, "gated_too", run))
    lost, again = attempts_of(patient, "gated_too", run)
    assert again.started.timestamp() - led_since(patient.view()) < 2.0, "it waits for the TTL"
    assert f"workers_gone job=gated_too run={run} term={again.token} former_term={lost.token}" in new.log()
    gate.touch()
    assert patient.ended("gated_too", run).outcome is Outcome.SUCCEEDED
    first, second = (line for line in witnessed(effects) if line["what"] == "began")
    assert first["pid"] != second["pid"]


def test_a_trigger_that_waits_for_a_new_leader_respects_the_run_that_the_old_one_left(
    patient: Cluster, tmp_path: Path
) -> None:
    params = {"effects": str(tmp_path / "effects"), "gate": str(tmp_path / "never")}
    active = patient.trigger("at_most_once", **params)
    wait_for(tmp_path / "effects")
    leader = patient.leader()
    leader.send(signal.SIGSTOP)
    trigger = ["trigger", "at_most_once", "--params", json.dumps(params), *patient.target]
    with Lines(sys.executable, "-m", "leaderjob", *trigger):
        view = patient.until(
            "a command waits", lambda view: any(not found.record.done for found in view.commands)
        )
        command = next(found.record.id for found in view.commands if not found.record.done)
        leader.kill()
        view = patient.until(
            "it was taken",
            lambda view: any(found.record.id == command and found.record.done for found in view.commands),
        )
    taken = view.get(Kind.COMMAND, command)
    assert taken is not None
    assert not taken.record.accepted
    assert f"run {active} is not finished" in taken.record.outcome
    assert view.get(Kind.RUN, "at_most_once", command) is None


def test_a_dead_leaders_worker_is_dead_and_its_run_starts_again_after_the_hold_so_often_as_allowed(
    brief: Cluster, tmp_path: Path
) -> None:
    effects, once = tmp_path / "effects", tmp_path / "once"
    never = str(tmp_path / "never")
    run = brief.trigger("gated", effects=str(effects), gate=never)
    at_most_once = brief.trigger("at_most_once", effects=str(once), gate=never)
    wait_for(effects)
    wait_for(once)

    first = brief.leader()
    crash(first, effects, once)
    for line in (*witnessed(effects), *witnessed(once)):
        assert gone_within(line["pid"], 1.0), "a worker outlives its leader"
    second = brief.next_leader(first.name)
    won_at = led_since(brief.view())
    view = brief.until("the run starts again", attempts(2, "gated", run))
    restarted = view.get(Kind.RUN, "gated", run)
    assert restarted is not None
    lost, again = restarted.record.attempts
    assert (lost.outcome, again.replica) == (Outcome.ABANDONED, second.name)
    assert again.token > lost.token
    assert again.started.timestamp() - won_at >= SHORT_TTL_S * 1.01 - 0.1

    abandoned = brief.ended("at_most_once", at_most_once)
    assert (abandoned.outcome, len(abandoned.attempts)) == (Outcome.ABANDONED, 1)
    assert "at most one start" in str(abandoned.reason)

    brief.until("its worker works", lambda view: view.progress("gated", run) is not None)
    second.kill()
    given_up = brief.ended("gated", run)
    assert (given_up.outcome, len(given_up.attempts)) == (Outcome.ABANDONED, 2)
    assert "abandoned 2 times" in str(given_up.reason)
    assert f"the leader of term {again.token} ({second.name}) was lost" in str(given_up.reason)
    assert [line["attempt"] for line in witnessed(effects)] == [1, 2]
    assert len(witnessed(once)) == 1


def test_a_leader_that_is_terminated_in_mid_run_hands_it_over_without_a_hold(
    brief: Cluster, tmp_path: Path
) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    run = brief.trigger("gated", effects=str(effects), gate=str(gate))
    wait_for(effects)
    former = brief.leader()
    assert former.terminate(within_s=5.0) == 0
    assert gone_within(witnessed(effects)[0]["pid"], 0.0)
    brief.next_leader(former.name)
    won_at = led_since(brief.view())
    brief.until("the run starts again", attempts(2, "gated", run))
    handed_over, again = attempts_of(brief, "gated", run)
    assert (handed_over.outcome, handed_over.workers_gone) == (Outcome.ABANDONED, True)
    assert again.started.timestamp() - won_at < 2.5, "it was held back, though no worker is left"
    gate.touch()
    assert brief.ended("gated", run).outcome is Outcome.SUCCEEDED


def test_a_leader_that_is_terminated_while_it_publishes_hands_the_run_over_too(brief: Cluster) -> None:
    held_up = brief.followers()[0]
    held_up.send(signal.SIGSTOP)
    try:
        run = brief.trigger("files", text="staged and handed over")
        brief.until(
            "the result is staged", lambda view: any(staged.record.run == run for staged in view.staged())
        )
        former = brief.leader()
        assert former.terminate() == 0
    finally:
        held_up.send(signal.SIGCONT)
    brief.next_leader(former.name)
    won_at = led_since(brief.view())
    handed_over, again = brief.ended("files", run).attempts
    assert handed_over.workers_gone
    assert again.started.timestamp() - won_at < 2.5, "it was held back, though no worker is left"


def test_a_result_that_was_staged_by_a_leader_that_died_is_made_again_and_published_once(
    brief: Cluster,
) -> None:
    version = brief.ended("files", brief.trigger("files", text="before")).version
    before = brief.serves("files", version or 0).pointer("files")
    assert before is not None
    held_up = brief.followers()  # neither of them gets a copy of what is staged
    for follower in held_up:
        follower.send(signal.SIGSTOP)
    try:
        run = brief.trigger("files", text="after")
        brief.until(
            "the result is staged", lambda view: any(staged.record.run == run for staged in view.staged())
        )
        killed = brief.leader()
        killed.kill()
    finally:
        for follower in held_up:
            follower.send(signal.SIGCONT)
    done = brief.ended("files", run)
    view = brief.serves("files", done.version or 0)
    after = view.pointer("files")
    assert after is not None
    assert [attempt.outcome for attempt in done.attempts] == [Outcome.ABANDONED, Outcome.SUCCEEDED]
    assert done.attempts[1].replica != killed.name
    assert (after.record.run, after.record.token) == (run, done.attempts[1].token)
    assert after.record.sequence == before.record.sequence + 1
    assert after.record.version == before.record.version + 1
    assert view.staged() == []
    # Followers do not go on asking the dead one for what it had staged.
    assert done.ended is not None
    assert (done.ended - done.attempts[1].started).total_seconds() < 10.0


def test_without_fast_takeover_the_ttl_has_to_pass(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    config = "[election]\ntakeover_fast = false\n" + _BY_TRIGGER
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            tmp_path,
            jobs=_JOBS,
            names=("r1", "r2"),
            ttl_s=SHORT_TTL_S,
            config=config,
        ) as cluster,
        told(cluster.start()),
    ):
        killed = cluster.leader()
        killed_at = time.monotonic()
        killed.kill()
        new = cluster.next_leader(killed.name)
        keepalive_s = SHORT_TTL_S / 5
        assert time.monotonic() - killed_at > SHORT_TTL_S - keepalive_s - 0.2
        assert "verdict" not in new.log()
        assert leads(cluster.view()) == new.name
