"""Office is taken from a leader that lives, or from several at once: what it had begun never runs twice."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from leaderjob.clock import boottime
from leaderjob.model.run import Outcome, Run
from leaderjob.records.keys import Kind
from leaderjob.records.view import View
from tests.faults.harness.beating import lives, never_two
from tests.faults.harness.replicas import Fleet, MachineReplica, fleet
from tests.support.machines import needs_machines
from tests.support.replicas import SHORT_TTL_S, told, wait_for, wait_for_line

_JOBS = "tests.faults.harness.beating"
_BY_TRIGGER = '[overrides.ticks]\nschedule = ""\n'
_HOLD_S = SHORT_TTL_S * 1.01 - 0.1
_AT_ONCE_S = 2.0

pytestmark = needs_machines
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("lost"), jobs=_JOBS, ttl_s=SHORT_TTL_S, config=_BY_TRIGGER) as three:
        yield three


@pytest.fixture
def three(cluster: Fleet) -> Iterator[Fleet]:
    with told(cluster.mend()):
        yield cluster


@dataclass(frozen=True, slots=True)
class Begun:
    """A run under way. :param effects: where its workers show that they live."""

    id: str
    effects: Path
    gate: Path
    leader: MachineReplica

    def attempts(self, number: int) -> Callable[[View], bool]:
        """Whether so many have begun."""

        def condition(view: View) -> bool:
            stored = view.get(Kind.RUN, "beats", self.id)
            return stored is not None and len(stored.record.attempts) >= number

        return condition

    def ends(self, three: Fleet) -> Run:
        """The run as it ended, once it may."""
        wait_until_two(self.effects)
        self.gate.touch()
        return three.ended("beats", self.id)


def wait_until_two(effects: Path) -> None:
    """Return when a second worker has shown that it lives."""
    give_up_at = boottime() + 10.0
    while len(lives(effects)) < 2:
        assert boottime() < give_up_at, f"no second worker has begun: {lives(effects)}"


@contextmanager
def under_way(three: Fleet, directory: Path) -> Iterator[Begun]:
    """A run that works until its gate opens; at the end never two workers of it were alive at a time."""
    effects, gate = directory / "effects", directory / "gate"
    run = three.trigger("beats", effects=str(effects), gate=str(gate))
    wait_for(effects)
    begun = Begun(run, effects, gate, three.leader())
    try:
        yield begun
    finally:
        gate.touch()
    assert never_two(lives(effects)), lives(effects)


def led_since(view: View) -> float:
    leader = view.leader
    assert leader is not None
    assert leader.record.leading_since is not None
    return leader.record.leading_since.timestamp()


def held_s(three: Fleet, begun: Begun) -> float:
    """For how long the new leader has let the run wait, in seconds."""
    view = three.until("the run starts again", begun.attempts(2))
    stored = view.get(Kind.RUN, "beats", begun.id)
    assert stored is not None
    return float(stored.record.attempts[1].started.timestamp() - led_since(view))


@pytest.mark.long
def test_a_firewall_that_rejects_between_replicas_moves_office_and_the_run_waits_for_the_ttl(
    three: Fleet, tmp_path: Path
) -> None:
    with under_way(three, tmp_path) as begun:
        begun.leader.link.reject_replicas()
        new = three.next_leader(begun.leader.name, timeout_s=_AT_ONCE_S)
        assert new.said("verdict"), "it was no wrong verdict"
        assert begun.leader.runs
        assert held_s(three, begun) >= _HOLD_S
        assert new.said("holding_back", job="beats", run=begun.id)
        assert not new.said("workers_gone", run=begun.id), "whoever rejects attests nothing"
        done = begun.ends(three)
    assert [attempt.outcome for attempt in done.attempts] == [Outcome.ABANDONED, Outcome.SUCCEEDED]
    wait_for_line(begun.leader, '"event": "term_ended"')


@pytest.mark.parametrize("how", ["lease revoked", pytest.param("key deleted", marks=slow)])
def test_when_an_operator_takes_office_from_a_leader_its_run_waits_for_the_ttl(
    three: Fleet, tmp_path: Path, how: str
) -> None:
    with under_way(three, tmp_path) as begun:
        candidate = three.view().leader
        assert candidate is not None
        etcd = three.etcd.every[0]
        if how == "lease revoked":
            etcd.etcdctl("lease", "revoke", candidate.key.rpartition("/")[2])
        else:
            etcd.etcdctl("del", candidate.key)
        new = three.next_leader(begun.leader.name, timeout_s=_AT_ONCE_S)
        assert not new.said("verdict", key=candidate.key)
        assert held_s(three, begun) >= _HOLD_S
        assert [attempt.outcome for attempt in begun.ends(three).attempts] == [
            Outcome.ABANDONED,
            Outcome.SUCCEEDED,
        ]
    three.until("it stands again", lambda view: len(view.queue) == 3)


@slow
@pytest.mark.parametrize(
    ("sending", "hearing"),
    [(True, True), (True, False), (False, True)],
    ids=["both ways", "what it sends", "what it hears"],
)
def test_a_leader_that_is_cut_off_from_etcd_is_out_of_office_with_its_workers_before_another_leads(
    three: Fleet, tmp_path: Path, sending: bool, hearing: bool
) -> None:
    with under_way(three, tmp_path) as begun:
        begun.leader.link.cut_from_etcd(sending=sending, hearing=hearing)
        three.next_leader(begun.leader.name, timeout_s=SHORT_TTL_S + _AT_ONCE_S)
        leads_at = boottime()
        (first,) = lives(begun.effects)
        assert first[1] < leads_at, "its worker lives on"
        wait_for_line(begun.leader, '"event": "trust_lost"')
        assert len(begun.ends(three).attempts) == 2


@pytest.mark.parametrize("how", ["process", pytest.param("machine", marks=slow)])
def test_when_the_leader_dies_with_the_next_in_line_the_third_one_leads_after_the_ttl(
    three: Fleet, tmp_path: Path, how: str
) -> None:
    with under_way(three, tmp_path) as begun:
        leader, following, last = (three[stored.record.replica] for stored in three.view().queue)
        for dying in (leader, following):
            dying.send(signal.SIGSTOP)  # neither is to see the other one die
        died_at = boottime()
        for dying in (leader, following):
            if how == "machine":
                dying.lose_host()
            else:
                dying.kill()
        assert three.next_leader(leader.name, timeout_s=2 * SHORT_TTL_S + _AT_ONCE_S) is last
        assert boottime() - died_at < SHORT_TTL_S + _AT_ONCE_S
        assert len(begun.ends(three).attempts) == 2


@slow
def test_when_the_leaders_machine_is_gone_its_run_starts_elsewhere_once_its_worker_must_be_dead(
    three: Fleet, tmp_path: Path
) -> None:
    with under_way(three, tmp_path) as begun:
        begun.leader.lose_host()
        new = three.next_leader(begun.leader.name, timeout_s=SHORT_TTL_S + _AT_ONCE_S)
        assert not new.said("verdict"), "nothing answers there, so nothing is known"
        assert held_s(three, begun) >= _HOLD_S
        assert len(begun.ends(three).attempts) == 2
